//! Bytes first, then the row: a proven spool file becomes a NAR file, then control hears of it, then the
//! narinfos that name it are written beside it. What control could not be told waits until it is back.

use std::collections::VecDeque;
use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo};
use ncps_proto::{Commit, HeldNar};
use ncps_runtime::fault::{self, Point};
use parking_lot::Mutex;

use super::engine::Engine;
use super::evict::Epoch;
use crate::metrics::Ended;
use crate::near::named;
use crate::room::Giver;
use crate::store::{Spool, blocking};

/// Commits that wait for control. The inventory has the files anyway; what waits here are their facts.
const MOST_PENDING: usize = 100_000;

/// Commits of which control does not know yet.
#[derive(Default)]
pub struct PendingCommits(Mutex<VecDeque<Commit>>);

impl PendingCommits {
    pub(super) fn push(&self, commit: Commit) {
        let mut pending = self.0.lock();
        if pending.len() < MOST_PENDING {
            pending.push_back(commit);
        }
    }

    /// The one that waits longest. It waits on until it was said: who says it may be stopped midway.
    fn first(&self) -> Option<Commit> {
        self.0.lock().front().cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether control knows of all.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn said(&self, commit: &Commit) {
        let mut pending = self.0.lock();
        // Somebody else may have said it, too.
        if pending.front() == Some(commit) {
            pending.pop_front();
        }
    }
}

impl Engine {
    /// Makes a proven spool file a NAR file of the store and tells control. False where it is not kept, for want
    /// of room, or since it was removed after its transfer began: that is no failure, its readers have it.
    pub(super) async fn commit(self: &Arc<Self>, spool: Spool, commit: Commit, began: Epoch) -> bool {
        let _committing = self.commits().begin(commit.name);
        if self.keep(spool, &commit).await.is_none() {
            self.metrics().ended.inc(Ended::NotKept);
            return false;
        }
        self.news().changed(commit.name);
        fault::point(Point::NarStored);
        let stays = self.removals().unless_removed(commit.name, began, || ());
        if stays.is_none() {
            self.undo(commit.name).await;
            self.metrics().ended.inc(Ended::NotKept);
            return false;
        }
        tracing::info!(nar = %commit.name, bytes = commit.file_size, "stored a NAR");
        self.encodings().committed(&commit);
        self.announce(commit).await;
        // Last: whoever is cut before that counts as failed.
        self.metrics().ended.inc(Ended::Committed);
        true
    }

    /// Keeps a file that was made of a stored one, which narinfos name from then on. False where it is not kept.
    ///
    /// # Errors
    /// Where control refuses it.
    pub(crate) async fn commit_made(
        self: &Arc<Self>,
        spool: Spool,
        commit: Commit,
    ) -> ncps_proto::Result<bool> {
        let _committing = self.commits().begin(commit.name);
        if self.keep(spool, &commit).await.is_none() {
            return Ok(false);
        }
        self.news().changed(commit.name);
        fault::point(Point::MadeStored);
        self.encodings().committed(&commit);
        match self.tell(&commit).await {
            Ok(()) => Ok(true),
            Err(error) if error.code().meaning().retry => {
                self.pending().push(commit);
                Ok(true)
            }
            // Its path was removed meanwhile.
            Err(error) => {
                self.undo(commit.name).await;
                Err(error)
            }
        }
    }

    async fn undo(self: &Arc<Self>, name: NarFileName) {
        tracing::info!(nar = %name, "a NAR was removed while it came: served, not kept");
        let engine = Arc::clone(self);
        let removed = blocking(move || engine.store().remove(name)).await;
        if let Err(error) = removed {
            tracing::warn!(nar = %name, %error, "a NAR file can't be removed");
        }
        self.news().changed(name);
    }

    async fn keep(&self, spool: Spool, commit: &Commit) -> Option<HeldNar> {
        let kept = self.room().keep(spool, commit.name, Giver::Upstream).await;
        match &kept {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::info!(nar = %commit.name, bytes = commit.file_size, "no room for a NAR: served, not kept");
            }
            Err(error) => {
                tracing::warn!(nar = %commit.name, %error, "the disk does not take a NAR: served, not kept");
            }
        }
        kept.ok().flatten()
    }

    /// Tells control of a file in the store, now or when it is back.
    pub async fn announce(&self, commit: Commit) {
        if let Err(error) = self.tell(&commit).await {
            tracing::warn!(nar = %commit.name, error = error.story(), "control does not know of a NAR yet");
            self.write_what_is_known(&commit).await;
            self.pending().push(commit);
        }
    }

    /// Tells control of the files that it could not be told of, as far as it hears. Safe to stop midway.
    pub async fn announce_pending(self: &Arc<Self>) {
        while let Some(commit) = self.pending().first() {
            // Until control was told it stays; and of what went meanwhile control must not believe that it is here.
            let _committing = self.commits().begin(commit.name);
            if matches!(self.stored(commit.name).await, Ok(None)) {
                self.pending().said(&commit);
                continue;
            }
            match self.tell(&commit).await {
                Ok(()) => tracing::info!(nar = %commit.name, "control knows of a NAR now"),
                Err(error) if error.code().meaning().retry => return,
                Err(error) => {
                    tracing::error!(nar = %commit.name, error = error.story(), "control refuses a NAR");
                    if commit.recipe.is_some() {
                        self.undo(commit.name).await;
                    }
                }
            }
            self.pending().said(&commit);
        }
    }

    /// Without control, what the file was fetched for lies beside it as it was served: for a start without control, and
    /// for control to take over should this process not live to tell it.
    async fn write_what_is_known(&self, commit: &Commit) {
        let mut narinfos = self.lookups().naming_without_control(commit.asked_as.unwrap_or(commit.name));
        narinfos.iter_mut().for_each(|narinfo| narinfo.point_at(commit.name, Some(commit.file_size)));
        self.write_narinfos(narinfos).await;
    }

    /// Tells control of a file in the store. The narinfos that name it lie beside it then.
    ///
    /// # Errors
    /// Where control refuses it, or can't be told.
    pub(crate) async fn tell(&self, commit: &Commit) -> ncps_proto::Result<()> {
        let answer = self.control().commit_nar(self.instance(), commit.clone()).await;
        // It may have gone meanwhile, and control believes that it is here, even where its answer was lost.
        self.news().changed(commit.name);
        let narinfos = answer?;
        let told: Vec<_> = commit.meanwhile.iter().map(|told| told.narinfo.store_path.hash()).collect();
        self.lookups().alone().forget(&told);
        self.write_narinfos(narinfos).await;
        // A copy of another edge's is that edge's to transcode, until it is read here.
        if commit.recipe.is_none() && (commit.origin.is_some() || commit.uploaded) {
            self.transcodes().offer(commit.name);
        }
        Ok(())
    }

    async fn write_narinfos(&self, narinfos: Vec<NarInfo>) {
        let store = Arc::clone(self.store());
        let write = move || narinfos.iter().try_for_each(|n| store.put_narinfo(n, named(n)));
        let written = blocking(write).await;
        if let Err(error) = written {
            tracing::warn!(%error, "the store's own narinfos are behind; serving goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, NarFileName, NarHash, Sha256Hash};
    use ncps_proto::NarFacts;

    use super::*;

    fn commit(text: &str) -> Commit {
        let hash = Sha256Hash::of(text.as_bytes());
        let name = NarFileName { hash: FileHash(hash), compression: Compression::None };
        let nar = NarFacts { hash: NarHash(hash), size: 1 };
        Commit {
            name,
            asked_as: None,
            file_size: 1,
            nar,
            origin: None,
            uploaded: false,
            recipe: None,
            meanwhile: Vec::new(),
        }
    }

    #[test]
    fn a_commit_waits_until_it_was_said() {
        let pending = PendingCommits::default();
        pending.push(commit("a"));
        pending.push(commit("b"));
        assert_eq!(pending.first(), Some(commit("a")), "looked at");
        assert_eq!(pending.first(), Some(commit("a")), "and still there, were its telling stopped");
        pending.said(&commit("a"));
        pending.said(&commit("a"));
        assert_eq!(pending.first(), Some(commit("b")), "said twice, by two who tell");
        pending.said(&commit("b"));
        assert_eq!(pending.first(), None);
    }
}
