//! Control as its administrators see it: the use cases of [`AdminPlane`]. Each subject has its own file.

mod events;
mod eviction;
mod integrity;
mod keys;
mod paths;
mod pattern;
mod pins;
mod stats;
mod steps;
mod tokens;

use async_trait::async_trait;
use bytes::Bytes;
use ncps_nix::StorePathHash;
use ncps_proto::admin::{
    AdminPlane, BackupPiece, Caller, EdgeRemoval, Events, EventsWanted, EvictStep, EvictionOrder, Keys,
    PathDetails, PathPage, PathsWanted, PinOrder, PinRow, Pinned, PrefetchRequest, PrefetchStream,
    PurgeOrder, PurgeStep, Rebuilt, ScrubOrder, ScrubStep, Setting, Staged, Stats, Steps, Verification,
};
use ncps_proto::{MadeToken, NewToken, Result, Scope, Secret, TokenInfo};

use crate::Control;
pub(crate) use pattern::Pattern;

#[async_trait]
impl AdminPlane for Control {
    async fn keys(&self) -> Result<Keys> {
        Ok(self.public_keys())
    }

    async fn rotate_key(&self, caller: &Caller, name: Option<String>) -> Result<Keys> {
        self.rotate(caller, name).await
    }

    async fn export_key(&self, caller: &Caller) -> Result<Secret> {
        self.export(caller).await
    }

    async fn config(&self) -> Result<Vec<Setting>> {
        Ok(self.shown.clone())
    }

    async fn events(&self, wanted: EventsWanted) -> Result<Events> {
        self.read_journal(wanted).await
    }

    async fn paths(&self, wanted: PathsWanted) -> Result<PathPage> {
        self.list_paths(wanted).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.numbers().await
    }

    async fn path(&self, hash: StorePathHash) -> Result<PathDetails> {
        self.flushed().await;
        self.path_details(hash).await
    }

    async fn prefetch(&self, caller: &Caller, request: PrefetchRequest) -> Result<PrefetchStream> {
        self.begin_prefetch(caller, request).await
    }

    async fn create_token(&self, caller: &Caller, new: NewToken) -> Result<MadeToken> {
        self.create_token(caller, new).await
    }

    async fn revoke_token(&self, caller: &Caller, which: &str) -> Result<TokenInfo> {
        self.revoke_token(caller, which).await
    }

    async fn tokens(&self) -> Result<Vec<TokenInfo>> {
        Ok(self.tokens())
    }

    async fn open_to_all(&self, without: Option<&str>) -> Result<Vec<Scope>> {
        Ok(self.open_scopes(without))
    }

    async fn evict(&self, caller: &Caller, order: EvictionOrder) -> Result<Steps<EvictStep>> {
        self.evict_for(order, caller).await
    }

    async fn purge(&self, caller: &Caller, order: PurgeOrder) -> Result<Steps<PurgeStep>> {
        self.begin_purge(order, caller.clone())
    }

    async fn drain_edge(&self, caller: &Caller, edge: &str, undo: bool) -> Result<()> {
        self.drain(caller, edge, undo).await
    }

    async fn remove_edge(&self, caller: &Caller, edge: &str, dry_run: bool) -> Result<EdgeRemoval> {
        self.take_edge_out(caller, edge, dry_run).await
    }

    async fn add_pin(&self, caller: &Caller, order: PinOrder) -> Result<Pinned> {
        self.pin_for(order, caller).await
    }

    async fn remove_pin(&self, caller: &Caller, what: &str) -> Result<Vec<PinRow>> {
        self.unpin_for(what, caller).await
    }

    async fn pins(&self) -> Result<Vec<PinRow>> {
        self.pin_rows().await
    }

    async fn scrub(&self, caller: &Caller, order: ScrubOrder) -> Result<Steps<ScrubStep>> {
        self.ordered_scrub(caller, order).await
    }

    async fn verify(&self, path: &str) -> Result<Verification> {
        self.verify_path(path).await
    }

    async fn rebuild_index(&self, caller: &Caller) -> Result<Steps<Rebuilt>> {
        self.ordered_rebuild(caller).await
    }

    async fn backup(&self, caller: &Caller) -> Result<Steps<BackupPiece>> {
        self.ordered_backup(caller).await
    }

    async fn restore(&self, caller: &Caller, pieces: Steps<Bytes>) -> Result<Staged> {
        self.ordered_restore(caller, pieces).await
    }
}
