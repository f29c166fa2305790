//! Control as its administrators see it: the use cases of [`AdminPlane`]. Each subject has its own file.

mod events;
mod keys;
mod paths;
mod pattern;

use async_trait::async_trait;
use ncps_nix::StorePathHash;
use ncps_proto::Result;
use ncps_proto::admin::{
    AdminPlane, Events, EventsWanted, Keys, PathDetails, PathPage, PathsWanted, PrefetchRequest,
    PrefetchStream,
};

use crate::Control;

#[async_trait]
impl AdminPlane for Control {
    async fn keys(&self) -> Result<Keys> {
        Ok(self.public_keys())
    }

    async fn events(&self, wanted: EventsWanted) -> Result<Events> {
        self.read_journal(wanted).await
    }

    async fn paths(&self, wanted: PathsWanted) -> Result<PathPage> {
        self.list_paths(wanted).await
    }

    async fn path(&self, hash: StorePathHash) -> Result<PathDetails> {
        self.flushed().await;
        self.path_details(hash).await
    }

    async fn prefetch(&self, request: PrefetchRequest) -> Result<PrefetchStream> {
        self.begin_prefetch(request)
    }
}
