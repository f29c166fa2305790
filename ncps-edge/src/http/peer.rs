//! `GET` and `HEAD` of a NAR by another edge of the fleet, which shows the fleet's secret: from the store, or from a
//! transfer that runs here; and `GET` of an object that a client brought here. Nothing is begun for it, so that one hop
//! is the most and no two edges wait for each other. It needs no token and counts as no access.
//!
//! What is there and can't be answered yet is 202: the transfer runs and has no byte. The other edge asks again. Who
//! shows another secret is refused (401), and not served as a client: an edge of another fleet must not make us fetch.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use ncps_nix::Sha256Hash;
use ncps_proto::{EdgeSettings, tokens};

use super::reply::{self, Refusal};
use super::{Service, credentials, nar, object};
use crate::transfer::Wanted;
use crate::via::Via;

/// What edges of one fleet know one another by.
pub(crate) const FLEET: HeaderName = HeaderName::from_static("ncps-fleet");
/// What a peer says that wants no transfer (RFC 9111, 5.2.1.7).
pub(crate) const ONLY_STORED: &str = "only-if-cached";
/// How long a peer waits for the first byte of a transfer before it is told to ask again. So it learns that we are
/// alive, however long our upstream takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a request claims to come from a peer.
pub(crate) fn claims<B>(request: &http::Request<B>) -> bool {
    request.headers().contains_key(FLEET)
}

/// Whether it does. Compared by hashes, to the end, so that the time says nothing of the secret.
pub(super) fn is_of_our_fleet(settings: &EdgeSettings, headers: &HeaderMap) -> bool {
    let (Some(secret), Some(shown)) = (&settings.fleet_secret, headers.get(FLEET)) else { return false };
    let ours = Sha256Hash::of(secret.reveal().as_bytes());
    tokens::find_by([&ours], |hash| hash, shown.as_bytes()).is_some()
}

/// Answers peers before anything of clients is looked at.
pub(super) async fn of_peers(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    if !claims(&request) {
        return next.run(request).await;
    }
    match service.current.get() {
        Ok(live) if is_of_our_fleet(&live.settings, request.headers()) => {
            answer(&service, request).await.into_response()
        }
        Ok(_) => credentials::refusal(),
        Err(error) => Refusal::from(error).into_response(),
    }
}

async fn answer(service: &Service, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    if let Some(name) = object::name(&parts.uri) {
        return match service.objects.brought(&name).await? {
            Some(brought) => Ok(object::respond(&name, brought, &parts.headers)?),
            None => Ok(reply::not_found()),
        };
    }
    let file = parts.uri.path().strip_prefix("/nar/").unwrap_or_default();
    let Ok(wanted) = Wanted::parse(file, Via::of(&parts.headers)) else { return Ok(reply::not_found()) };
    if let Some(stored) = service.engine.stored(wanted.name).await? {
        return Ok(nar::from_store(&parts.method, parts.headers, wanted, stored));
    }
    if wants_only_stored(&parts.headers) {
        return Ok(reply::not_found());
    }
    match service.engine.lend(&wanted) {
        Some(reader) if parts.method == Method::HEAD => {
            Ok(nar::described(parts.headers, wanted, reader.length_now()))
        }
        Some(reader) => {
            let running = nar::from_running(parts.headers, wanted, reader);
            tokio::time::timeout(PATIENCE, running).await.unwrap_or_else(|_| Ok(not_yet()))
        }
        // It may have come into the store between both looks.
        None => Ok(match service.engine.stored(wanted.name).await? {
            Some(stored) => nar::from_store(&parts.method, parts.headers, wanted, stored),
            None => reply::not_found(),
        }),
    }
}

fn wants_only_stored(headers: &HeaderMap) -> bool {
    headers.get(header::CACHE_CONTROL).is_some_and(|value| value == ONLY_STORED)
}

fn not_yet() -> Response {
    reply::text(StatusCode::ACCEPTED, "no byte of it yet: ask again\n".to_owned())
}

#[cfg(test)]
mod tests {
    use ncps_proto::Secret;

    use super::*;

    fn shown(secret: Option<&str>, ours: Option<&str>) -> bool {
        let mut settings = ncps_proto::decode_settings(&[]).expect("what is not said has defaults");
        settings.fleet_secret = ours.map(Secret::new);
        let mut headers = HeaderMap::new();
        if let Some(secret) = secret {
            headers.insert(FLEET, secret.parse().expect("a value"));
        }
        is_of_our_fleet(&settings, &headers)
    }

    #[test]
    fn only_who_knows_the_secret_is_a_peer() {
        assert!(shown(Some("s3cret"), Some("s3cret")));
        assert!(!shown(Some("s3cre"), Some("s3cret")) && !shown(Some(""), Some("s3cret")));
        assert!(!shown(None, Some("s3cret")));
        assert!(!shown(Some(""), None) && !shown(None, None), "without a secret nobody is a peer");
    }
}
