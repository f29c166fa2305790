//! An [`AdminPlane`] as a tonic service.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    AdminPlane, Caller, Steps, config, events, eviction, integrity, keys, leaving, paths, pins, prefetch,
    purge, stats, tokens,
};
use crate::convert::store_path_hash;
use crate::gen_v1::{self as wire, admin_plane_server as generated};
use crate::grpc::{MAX_MESSAGE_BYTES, to_status};

/// The adapter around an implementation.
#[derive(Clone)]
pub struct Adapter {
    plane: Arc<dyn AdminPlane>,
}

/// The service value.
pub type AdminPlaneService = generated::AdminPlaneServer<Adapter>;

/// The service for an implementation.
pub fn server(plane: Arc<dyn AdminPlane>) -> AdminPlaneService {
    generated::AdminPlaneServer::new(Adapter { plane })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(result: crate::Result<T>) -> Reply<T> {
    result.map(Response::new).map_err(to_status)
}

type Replies<T> = BoxStream<'static, Result<T, Status>>;

fn replies<T: 'static, W: 'static>(steps: crate::Result<Steps<T>>, wire: fn(T) -> W) -> Reply<Replies<W>> {
    let steps = steps.map_err(to_status)?;
    Ok(Response::new(steps.map(move |step| step.map(wire).map_err(to_status)).boxed()))
}

#[tonic::async_trait]
impl generated::AdminPlane for Adapter {
    type EventsStream = BoxStream<'static, Result<wire::Event, Status>>;
    type PrefetchStream = BoxStream<'static, Result<wire::PrefetchNews, Status>>;
    type ListTokensStream = BoxStream<'static, Result<wire::TokenInfo, Status>>;
    type ScrubStream = Replies<wire::ScrubReply>;
    type RebuildIndexStream = Replies<wire::RebuildIndexReply>;
    type PurgeStream = Replies<wire::PurgeStep>;
    type EvictStream = Replies<wire::EvictReply>;
    type BackupStream = Replies<wire::BackupReply>;

    async fn scrub(&self, request: Request<wire::ScrubRequest>) -> Reply<Self::ScrubStream> {
        let caller = Caller::of(request.extensions());
        let order = integrity::scrub_order(request.into_inner());
        replies(self.plane.scrub(&caller, order).await, integrity::scrub_step_wire)
    }

    async fn verify_path(&self, request: Request<wire::VerifyPathRequest>) -> Reply<wire::VerifyPathReply> {
        let path = request.into_inner().path;
        reply(self.plane.verify(&path).await.map(integrity::verification_wire))
    }

    async fn rebuild_index(
        &self,
        request: Request<wire::RebuildIndexRequest>,
    ) -> Reply<Self::RebuildIndexStream> {
        let caller = Caller::of(request.extensions());
        replies(self.plane.rebuild_index(&caller).await, integrity::rebuilt_wire)
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Reply<Self::BackupStream> {
        let caller = Caller::of(request.extensions());
        replies(self.plane.backup(&caller).await, integrity::backup_wire)
    }

    async fn restore(&self, request: Request<Streaming<wire::RestoreRequest>>) -> Reply<wire::RestoreReply> {
        let caller = Caller::of(request.extensions());
        let pieces = integrity::pieces(request.into_inner());
        reply(self.plane.restore(&caller, pieces).await.map(integrity::staged_wire))
    }

    async fn keys(&self, _: Request<wire::KeysRequest>) -> Reply<wire::KeysReply> {
        reply(self.plane.keys().await.map(keys::keys_wire))
    }

    async fn rotate_key(&self, request: Request<wire::RotateKeyRequest>) -> Reply<wire::KeysReply> {
        let caller = Caller::of(request.extensions());
        let name = Some(request.into_inner().name).filter(|name| !name.is_empty());
        reply(self.plane.rotate_key(&caller, name).await.map(keys::keys_wire))
    }

    async fn export_key(&self, request: Request<wire::ExportKeyRequest>) -> Reply<wire::ExportKeyReply> {
        let secret = self.plane.export_key(&Caller::of(request.extensions())).await;
        reply(secret.map(|secret| wire::ExportKeyReply { secret: secret.reveal().to_owned() }))
    }

    async fn config(&self, _: Request<wire::ConfigRequest>) -> Reply<wire::ConfigReply> {
        reply(self.plane.config().await.map(config::config_wire))
    }

    async fn events(&self, request: Request<wire::EventsRequest>) -> Reply<Self::EventsStream> {
        let events = self.plane.events(events::wanted(&request.into_inner())).await;
        let wire = |event: crate::Result<_>| event.map(events::event_wire).map_err(to_status);
        reply(events.map(|events| events.map(wire).boxed()))
    }

    async fn paths(&self, request: Request<wire::PathsRequest>) -> Reply<wire::PathsReply> {
        let wanted = paths::wanted(request.into_inner()).map_err(to_status)?;
        reply(self.plane.paths(wanted).await.map(paths::page_wire))
    }

    async fn stats(&self, _: Request<wire::StatsRequest>) -> Reply<wire::StatsReply> {
        reply(self.plane.stats().await.map(stats::stats_wire))
    }

    async fn path(&self, request: Request<wire::PathRequest>) -> Reply<wire::PathReply> {
        let hash = store_path_hash(&request.into_inner().store_path_hash).map_err(to_status)?;
        reply(self.plane.path(hash).await.map(paths::details_wire))
    }

    async fn prefetch(&self, request: Request<wire::PrefetchRequest>) -> Reply<Self::PrefetchStream> {
        let caller = Caller::of(request.extensions());
        let wanted = prefetch::request(request.into_inner()).map_err(to_status)?;
        let news = self.plane.prefetch(&caller, wanted).await.map_err(to_status)?;
        let news = news.map(|said| said.map(prefetch::news_wire).map_err(to_status));
        Ok(Response::new(news.boxed()))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Reply<wire::CreateTokenReply> {
        let caller = Caller::of(request.extensions());
        let new = tokens::new_token(request.into_inner()).map_err(to_status)?;
        reply(self.plane.create_token(&caller, new).await.map(tokens::made_wire))
    }

    async fn list_tokens(&self, _: Request<wire::ListTokensRequest>) -> Reply<Self::ListTokensStream> {
        let listed = self.plane.tokens().await.map_err(to_status)?;
        let listed = listed.into_iter().map(|token| Ok(tokens::token_wire(token)));
        Ok(Response::new(stream::iter(listed).boxed()))
    }

    async fn revoke_token(&self, request: Request<wire::RevokeTokenRequest>) -> Reply<wire::TokenInfo> {
        let caller = Caller::of(request.extensions());
        let which = request.into_inner().which;
        reply(self.plane.revoke_token(&caller, &which).await.map(tokens::token_wire))
    }

    async fn open_to_all(&self, request: Request<wire::OpenToAllRequest>) -> Reply<wire::OpenToAllReply> {
        let without = request.into_inner().without;
        let open = self.plane.open_to_all(without.as_deref()).await;
        reply(open.map(|scopes| wire::OpenToAllReply { scopes: tokens::names(&scopes) }))
    }

    async fn evict(&self, request: Request<wire::EvictRequest>) -> Reply<Self::EvictStream> {
        let caller = Caller::of(request.extensions());
        let order = eviction::order(request.into_inner());
        replies(self.plane.evict(&caller, order).await, eviction::step_wire)
    }

    async fn drain_edge(&self, request: Request<wire::DrainEdgeRequest>) -> Reply<wire::DrainEdgeReply> {
        let caller = Caller::of(request.extensions());
        let wire::DrainEdgeRequest { edge, undo } = request.into_inner();
        reply(self.plane.drain_edge(&caller, &edge, undo).await.map(|()| wire::DrainEdgeReply {}))
    }

    async fn remove_edge(&self, request: Request<wire::RemoveEdgeRequest>) -> Reply<wire::RemoveEdgeReply> {
        let caller = Caller::of(request.extensions());
        let wire::RemoveEdgeRequest { edge, dry_run } = request.into_inner();
        reply(self.plane.remove_edge(&caller, &edge, dry_run).await.map(leaving::removal_wire))
    }

    async fn purge(&self, request: Request<wire::PurgeRequest>) -> Reply<Self::PurgeStream> {
        let caller = Caller::of(request.extensions());
        let order = purge::order(request.into_inner()).map_err(to_status)?;
        replies(self.plane.purge(&caller, order).await, purge::step_wire)
    }

    async fn add_pin(&self, request: Request<wire::AddPinRequest>) -> Reply<wire::AddPinReply> {
        let caller = Caller::of(request.extensions());
        let order = pins::order(request.into_inner()).map_err(to_status)?;
        reply(self.plane.add_pin(&caller, order).await.map(pins::pinned_wire))
    }

    async fn remove_pin(&self, request: Request<wire::RemovePinRequest>) -> Reply<wire::PinsReply> {
        let caller = Caller::of(request.extensions());
        reply(self.plane.remove_pin(&caller, &request.into_inner().what).await.map(pins::pins_wire))
    }

    async fn pins(&self, _: Request<wire::PinsRequest>) -> Reply<wire::PinsReply> {
        reply(self.plane.pins().await.map(pins::pins_wire))
    }
}
