//! `GET` and `HEAD` under `/upload/`: what is stored, at this edge or at another one, and nothing else. No upstream is
//! asked, so that a client that is about to upload a closure does not make the cache fetch it first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, Method, Uri};
use ncps_nix::StorePathHash;

use super::reply::{self, Refusal};
use super::{Service, nar, narinfo, object};
use crate::transfer::Wanted;
use crate::via::Via;

type Answer = Result<Response, Refusal>;

pub(super) async fn narinfo_or_listing(
    service: State<Arc<Service>>,
    Path(file): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Some(hash) = file.strip_suffix(".narinfo") else { return object(service, uri, headers).await };
    let Ok(hash) = StorePathHash::parse(hash) else { return Ok(reply::not_found()) };
    Ok(match service.lookups.stored(hash).await? {
        Some(served) => narinfo::respond(&served),
        None => reply::not_found(),
    })
}

pub(super) async fn nar(
    State(service): State<Arc<Service>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Answer {
    let Ok(wanted) = Wanted::parse(&file, Via::of(&headers)) else { return Ok(reply::not_found()) };
    let stored = match method {
        Method::HEAD => service.engine.stored_for_sender(wanted.name).await?,
        _ => service.engine.stored(wanted.name).await?,
    };
    if let Some(stored) = stored {
        return Ok(nar::from_store(&method, headers, wanted, stored));
    }
    match service.engine.held_elsewhere(wanted.name).await? {
        Some(length) => nar::from_peer(&service, &method, headers, wanted, length).await,
        None => Ok(reply::not_found()),
    }
}

pub(super) async fn object(State(service): State<Arc<Service>>, uri: Uri, headers: HeaderMap) -> Answer {
    let Some(name) = object::name(&uri) else { return Ok(reply::not_found()) };
    match service.objects.kept(&name).await? {
        Some(object) => object::respond(&name, object, &headers).map_err(Refusal::from),
        None => Ok(reply::not_found()),
    }
}
