//! The way through one closure: lookups, and downloads where the policy says so, until all of it is near or nobody asks
//! for it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::Result;
use tokio::time::Instant;

use super::closures::Id;
use super::wants::Asked;
use super::{LookAhead, MOST_LOOKUPS};
use crate::metrics::Ahead;
use crate::via::Via;

/// What a path refers to; `None` where no upstream has it.
type Known = Result<Option<Vec<StorePathHash>>>;

impl LookAhead {
    /// Ends with its closure.
    pub(super) async fn walk(self: Arc<Self>, id: Id) {
        let over = Over { ahead: &self, id };
        let mut lookups: FuturesUnordered<BoxFuture<'_, Known>> = FuturesUnordered::new();
        let mut downloads: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let stop = self.tasks.life().soft();
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            while lookups.len() < MOST_LOOKUPS
                && let Some(path) = self.next_path(id)
            {
                lookups.push(Box::pin(self.look_up(path)));
            }
            while downloads.len() < self.most_downloads()
                && let Some(nar) = self.next_nar(id)
            {
                downloads.push(Box::pin(self.download(nar)));
            }
            let Some(end) = self.closures.lock().get(id).map(|closure| closure.ends_at()) else { break };
            if end <= Instant::now() {
                break;
            }
            tokio::select! {
                Some(known) = lookups.next() => self.learn(id, known),
                Some(()) = downloads.next() => {}
                () = &mut more => {}
                () = tokio::time::sleep_until(end) => {}
                () = stop.cancelled() => break,
            }
        }
        drop(over);
    }

    fn next_path(&self, id: Id) -> Option<StorePathHash> {
        self.closures.lock().get(id)?.next()
    }

    fn next_nar(&self, id: Id) -> Option<NarFileName> {
        self.closures.lock().get(id)?.wants.next()
    }

    fn most_downloads(&self) -> usize {
        self.current.get().map_or(1, |live| live.downloads_ahead())
    }

    async fn look_up(&self, path: StorePathHash) -> Known {
        let _turn = self.turns.acquire().await;
        self.metrics.ahead.inc(Ahead::Narinfo);
        let found = self.lookups.get(path, &Via::direct()).await?;
        Ok(found.and_then(|found| Asked::of(&found.served)).map(|asked| asked.references))
    }

    fn learn(&self, id: Id, known: Known) {
        let mut closures = self.closures.lock();
        match known {
            Ok(references) => closures.found(id, &references.unwrap_or_default()),
            Err(_) => closures.failed(id),
        }
    }

    /// Failures are told to who asks for it.
    async fn download(&self, nar: NarFileName) {
        if let Ok(None) = self.engine.stored(nar).await {
            self.metrics.ahead.inc(Ahead::Nar);
            self.engine.refetch(nar).await.ok();
        }
    }
}

/// The closure ends however its walk does.
struct Over<'a> {
    ahead: &'a LookAhead,
    id: Id,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut closures = self.ahead.closures.lock();
        closures.end(self.id);
        self.ahead.open.store(closures.count(), Ordering::Relaxed);
    }
}
