//! Bytes first, then the row: a proven spool file becomes a NAR file, then control hears of it, then the
//! narinfos that name it are written beside it. What control could not be told waits until it is back.

use std::sync::Arc;

use ncps_nix::NarInfo;
use ncps_proto::{Commit, Error, HeldNar, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::download::disk_trouble;
use super::engine::Engine;
use crate::metrics::Ended;
use crate::store::{Spool, blocking};

/// Commits that wait for control. The inventory has the files anyway; what waits here are their facts.
const MOST_PENDING: usize = 100_000;

/// Commits of which control does not know yet.
#[derive(Default)]
pub struct PendingCommits(Mutex<Vec<Commit>>);

impl PendingCommits {
    fn push(&self, commit: Commit) {
        let mut pending = self.0.lock();
        if pending.len() < MOST_PENDING {
            pending.push(commit);
        }
    }

    /// All of them, to be said now.
    pub fn take(&self) -> Vec<Commit> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Files that came into the store since the session with control last heard of it.
#[derive(Default)]
pub struct News {
    held: Mutex<Vec<HeldNar>>,
    some: Notify,
}

impl News {
    fn push(&self, held: HeldNar) {
        let mut all = self.held.lock();
        // With nobody attached they need not be remembered: the next inventory has them.
        if all.len() < MOST_PENDING {
            all.push(held);
        }
        self.some.notify_one();
    }

    /// All of them, for the inventory to follow or the stream.
    pub fn take(&self) -> Vec<HeldNar> {
        std::mem::take(&mut self.held.lock())
    }

    /// Waits until there may be some.
    pub async fn some(&self) {
        self.some.notified().await;
    }
}

impl Engine {
    /// Makes a proven spool file a NAR file of the store and tells control.
    pub(super) async fn commit(self: &Arc<Self>, spool: Spool, commit: Commit) -> Result<()> {
        let (store, name) = (Arc::clone(self.store()), commit.name);
        let done = blocking(move || store.commit(spool, name)).await;
        done.map_err(|e| disk_trouble("commit a NAR file", e))?;
        self.counters().committed();
        self.metrics().ended.inc(Ended::Committed);
        tracing::info!(nar = %commit.name, bytes = commit.file_size, "stored a NAR");
        self.news().push(HeldNar { name: commit.name, file_size: commit.file_size });
        self.announce(commit).await;
        Ok(())
    }

    /// Tells control of a file in the store, now or when it is back.
    pub async fn announce(&self, commit: Commit) {
        match self.control().commit_nar(self.instance(), commit.clone()).await {
            Ok(narinfos) => self.write_narinfos(narinfos).await,
            Err(error) => {
                tracing::warn!(nar = %commit.name, error = error.story(), "control does not know of a NAR yet");
                self.pending().push(commit);
            }
        }
    }

    async fn write_narinfos(&self, narinfos: Vec<NarInfo>) {
        let store = Arc::clone(self.store());
        let write = move || narinfos.iter().try_for_each(|narinfo| store.put_narinfo(narinfo));
        let written = blocking(write).await;
        if let Err(error) = written {
            let error = Error::internal("write narinfos beside a NAR file").because(error);
            tracing::warn!(error = error.story(), "the store's own narinfos are behind; serving goes on");
        }
    }
}
