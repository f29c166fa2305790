//! Taking paths out of the cache: narinfo, NAR files that nothing else names, what edges hold of both. Who deletes
//! over HTTP takes out less, or other files (see [`super::upload`]), and is remembered in the same way.
//!
//! Index first, then the edges: from the removal on nobody is told of the path who was not before. It is no ban: who
//! asks for the path again has it fetched anew. What was removed is remembered for [`MEMORY`], for edges that are
//! away. Absent on purpose: what is removed and who may ask for it.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::{HeldNar, Result};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::fault::{self, Point};

use crate::index::Index;
use crate::record::file_of;
use crate::sessions::{Answered, Sessions};

/// Paths that are taken out at once, and named to edges in one message.
const STEP: usize = 64;
/// How long an edge may take for these.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take where a client waits, whose own edge waits for 10 s.
const PROMPT: Duration = Duration::from_secs(8);
/// How long it is remembered what was removed.
pub(crate) const MEMORY: Duration = ncps_proto::REMEMBERED;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Paths that were in the index.
    pub paths: Vec<Arc<NarInfo>>,
    /// NAR files that nothing names any more.
    pub files: u64,
    /// What they took on the edges' disks, in bytes.
    pub bytes: u64,
    /// Attached edges that did not confirm it. They hear of it when they attach again.
    pub unheard: Vec<String>,
}

/// Takes a narinfo out of the index, whose turn the caller has. Edges that are away drop theirs when they come back
/// with one of these files; and the file, where it has no row then.
pub(super) fn take_narinfo_out(index: &Index, hash: StorePathHash, files: &[NarFileName]) {
    files.iter().for_each(|name| index.put_removal(hash, *name));
    index.remove_narinfo(hash);
}

/// Removes paths everywhere.
#[derive(Clone)]
pub(crate) struct Remover {
    pub(crate) index: Arc<Index>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A path that is out of the index.
struct TakenOut {
    narinfo: Arc<NarInfo>,
    orphans: Vec<NarFileName>,
}

impl Remover {
    /// Takes these paths out of the index; those that are not there are passed over. Returns when every attached
    /// edge has dropped what it had of them, or is attached no longer; or as soon as it shall not `go_on`, which is
    /// asked before each step with the number of paths that are done.
    ///
    /// # Errors
    /// Where the index can't be read or written. What was taken out before stays so.
    pub(crate) async fn remove(
        &self,
        hashes: &[StorePathHash],
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<Removed> {
        let mut removed = Removed::default();
        for (step, some) in hashes.chunks(STEP).enumerate() {
            if !go_on((step * STEP) as u64) {
                break;
            }
            self.remove_some(some, &mut removed).await?;
        }
        Ok(removed)
    }

    async fn remove_some(&self, hashes: &[StorePathHash], removed: &mut Removed) -> Result<()> {
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for hash in hashes {
            if let Some(TakenOut { narinfo, orphans }) = self.take_out(*hash).await? {
                paths.push(*hash);
                files.extend(orphans);
                removed.paths.push(narinfo);
            }
        }
        // Before anything is done that can't be undone: a process that is killed here has removed them. And edges
        // that attach from here on find it in the database.
        self.index.flushed().await;
        fault::point(Point::PathTakenOut);
        removed.files += files.len() as u64;
        self.drop_from_edges(&paths, &files, removed).await;
        Ok(())
    }

    /// Takes a path out of the index, with the files of its NAR that no other narinfo names.
    async fn take_out(&self, hash: StorePathHash) -> Result<Option<TakenOut>> {
        loop {
            let Some(narinfo) = self.index.narinfo(hash).await? else { return Ok(None) };
            let files = self.files_of(&narinfo).await?;
            let _file_turns = self.index.lock_files(files.iter().copied()).await;
            let _turn = self.index.lock_narinfos([hash]).await;
            // It may have been replaced before the turns came.
            if self.index.narinfo(hash).await?.as_ref() == Some(&narinfo) {
                return self.take_out_in_turn(narinfo, files).await.map(Some);
            }
        }
    }

    async fn take_out_in_turn(&self, narinfo: Arc<NarInfo>, files: Vec<NarFileName>) -> Result<TakenOut> {
        let hash = narinfo.store_path.hash();
        let mut orphans = Vec::with_capacity(files.len());
        for name in files.iter().copied() {
            let named = self.index.naming(name).await?;
            if named.iter().all(|other| other.store_path.hash() == hash) {
                orphans.push(name);
            }
        }
        take_narinfo_out(&self.index, hash, &files);
        orphans.iter().for_each(|name| self.index.remove_file(*name));
        Ok(TakenOut { narinfo, orphans })
    }

    /// The file that a narinfo names, and every other one of its NAR.
    async fn files_of(&self, narinfo: &NarInfo) -> Result<Vec<NarFileName>> {
        let named = file_of(narinfo);
        let files = self.index.files_of(narinfo.nar_hash).await?.into_iter().map(|(name, _)| name);
        Ok(std::iter::once(named).chain(files.filter(|name| *name != named)).collect())
    }

    /// Has every attached edge drop paths and files. Returns when each has, or is attached no longer.
    pub(crate) async fn drop_from_edges(
        &self,
        paths: &[StorePathHash],
        files: &[NarFileName],
        removed: &mut Removed,
    ) {
        if paths.is_empty() {
            return;
        }
        let tell = |instance: &str| self.sessions.remove(instance, paths.to_vec(), files.to_vec());
        for (edge, heard) in self.ask(self.sessions.removal(), ANSWER, tell).await {
            match heard {
                Some(bytes) => removed.bytes = removed.bytes.saturating_add(bytes),
                None if !removed.unheard.contains(&edge) => removed.unheard.push(edge),
                None => {}
            }
        }
    }

    /// The same for a client who waits, at whose edge (`but`) it is done by itself.
    pub(super) async fn drop_promptly(
        &self,
        paths: &[StorePathHash],
        files: &[NarFileName],
        but: Option<&str>,
    ) {
        let mut edges = self.sessions.removal();
        edges.retain(|(instance, _)| but != Some(instance));
        let tell = |instance: &str| self.sessions.remove(instance, paths.to_vec(), files.to_vec());
        self.ask(edges, PROMPT, tell).await;
    }

    /// Narinfos changed, and a client waits: returns when no attached edge answers from before any more.
    pub(super) async fn outdate(&self, paths: &[StorePathHash]) {
        let edges = self.sessions.change(paths);
        self.ask(edges, PROMPT, |instance| self.sessions.outdate(instance, paths.to_vec())).await;
    }

    /// Tells edges something, and waits until each has answered, or is attached no longer. Returns their
    /// names with the bytes that each has dropped; `None` where it does not answer.
    async fn ask(
        &self,
        edges: Vec<(String, String)>,
        patience: Duration,
        tell: impl Fn(&str) -> Option<Answered>,
    ) -> Vec<(String, Option<u64>)> {
        let asked = edges.into_iter().map(|(instance, edge)| {
            let answer = tell(&instance);
            async move { (edge, self.heard(&instance, patience, answer).await) }
        });
        futures::future::join_all(asked.collect::<Vec<_>>()).await
    }

    /// How many bytes an edge has dropped. One that does not answer is cut: it compares when it attaches again.
    async fn heard(&self, instance: &str, patience: Duration, answer: Option<Answered>) -> Option<u64> {
        match tokio::time::timeout(patience, answer?).await {
            Ok(answer) => answer.ok().map(|gone| gone.bytes),
            Err(_) => {
                tracing::warn!(%instance, "an edge does not confirm a change, its session is cut");
                self.sessions.cut(instance);
                None
            }
        }
    }

    /// Tells an edge what was removed of what it says to hold: it was away then.
    pub(crate) async fn compare(&self, instance: &str, held: &[HeldNar]) -> Result<()> {
        if !self.index.has_removals().await? {
            return Ok(());
        }
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        for HeldNar { name, .. } in held {
            let removed = self.removed_of(*name).await?;
            if !removed.is_empty() && self.is_forgotten(*name).await? {
                files.push(*name);
            }
            paths.extend(removed);
        }
        if !paths.is_empty() {
            tracing::info!(%instance, paths = paths.len(), files = files.len(), "an edge drops what was removed");
            // Nobody waits for the answer: it is done, or said again with the next inventory.
            self.sessions.remove(instance, paths, files);
        }
        Ok(())
    }

    /// Whether a file went with its last path. Where the narinfo alone was deleted, it has its row yet.
    async fn is_forgotten(&self, name: NarFileName) -> Result<bool> {
        Ok(self.index.file(name).await?.is_none() && self.index.naming(name).await?.is_empty())
    }

    /// The paths of a file that were removed, and did not come back.
    async fn removed_of(&self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        let mut removed = self.index.removals(name).await?;
        let mut known = Vec::new();
        for hash in &removed {
            known.push(self.index.narinfo(*hash).await?.is_some());
        }
        let mut known = known.into_iter();
        removed.retain(|_| !known.next().unwrap_or(false));
        Ok(removed)
    }

    /// Forgets what was removed long ago.
    pub(crate) async fn forget(&self) {
        let then = UnixTime(self.clock.now().0.saturating_sub(MEMORY.as_secs().cast_signed()));
        if let Err(error) = self.index.forget_removals(then).await {
            tracing::warn!(error = error.story(), "old removals can't be forgotten");
        }
    }
}
