//! Answers as `Content-Encoding: zstd`: always, or for who takes it.

use crate::Headers;
use crate::script::{Behaviour, Framing, Zstd};

use super::answer::{Answer, View};
use super::content::Resource;
use super::serve::Request;

/// Whether this answer is encoded.
pub(super) fn is_encoded(request: &Request, does: &Behaviour) -> bool {
    let accepts = || {
        let mut values = request.headers.all("Accept-Encoding").flat_map(|value| value.split(','));
        values.any(takes_zstd)
    };
    match does.zstd {
        None => false,
        Some(Zstd::Always) => true,
        Some(Zstd::IfAccepted) => accepts(),
    }
}

/// One item of `Accept-Encoding`; with `q=0` it is not taken.
fn takes_zstd(item: &str) -> bool {
    let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
    let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
    coding.trim().eq_ignore_ascii_case("zstd") && !refused
}

/// The resource as zstd, whole.
pub(super) fn encoded(status: u16, mut headers: Headers, resource: Resource, does: &Behaviour) -> Answer {
    let body = zstd::encode_all(&resource.body.to_bytes()[..], 1).expect("encoding to memory does not fail");
    headers.set("Content-Encoding", "zstd");
    headers.set("Vary", "Accept-Encoding");
    headers.set("ETag", resource.etag.trim_end_matches('"').to_owned() + "-zstd\"");
    Answer { status, headers, body: Some(View::new(body.into(), does)), framing: Framing::Length }
}
