//! Who may do what: everybody, or who knows a token of the scope. It comes as the password of HTTP Basic, which is
//! what Nix sends from its netrc file, with any user, or as Bearer.
//!
//! Knows tokens by their hash alone. Probes and metrics are for everybody. Absent: who makes tokens.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use ncps_proto::{Code, EdgeSettings, Error, Scope, tokens};
use ncps_runtime::clock::{Clock, SystemClock};

use super::Service;
use super::reply::Refusal;

/// What Nix and browsers ask the user for.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"ncps\", charset=\"UTF-8\"");

pub(super) async fn of_readers(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    if is_for_everybody(request.uri().path()) {
        return next.run(request).await;
    }
    match service.current.get() {
        Ok(live) if service.may(&live.settings, Scope::Read, request.headers()) => next.run(request).await,
        Ok(_) => refusal(),
        // Who may read is not known yet.
        Err(error) => Refusal::from(error).into_response(),
    }
}

fn is_for_everybody(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

pub(super) fn refusal() -> Response {
    let error = Error::new(Code::Unauthenticated, "no token, or one that is not known");
    let mut response = Refusal::from(error).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

impl Service {
    /// Whether who sent these headers may do something here.
    pub(super) fn may(&self, settings: &EdgeSettings, scope: Scope, headers: &HeaderMap) -> bool {
        let required = scope != Scope::Read && settings.writing.require_token;
        tokens::permit(&settings.tokens, required, scope, secret(headers).as_deref(), &self.edge, now())
    }
}

fn now() -> i64 {
    SystemClock.now().0
}

/// What may be the secret of a token.
pub(super) fn secret(headers: &HeaderMap) -> Option<Vec<u8>> {
    tokens::shown(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}
