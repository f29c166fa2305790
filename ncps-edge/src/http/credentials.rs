//! Who may read: everybody, or who knows a token. It comes as the password of HTTP Basic, which is what Nix sends
//! from its netrc file, with any user, or as Bearer (RFC 7617, RFC 6750).
//!
//! Knows tokens by their hash alone. Probes and metrics are for everybody. Absent: who makes tokens.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, header};
use ncps_nix::Sha256Hash;
use ncps_proto::{Code, Error};

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
        Ok(live) if admits(&live.settings.read_tokens, request.headers()) => next.run(request).await,
        Ok(_) => refusal(),
        // Who may read is not known yet.
        Err(error) => Refusal::from(error).into_response(),
    }
}

fn is_for_everybody(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

fn refusal() -> Response {
    let error = Error::new(Code::Unauthenticated, "no token, or one that is not known");
    let mut response = Refusal::from(error).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    response
}

fn admits(tokens: &[Sha256Hash], headers: &HeaderMap) -> bool {
    if tokens.is_empty() {
        return true;
    }
    let Some(given) = token(headers) else { return false };
    let given = Sha256Hash::of(&given);
    // Every one is compared to its end, so that the time says nothing.
    tokens.iter().fold(false, |known, token| known | same(token, &given))
}

fn same(one: &Sha256Hash, other: &Sha256Hash) -> bool {
    let differences = one.as_bytes().iter().zip(other.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(differences) == 0
}

fn token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = BASE64.decode(rest.as_bytes()).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some(login[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(tokens: &[&str], authorization: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().expect("a value"));
        }
        let tokens: Vec<_> = tokens.iter().map(|token| Sha256Hash::of(token.as_bytes())).collect();
        admits(&tokens, &headers)
    }

    #[test]
    fn a_token_is_a_password_or_a_bearer() {
        let basic = |login: &str| format!("Basic {}", BASE64.encode(login.as_bytes()));
        let tokens = &["other", "s3:cret"];
        for good in
            [basic("me:s3:cret"), basic(":other"), "bearer s3:cret".to_owned(), "Bearer  other ".to_owned()]
        {
            assert!(admitted(tokens, Some(&good)), "{good}");
        }
        for bad in
            [basic("s3:cret"), basic("other:"), basic("other"), "Bearer".to_owned(), "Basic !".to_owned()]
        {
            assert!(!admitted(tokens, Some(&bad)), "{bad}");
        }
        assert!(!admitted(tokens, None));
        assert!(admitted(&[], None), "without tokens everybody reads");
    }
}
