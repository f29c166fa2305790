//! What a browser loads: files of this program, and nothing from anywhere else. They run as they are, without a step
//! that builds them.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::reply::{Body, text};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const FILES: &[File] = &[
    File { path: "/", media_type: "text/html; charset=utf-8", content: include_str!("page.html") },
    File { path: "/page.css", media_type: "text/css; charset=utf-8", content: include_str!("page.css") },
    File { path: "/page.js", media_type: "text/javascript; charset=utf-8", content: include_str!("page.js") },
    File {
        path: "/charts.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_str!("charts.js"),
    },
    File { path: "/icon.svg", media_type: "image/svg+xml", content: include_str!("icon.svg") },
];

/// Nothing but these files, and nothing that stands in the page itself is run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn of(path: &str) -> Option<File> {
    FILES.iter().copied().find(|file| file.path == path)
}

impl File {
    pub(super) fn response(self) -> Response<Body> {
        text(StatusCode::OK, self.content.to_owned(), self.media_type)
    }
}

/// With what keeps a browser from doing anything else with it.
pub(super) fn guarded(mut response: Response<Body>) -> Response<Body> {
    let fields = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
