//! Edges that leave: one is drained first, which ends nothing that runs, and then taken out, with what only it holds.
//!
//! Both are of an instance: an edge whose data path was wiped is another one, and is welcome under the same name.
//! Absent on purpose: what an edge does while it drains, which is the edge's.

use ncps_nix::{NarFileName, StorePath};
use ncps_proto::admin::{Caller, EdgeRemoval, EdgeState, EventKind};
use ncps_proto::{Code, Error, Job, JobSaid, Prefetch, Prefetched, Result};

use super::Control;
use super::lost::{self, Left};
use crate::db::Leaving;
use crate::journal::Note;
use crate::sessions::Alone;

impl Control {
    pub(crate) async fn drain(&self, caller: &Caller, edge: &str, undo: bool) -> Result<()> {
        let attached = self.sessions.named(Some(edge)).into_iter().next();
        let absent = || Error::new(Code::Absent, format!("no edge {edge} is attached"));
        let (_, instance) = attached.ok_or_else(absent)?;
        let kind = if undo { EventKind::EdgeUndrained } else { EventKind::EdgeDrained };
        self.journal.audit(caller, Note::new(kind, format!("edge {edge}"))).await?;
        let db = self.index.db();
        match undo {
            false => db.put_leaving(&instance, edge, Leaving::Drained, self.clock.now()).await?,
            true => db.delete_leaving(&instance).await?,
        }
        self.sessions.drain(&instance, !undo)
    }

    /// An edge attached under the name of others that are away: its data is new, and theirs is gone.
    pub(super) async fn bury_namesakes(&self, edge: &str, instance: &str) {
        for former in self.sessions.namesakes(edge, instance) {
            let names = self.sessions.take_out(&former);
            let why = format!("its NAR was an upload, and edge {edge}, which held it, came back without it");
            let left = Left { instance: &former, names: &names, for_room: false };
            let lost = lost::left(self.told(), left, &Note::new(EventKind::Retracted, why)).await;
            let (files, lost) = (names.len(), lost.paths.len());
            tracing::warn!(
                edge,
                former,
                files,
                lost,
                "an edge came back with other data: what it held is gone"
            );
        }
    }

    pub(crate) async fn take_edge_out(
        &self,
        caller: &Caller,
        edge: &str,
        dry_run: bool,
    ) -> Result<EdgeRemoval> {
        let instance = self.leaver(edge)?;
        let mut removal = self.foresee_removal(&instance).await?;
        if dry_run {
            return Ok(removal);
        }
        let before = removal.uploads.len();
        self.copy_uploads(&instance, &removal.uploads).await;
        removal = self.foresee_removal(&instance).await?;
        removal.copied = before.saturating_sub(removal.uploads.len()) as u64;
        let lost = removal.uploads.len();
        let detail = format!("edge {edge}, of whose uploads {} were copied and {lost} lost", removal.copied);
        self.journal.audit(caller, Note::new(EventKind::EdgeRemoved, detail)).await?;
        self.index.db().put_leaving(&instance, edge, Leaving::Removed, self.clock.now()).await?;
        let names = self.sessions.take_out(&instance);
        self.roster.removed(edge, &instance);
        let why = Note::new(
            EventKind::Retracted,
            format!("its NAR was an upload, and edge {edge}, which held it, was removed"),
        );
        let lost =
            lost::left(self.told(), Left { instance: &instance, names: &names, for_room: false }, &why).await;
        self.remover.outdate(&lost.paths).await;
        tracing::info!(edge, instance, lost = lost.paths.len(), "an edge was taken out of the fleet");
        Ok(removal)
    }

    /// The edge of this name, which must not take part any more.
    fn leaver(&self, edge: &str) -> Result<String> {
        if let Some((_, instance)) = self.sessions.named(Some(edge)).into_iter().next() {
            return match self.sessions.state_of(&instance) {
                Some(EdgeState::Attached | EdgeState::Draining) => {
                    let first = format!("edge {edge} takes part: ncps-cli edges drain {edge}, or stop it");
                    Err(Error::new(Code::Invalid, first))
                }
                _ => Ok(instance),
            };
        }
        let unknown =
            format!("no edge {edge} was here in the last hour: nothing is known to be held by it alone");
        self.sessions.remembered(edge).ok_or_else(|| Error::new(Code::Absent, unknown))
    }

    async fn foresee_removal(&self, instance: &str) -> Result<EdgeRemoval> {
        let mut removal = EdgeRemoval { instance: instance.to_owned(), ..EdgeRemoval::default() };
        for Alone { name, bytes, uploaded } in self.sessions.alone(instance) {
            if uploaded {
                removal.uploads.extend(self.paths_of(name).await?);
            } else {
                removal.files += 1;
                removal.bytes = removal.bytes.saturating_add(bytes);
            }
        }
        removal.uploads.sort_unstable();
        removal.uploads.dedup();
        Ok(removal)
    }

    async fn paths_of(&self, name: NarFileName) -> Result<Vec<StorePath>> {
        let naming = self.index.naming(name).await?;
        Ok(naming.iter().map(|narinfo| narinfo.store_path.clone()).collect())
    }

    /// Another edge whose disk is kept reads them from the one that leaves, as far as both can be reached. What fails is
    /// lost, and said so.
    async fn copy_uploads(&self, instance: &str, uploads: &[StorePath]) {
        let Some(heir) = self.sessions.heir(instance).filter(|_| !uploads.is_empty()) else { return };
        let paths = uploads.iter().map(StorePath::hash).collect();
        if let Err(error) = self.copied(&heir, Prefetch { paths, closure: false }).await {
            tracing::warn!(error = error.story(), "not all uploads of an edge that leaves were copied");
        }
    }

    async fn copied(&self, heir: &str, prefetch: Prefetch) -> Result<()> {
        let mut run = self.sessions.begin_job(heir, Job::Prefetch(prefetch))?;
        while let Some(said) = run.next().await? {
            if let JobSaid::Prefetched(Prefetched { path, outcome }) = said {
                tracing::debug!(%path, ?outcome, "an upload of an edge that leaves");
            }
        }
        Ok(())
    }
}
