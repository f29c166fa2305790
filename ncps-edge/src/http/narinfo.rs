//! `GET` and `HEAD` of `/<hash>.narinfo`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use ncps_nix::StorePathHash;

use super::Service;
use super::measure::FromUpstream;
use super::reply::{self, Refusal};
use crate::near::Served;
use crate::via::Via;

pub(super) async fn narinfo(
    State(service): State<Arc<Service>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Some(hash) = file.strip_suffix(".narinfo").and_then(|h| StorePathHash::parse(h).ok()) else {
        return Ok(reply::not_found());
    };
    let via = Via::of(&headers);
    let Some(found) = service.lookups.get(hash, &via).await? else { return Ok(reply::not_found()) };
    service.accesses.narinfo(hash);
    // Another cache looks ahead itself.
    if via.is_direct() {
        service.ahead.asked(&found.served);
    }
    let mut response = respond(&found.served);
    if found.from_upstream {
        response.extensions_mut().insert(FromUpstream { shared: false });
    }
    Ok(response)
}

pub(super) fn respond(served: &Served) -> Response {
    let mut response = Response::new(Body::from(served.body.clone()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/x-nix-narinfo"));
    response
}
