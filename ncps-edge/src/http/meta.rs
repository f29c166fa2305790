//! What the cache says of itself: its key, its priority, whether it lives, whether it is ready, and its metrics.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use ncps_nix::{CacheInfo, STORE_DIR};
use ncps_runtime::telemetry::PROMETHEUS_TEXT;

use super::reply::{self, Refusal};
use super::{Service, landing};

type Answer = Result<Response, Refusal>;

/// `GET /`: as the Go original, so that scripts can read the key; or a page for a browser.
pub(super) async fn about(State(service): State<Arc<Service>>, request: Request) -> Answer {
    let live = service.current.get()?;
    if service.landing_page
        && landing::is_wanted(request.headers())
        && let Some(url) = landing::url(request.uri(), request.headers(), service.tls)
    {
        return Ok(landing::page(&live.settings, &service.edge, url));
    }
    let key = live.settings.public_keys.first().map(ToString::to_string);
    let about = serde_json::json!({ "hostname": live.settings.hostname, "publicKey": key });
    let fields = [(header::CONTENT_TYPE, "application/json"), (header::VARY, "Accept")];
    Ok((fields, format!("{about}\n")).into_response())
}

/// `GET /nix-cache-info`.
pub(super) async fn cache_info(State(service): State<Arc<Service>>) -> Answer {
    let priority = service.current.get()?.settings.priority;
    let info = CacheInfo { store_dir: STORE_DIR.to_owned(), want_mass_query: true, priority };
    Ok(([(header::CONTENT_TYPE, "text/x-nix-cache-info")], info.render()).into_response())
}

/// `GET /pubkey`: one line, the signing key. Absent where narinfos are not signed.
pub(super) async fn public_key(State(service): State<Arc<Service>>) -> Answer {
    let live = service.current.get()?;
    Ok(match live.settings.public_keys.first() {
        Some(key) => reply::text(StatusCode::OK, format!("{key}\n")),
        None => reply::not_found(),
    })
}

/// `GET /healthz`: the process answers.
pub(super) async fn health() -> Response {
    reply::text(StatusCode::OK, ".".to_owned())
}

/// `GET /metrics`: for Prometheus. Absent where that is off.
pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    match service.metrics.scrape() {
        Some(text) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response(),
        None => reply::not_found(),
    }
}

/// `GET /readyz`: requests should come here; else what is waited for.
pub(super) async fn readiness(State(service): State<Arc<Service>>) -> Response {
    if service.life.is_ready() {
        return reply::text(StatusCode::OK, "ready\n".to_owned());
    }
    let waiting = service.life.waiting_for().join(", ");
    let phase = service.life.phase().name();
    reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{phase}: {waiting}\n"))
}
