//! A NAR file that an edge made of another one of its NAR, as zstd: narinfos name it from then on.
//!
//! The file that they named before stays for a while, for clients that know it by the former narinfo: [`KEPT`] where an
//! upstream can give it again, else [`UPLOAD_KEPT`]. Then whoever holds it drops it; only the name stays known, with
//! where it can come from. Absent: making the file, which is the edge's.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ncps_nix::{Compression, NarFileName, NarInfo, StorePathHash};
use ncps_proto::{Code, Commit, Error, NarFacts, Recipe, Result, Victim};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::fault::{self, Point};
use ncps_runtime::tasks::Tasks;

use super::{Control, standing};
use crate::index::Index;
use crate::record::{NarFile, facts_of, file_of, point_at};

/// How long a file stays that an upstream can give again: for downloads of the closures that clients looked up before.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long an upload does. Nix believes a narinfo for 30 days (`narinfo-cache-positive-ttl`).
const UPLOAD_KEPT: Duration = Duration::from_secs(35 * 24 * 3600);
/// How often files to drop are looked for, and how many at once.
const EVERY: Duration = Duration::from_secs(60);
const AT_ONCE: u32 = 1000;
/// How long an edge may take to remove one.
const ANSWER: Duration = Duration::from_secs(30);

impl Control {
    /// The commit of a file that was made. Said again, it is no other one.
    pub(super) async fn commit_made(
        &self,
        instance: &str,
        commit: &Commit,
        recipe: &Recipe,
    ) -> Result<Vec<NarInfo>> {
        self.index.admit().await?;
        let others = self.index.others_of(commit.nar.hash, commit.name).await?;
        let turns = self.index.lock_files(others.iter().copied().chain([commit.name, recipe.source])).await;
        self.is_possible(instance, commit, None).await?;
        let uploaded = self.is_welcome(instance, commit, recipe).await?;
        let was_known = self.index.file(commit.name).await?.is_some();
        self.put_made_file(commit, recipe, uploaded).await?;
        let narinfos = self.prefer(commit, &others).await?;
        if narinfos.is_empty() {
            if !was_known {
                self.index.remove_file(commit.name);
            }
            return Err(refused(commit, "no narinfo names its NAR any more"));
        }
        fault::point(Point::MadeNamed);
        let now = self.clock.now();
        self.index.accessed(commit.name, now);
        let standing = standing::of(&self.index, commit.name).await;
        self.sessions.announced(instance, commit.name, commit.file_size, standing, now);
        drop(turns);
        self.weigh(others).await;
        Ok(narinfos)
    }

    /// The file that was made of others of this NAR, where an attached edge has it.
    pub(super) async fn made_of(&self, nar: NarFacts) -> Result<Option<NarFileName>> {
        let files = self.index.files_of(nar.hash).await?.into_iter();
        let made = files.filter(|(_, file)| file.recipe.is_some() && file.is_proven(nar));
        Ok(made.map(|(name, _)| name).find(|name| self.sessions.is_held(*name)))
    }

    /// Whether it stands for an upload then, which only a disk that is kept may hold.
    async fn is_welcome(&self, instance: &str, commit: &Commit, recipe: &Recipe) -> Result<bool> {
        if commit.name.compression != Compression::Zstd || recipe.source.compression == Compression::Zstd {
            return Err(refused(commit, "zstd is made of other files"));
        }
        let source = self.index.file(recipe.source).await?;
        let Some(source) = source.filter(|source| source.is_proven(commit.nar)) else {
            return Err(refused(commit, "what it was made of is not known"));
        };
        if !source.is_irreplaceable() {
            return Ok(false);
        }
        self.not_leaving(instance, commit.name)?;
        match self.sessions.keeps(instance) {
            true => Ok(true),
            false => Err(refused(commit, "it was made of an upload, on a disk that is not kept")),
        }
    }

    async fn put_made_file(&self, commit: &Commit, recipe: &Recipe, uploaded: bool) -> Result<()> {
        let known = self.index.file(commit.name).await?;
        let mut file = known.as_deref().cloned().unwrap_or_default();
        if known.as_deref().is_none_or(|known| !known.proven) {
            file.recipe = Some(recipe.clone());
            file.uploaded |= uploaded;
        }
        (file.file_size, file.nar) = (Some(commit.file_size), Some(commit.nar));
        (file.proven, file.drop_at) = (true, None);
        self.put_if_changed(commit.name, known.as_deref(), file);
        Ok(())
    }

    /// Narinfos name the file that named one of these before, whose turns the caller has, as it has its own. Returns all
    /// that name it now.
    async fn prefer(&self, commit: &Commit, others: &[NarFileName]) -> Result<Vec<NarInfo>> {
        let Named { narinfos, changed } =
            name_instead(&self.index, others, commit.name, commit.nar, commit.file_size).await?;
        if !changed.is_empty() {
            self.supersede(others).await?;
            self.invalidate(&changed);
        }
        Ok(narinfos)
    }

    async fn supersede(&self, names: &[NarFileName]) -> Result<()> {
        let now = self.clock.now();
        for name in names {
            let Some(file) = self.index.file(*name).await? else { continue };
            if file.drop_at.is_none() && file.proven && self.index.naming(*name).await?.is_empty() {
                let kept = if file.is_irreplaceable() { UPLOAD_KEPT } else { KEPT };
                let drop_at = Some(UnixTime(now.0.saturating_add(kept.as_secs().cast_signed())));
                self.index.put_file(*name, NarFile { drop_at, ..NarFile::clone(&file) });
            }
        }
        Ok(())
    }

    /// A file came of which no narinfo wants to know, maybe since another one was made of it: then it stays no longer than
    /// when that was made.
    pub(super) async fn came_again(&self, commit: &Commit) -> Result<()> {
        let files = self.index.files_of(commit.nar.hash).await?;
        let is_replaced = files.iter().any(|(name, file)| *name != commit.name && file.recipe.is_some());
        if is_replaced { self.supersede(&[commit.name]).await } else { Ok(()) }
    }

    pub(super) fn start_dropping(&self, tasks: &Tasks) {
        let (me, stop) = (Weak::clone(&self.me), tasks.life().hard());
        tasks.spawn_background("superseded files", async move {
            let drops = async {
                loop {
                    tokio::time::sleep(EVERY).await;
                    let Some(control) = me.upgrade() else { return };
                    if let Err(error) = control.drop_superseded().await {
                        tracing::warn!(error = error.story(), "former files of NARs can't be dropped");
                    }
                }
            };
            stop.run_until_cancelled(drops).await;
        });
    }

    /// Has edges drop what nobody needs to keep any more. Returns how many copies are gone.
    ///
    /// # Errors
    /// Where the index can't be read.
    pub async fn drop_superseded(&self) -> Result<u64> {
        let mut gone = 0;
        for name in self.index.to_drop(self.clock.now(), AT_ONCE).await? {
            gone += self.drop_one(name).await?;
        }
        Ok(gone)
    }

    async fn drop_one(&self, name: NarFileName) -> Result<u64> {
        let narinfos = {
            let _turn = self.index.lock_files([name]).await;
            let Some(file) = self.index.file(name).await?.filter(|file| file.drop_at.is_some()) else {
                return Ok(0);
            };
            let is_named = !self.index.naming(name).await?.is_empty();
            if is_named || !self.sessions.is_remembered(name) {
                self.index.put_file(name, NarFile { drop_at: None, ..NarFile::clone(&file) });
                return Ok(0);
            }
            if file.is_irreplaceable() && !self.is_made_up_for(&file).await? {
                return Ok(0);
            }
            self.index.paths_beside(vec![name]).await?.concat()
        };
        let mut gone = 0;
        for instance in self.sessions.holding(name) {
            // The narinfo file beside it goes only where it names this one.
            let victim = Victim { name, narinfos: narinfos.clone() };
            let Some(answered) = self.sessions.evict(&instance, vec![(victim, None)]) else { continue };
            if let Ok(Ok(answer)) = tokio::time::timeout(ANSWER, answered).await {
                gone += answer.names.len() as u64;
            }
        }
        Ok(gone)
    }

    /// Whether a disk that is kept has what was made of an upload.
    async fn is_made_up_for(&self, file: &NarFile) -> Result<bool> {
        let Some(nar) = file.nar else { return Ok(false) };
        let mut files = self.index.files_of(nar.hash).await?.into_iter();
        Ok(files.any(|(other, file)| {
            file.recipe.is_some() && file.is_proven(nar) && self.sessions.is_kept(other)
        }))
    }
}

/// Narinfos that name a file.
pub(super) struct Named {
    pub(super) narinfos: Vec<NarInfo>,
    /// Those that named another one before.
    pub(super) changed: Vec<StorePathHash>,
}

/// Has the narinfos of a NAR name the file `to` that name one of `from`. The caller has the turns of all these files.
pub(super) async fn name_instead(
    index: &Index,
    from: &[NarFileName],
    to: NarFileName,
    nar: NarFacts,
    file_size: u64,
) -> Result<Named> {
    let mut hashes = BTreeSet::new();
    for name in from.iter().chain([&to]) {
        hashes.extend(index.naming(*name).await?.iter().map(|narinfo| narinfo.store_path.hash()));
    }
    let _turns = index.lock_narinfos(hashes.iter().copied()).await;
    let mut named = Named { narinfos: Vec::new(), changed: Vec::new() };
    for hash in hashes {
        // It may have been replaced before the turn came.
        let Some(narinfo) = index.narinfo(hash).await?.filter(|narinfo| facts_of(narinfo) == nar) else {
            continue;
        };
        let file = file_of(&narinfo);
        let mut narinfo = NarInfo::clone(&narinfo);
        if from.contains(&file) {
            point_at(&mut narinfo, to, Some(file_size));
            index.put_narinfo(Arc::new(narinfo.clone()));
            named.changed.push(hash);
        } else if file != to {
            continue;
        }
        named.narinfos.push(narinfo);
    }
    Ok(named)
}

fn refused(commit: &Commit, why: &str) -> Error {
    Error::new(Code::Refused, format!("commit of {}: {why}", commit.name))
}
