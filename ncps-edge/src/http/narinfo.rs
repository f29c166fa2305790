//! `GET` and `HEAD` of `/<hash>.narinfo`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use ncps_nix::StorePathHash;

use super::Service;
use super::measure::FromUpstream;
use super::reply::{self, Refusal};
use crate::via::Via;

pub(super) async fn narinfo(
    State(service): State<Arc<Service>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Some(hash) = file.strip_suffix(".narinfo").and_then(|h| StorePathHash::parse(h).ok()) else {
        return Ok(reply::not_found());
    };
    let Some(found) = service.lookups.get(hash, &Via::of(&headers)).await? else {
        return Ok(reply::not_found());
    };
    service.accesses.narinfo(hash);
    let body = Body::from(found.served.body.clone());
    let mut response = ([(header::CONTENT_TYPE, "text/x-nix-narinfo")], body).into_response();
    if found.from_upstream {
        response.extensions_mut().insert(FromUpstream { shared: false });
    }
    Ok(response)
}
