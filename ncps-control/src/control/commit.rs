//! A NAR file lies proven in an edge's store. What was claimed of it becomes what is known; narinfos that
//! named it wrongly are corrected, and those that can't be right are forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarInfo, StorePathHash};
use ncps_proto::admin::EventKind;
use ncps_proto::{Code, Commit, Error, Publication, Result};
use ncps_runtime::fault::{self, Point};

use super::{Control, standing};
use crate::journal::Note;
use crate::record::{NarFile, facts_of, file_of, point_at, uncompressed};

impl Control {
    pub(super) async fn commit(&self, instance: &str, mut commit: Commit) -> Result<Vec<NarInfo>> {
        check(&commit)?;
        if let Some(recipe) = &commit.recipe {
            return self.commit_made(instance, &commit, recipe).await;
        }
        if commit.uploaded {
            self.not_leaving(instance, commit.name)?;
        }
        self.index.admit().await?;
        let meanwhile = std::mem::take(&mut commit.meanwhile);
        if !self.publish_meanwhile(instance, &commit, meanwhile).await? {
            return Ok(Vec::new());
        }
        let wrong = commit.asked_as.filter(|name| *name != commit.name);
        let file_turns = self.index.lock_files(wrong.into_iter().chain([commit.name])).await;
        self.is_possible(instance, &commit, wrong).await?;
        self.put_committed_file(&commit, wrong).await?;
        let narinfos = self.settle_narinfos(&commit, wrong).await?;
        if narinfos.is_empty() {
            self.came_again(&commit).await?;
        }
        fault::point(Point::NarCommitted);
        let now = self.clock.now();
        // A file that came again counts as read, whatever its row says of the time before.
        self.index.accessed(commit.name, now);
        // The placement first: whose turn it is next must know who has it.
        let standing = standing::of(&self.index, commit.name).await;
        self.sessions.announced(instance, commit.name, commit.file_size, standing, now);
        if let Some(wrong) = wrong {
            self.sessions.end(instance, wrong);
        }
        self.sessions.end(instance, commit.name);
        drop(file_turns);
        self.weigh(wrong).await;
        Ok(narinfos)
    }

    /// What a name was proven to be before, it is for good: whoever says otherwise is mistaken, or lies. Else one edge could
    /// take files from all others, and uploads from those that are away.
    pub(super) async fn is_possible(
        &self,
        instance: &str,
        commit: &Commit,
        wrong: Option<NarFileName>,
    ) -> Result<()> {
        let refused = |why: String| {
            tracing::warn!(instance, nar = %commit.name, why, "a commit is not believed");
            Err(Error::new(Code::Refused, format!("commit of {}: {why}", commit.name)))
        };
        let known = self.index.file(commit.name).await?;
        if known.is_some_and(|known| known.denies(commit.nar, commit.file_size)) {
            return refused("these bytes were proven to be another NAR, or to have another size".to_owned());
        }
        let Some(wrong) = wrong else { return Ok(()) };
        let Some(proven) = self.index.file(wrong).await?.filter(|file| file.proven) else { return Ok(()) };
        if self.sessions.is_held(wrong) || (proven.uploaded && self.may_be_away(wrong)) {
            return refused(format!("{wrong} was proven to be a right name, and an edge holds it"));
        }
        Ok(())
    }

    /// What a file was served for while control was away comes into the index like any publication; not what was
    /// removed meanwhile, which the edge drops instead. False where it drops the file, too.
    async fn publish_meanwhile(
        &self,
        instance: &str,
        commit: &Commit,
        meanwhile: Vec<Publication>,
    ) -> Result<bool> {
        let named = commit.asked_as.unwrap_or(commit.name);
        let mut removed = Vec::new();
        for publication in meanwhile {
            let hash = publication.narinfo.store_path.hash();
            if self.is_removed(hash, named).await? {
                removed.push(hash);
                continue;
            }
            match self.publish(publication).await {
                Err(refused) if refused.code().is_callers() => {
                    tracing::warn!(
                        instance,
                        error = refused.story(),
                        "what an edge served on its own is not taken over"
                    );
                }
                published => drop(published?),
            }
        }
        if removed.is_empty() {
            return Ok(true);
        }
        let is_known = self.index.file(commit.name).await?.is_some();
        let files = if is_known { Vec::new() } else { vec![commit.name] };
        tracing::info!(instance, nar = %commit.name, "an edge drops what was removed while it was away");
        // Nobody waits for the answer: with its next inventory the edge is told again.
        drop(self.sessions.remove(instance, removed, files));
        Ok(is_known)
    }

    /// Whether a path was removed, with this file, and did not come back.
    async fn is_removed(&self, hash: StorePathHash, name: NarFileName) -> Result<bool> {
        let was_removed = self.index.removals(name).await?.contains(&hash);
        Ok(was_removed && self.index.narinfo(hash).await?.is_none())
    }

    pub(super) async fn put_committed_file(&self, commit: &Commit, wrong: Option<NarFileName>) -> Result<()> {
        let known = self.index.file(commit.name).await?;
        let mut file = known.as_deref().cloned().unwrap_or_default();
        file.file_size = Some(commit.file_size);
        file.nar = Some(commit.nar);
        file.proven = true;
        file.uploaded |= commit.uploaded;
        match (&commit.origin, wrong) {
            // That an upstream has an upload, too, is known when it is published from there. The word of one edge is not
            // enough to let it go.
            _ if known.as_deref().is_some_and(NarFile::is_irreplaceable) => {}
            (Some(origin), _) => file.add_origin(origin.clone(), false),
            (None, Some(wrong)) => self.inherit_origins(&mut file, wrong).await?,
            (None, None) => {}
        }
        self.put_if_changed(commit.name, known.as_deref(), file);
        if self.index.resolve(commit.name).await? != commit.name {
            // It was taken for a wrong name once; now there are bytes of that name.
            self.index.put_alias(commit.name, None);
        }
        if let Some(wrong) = wrong {
            tracing::warn!(%wrong, right = %commit.name, "a file hash was wrong and is corrected");
            let detail = format!("its file is {}, not {wrong}", commit.name);
            self.journal.note(Note::new(EventKind::Corrected, detail).nar(commit.name));
            self.index.put_file(wrong, NarFile::default());
            self.index.put_alias(wrong, Some(commit.name));
        }
        Ok(())
    }

    /// Nobody said where the bytes came from: the places of the wrong name are the best guess.
    async fn inherit_origins(&self, file: &mut NarFile, wrong: NarFileName) -> Result<()> {
        let former = self.index.file(wrong).await?;
        for origin in former.iter().flat_map(|former| &former.origins) {
            file.add_origin(origin.clone(), false);
        }
        Ok(())
    }

    /// Corrects every narinfo that names the file under either name; returns those that name it now.
    async fn settle_narinfos(&self, commit: &Commit, wrong: Option<NarFileName>) -> Result<Vec<NarInfo>> {
        let names = || wrong.into_iter().chain([commit.name]);
        let mut hashes = BTreeSet::new();
        for name in names() {
            hashes.extend(self.index.naming(name).await?.iter().map(|narinfo| narinfo.store_path.hash()));
        }
        let _turns = self.index.lock_narinfos(hashes.iter().copied()).await;
        let mut settled = Settled::default();
        for hash in hashes {
            // It may have been replaced before the turn came.
            let narinfo = self.index.narinfo(hash).await?;
            if let Some(narinfo) = narinfo.filter(|narinfo| names().any(|name| name == file_of(narinfo))) {
                self.settle(&narinfo, commit, &mut settled);
            }
        }
        self.invalidate(&settled.changed);
        Ok(settled.narinfos)
    }

    fn settle(&self, narinfo: &NarInfo, commit: &Commit, settled: &mut Settled) {
        let hash = narinfo.store_path.hash();
        if facts_of(narinfo) != commit.nar {
            // Its signature holds, so its NAR is another file than its upstream says. Asked for anew, it is
            // offered under its NAR hash.
            tracing::warn!(path = %narinfo.store_path, file = %commit.name, "a narinfo named another NAR's file");
            self.index.remove_narinfo(hash);
            let note = Note::new(EventKind::Corrected, "taken out: its narinfo named another NAR's file");
            self.journal.note(note.path(hash).nar(commit.name));
            settled.changed.push(hash);
            return;
        }
        let mut corrected = narinfo.clone();
        point_at(&mut corrected, commit.name, Some(commit.file_size));
        if corrected != *narinfo {
            self.index.put_narinfo(Arc::new(corrected.clone()));
            settled.changed.push(hash);
        }
        settled.narinfos.push(corrected);
    }
}

#[derive(Default)]
struct Settled {
    narinfos: Vec<NarInfo>,
    changed: Vec<StorePathHash>,
}

/// An uncompressed file is its NAR: name and facts can't differ.
fn check(commit: &Commit) -> Result<()> {
    let Commit { name, nar, file_size, .. } = commit;
    let is_nar = name.hash == uncompressed(nar.hash) && *file_size == nar.size;
    if name.compression == Compression::None && !is_nar {
        return Err(Error::new(Code::Invalid, format!("commit of {name}: an uncompressed file is its NAR")));
    }
    Ok(())
}
