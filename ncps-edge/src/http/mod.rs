//! HTTP towards Nix clients: routes, statuses, bodies. Text becomes a type on the first line of a handler, and
//! what does not parse is not here (404), or a mistake of who writes it (400).
//!
//! Knows nothing of upstreams, gRPC or files; it asks the lookups and the transfers.

mod admission;
mod coding;
mod conditional;
mod connection;
mod credentials;
mod encoded;
mod landing;
mod log;
mod measure;
mod meta;
mod nar;
mod narinfo;
mod object;
pub(crate) mod peer;
mod range;
mod reply;
mod seats;
mod stored;
mod tls;
mod warm;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use ncps_runtime::lifecycle::LifeHandle;

use crate::access::AccessLog;
use crate::ahead::LookAhead;
use crate::live::Current;
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::objects::Objects;
use crate::transfer::Engine;
use crate::uploads::Uploads;
use crate::via::Via;

pub(crate) use connection::serve;
pub(crate) use tls::load as load_tls;

/// What handlers work with.
pub struct Service {
    pub lookups: Arc<Lookups>,
    pub ahead: Arc<LookAhead>,
    pub engine: Arc<Engine>,
    pub objects: Arc<Objects>,
    pub uploads: Uploads,
    pub current: Arc<Current>,
    pub accesses: Arc<AccessLog>,
    pub life: LifeHandle,
    pub metrics: Arc<EdgeMetrics>,
    /// The edge's name, to which tokens may be bound.
    pub edge: String,
    /// Browsers get a page at `/`.
    pub landing_page: bool,
    /// Clients speak HTTPS.
    pub tls: bool,
}

/// The routes of what is read; what writes is sorted out before it comes to them.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", any(meta::about))
        .route("/nix-cache-info", any(meta::cache_info))
        .route("/pubkey", any(meta::public_key))
        .route("/healthz", any(meta::health))
        .route("/readyz", any(meta::readiness))
        .route("/metrics", any(meta::metrics))
        .route("/nar/{*file}", any(nar::nar))
        .route("/{file}", any(object::narinfo_or_listing))
        .nest("/upload", stored())
        .fallback(object::object)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&service), credentials::of_readers))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&service), peer::of_peers))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&service), write::by_method))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&service), by_name))
        .with_state(service)
}

/// The same of what is stored here, for who is about to upload.
fn stored() -> Router<Arc<Service>> {
    Router::new()
        .route("/nix-cache-info", any(meta::cache_info))
        .route("/pubkey", any(meta::public_key))
        .route("/nar/{*file}", any(stored::nar))
        .route("/{file}", any(stored::narinfo_or_listing))
        .fallback(stored::object)
}

/// Caches of our kind are told who answers, so that they notice when they would wait for themselves.
async fn by_name(
    State(service): State<Arc<Service>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let direct = Via::of(request.headers()).is_direct();
    let mut response = next.run(request).await;
    if let (false, Ok(live)) = (direct, service.current.get())
        && let Ok(value) = Via::direct().onward(&live.settings.index_id).try_into()
    {
        response.headers_mut().insert(http::header::VIA, value);
    }
    response
}
