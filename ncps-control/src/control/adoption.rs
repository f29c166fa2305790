//! Adopting what another cache held: its bytes lie proven in the store, its narinfo is believed as an upstream's
//! would be, and the names by which its clients know the file go on meaning it.
//!
//! Absent on purpose: origins that nobody named. A file without one is asked for under its own name everywhere.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarInfo};
use ncps_proto::admin::EventKind;
use ncps_proto::{Code, Commit, Error, NarFacts, Origin, Publication, Result};

use super::Control;
use crate::journal::Note;
use crate::record::{facts_of, file_of, uncompressed};

/// A path of another cache, and its NAR file.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption {
    /// As the other cache had it.
    pub narinfo: NarInfo,
    /// The true name of the file that was committed.
    pub file: NarFileName,
    /// Its size in bytes.
    pub file_size: u64,
    /// What it decodes to, as proven.
    pub nar: NarFacts,
    /// Other names of it that clients may remember, and in which compression they expect it under each.
    pub former_names: Vec<(NarFileName, Compression)>,
    /// Where it can be fetched again, if that is known.
    pub origin: Option<Origin>,
}

impl Control {
    /// Whether a trusted key or a CA vouches for a narinfo.
    pub(crate) fn vouch(&self, narinfo: &NarInfo) -> Result<()> {
        self.policy.offer(publication(narinfo.clone())).map(drop)
    }

    /// Puts an adopted path into the index. One that is known keeps its narinfo if that has a file. One that is
    /// `irreplaceable` goes last when room is made, as if a client had uploaded it.
    ///
    /// # Errors
    /// [`Code::Invalid`] where neither a trusted key nor a CA vouches for the narinfo, where its NAR is another one, or
    /// where the path is known with another NAR.
    pub(crate) async fn adopt(&self, adoption: Adoption, irreplaceable: bool) -> Result<NarInfo> {
        let Adoption { narinfo, file, file_size, nar, former_names, origin } = adoption;
        let narinfo = self.policy.offer(publication(narinfo))?.renamed(file, Some(file_size)).narinfo;
        if facts_of(&narinfo) != nar {
            return Err(refused(&narinfo, "its file holds another NAR"));
        }
        self.index.admit().await?;
        let names: Vec<NarFileName> = former_names.iter().map(|(name, _)| *name).collect();
        let file_turns = self.index.lock_files(names.into_iter().chain([file])).await;
        let hash = narinfo.store_path.hash();
        let turn = self.index.lock_narinfos([hash]).await;
        let stored = self.index.narinfo(hash).await?;
        if stored.as_ref().is_some_and(|stored| facts_of(stored) != nar) {
            return Err(refused(&narinfo, "it is known here with another NAR"));
        }
        let commit = Commit {
            name: file,
            asked_as: None,
            file_size,
            nar,
            origin,
            uploaded: irreplaceable,
            recipe: None,
            meanwhile: Vec::new(),
        };
        self.put_committed_file(&commit, None).await?;
        for (name, compression) in former_names {
            self.put_former_name(name, compression, &commit).await?;
        }
        let adopted = self.put_adopted(stored, narinfo).await?;
        drop((turn, file_turns));
        self.weigh([file]).await;
        Ok(adopted)
    }

    async fn put_adopted(&self, stored: Option<Arc<NarInfo>>, narinfo: NarInfo) -> Result<NarInfo> {
        match stored {
            None => self.index.put_new_narinfo(Arc::new(narinfo.clone())),
            Some(stored) => {
                let named = self.index.file(file_of(&stored)).await?;
                if named.is_some_and(|file| file.proven) {
                    return Ok(NarInfo::clone(&stored));
                }
                self.index.put_narinfo(Arc::new(narinfo.clone()));
            }
        }
        let note = Note::new(EventKind::Imported, "from another cache");
        self.journal.note(note.path(narinfo.store_path.hash()).nar(file_of(&narinfo)));
        Ok(narinfo)
    }

    /// A name is no part of what was signed, so it takes no other file's place.
    async fn put_former_name(
        &self,
        name: NarFileName,
        compression: Compression,
        commit: &Commit,
    ) -> Result<()> {
        let target = match compression {
            _ if compression == commit.name.compression => commit.name,
            // Decoded on the way out.
            Compression::None => NarFileName { hash: uncompressed(commit.nar.hash), compression },
            // Nothing here gives these bytes.
            _ => return Ok(()),
        };
        let known = self.index.file(name).await?;
        let is_free = known.is_none_or(|file| file.nar.is_none()) && self.index.resolve(name).await? == name;
        if name != target && is_free {
            self.index.put_alias(name, Some(target));
        }
        Ok(())
    }
}

/// As if an upstream without a name had it.
fn publication(narinfo: NarInfo) -> Publication {
    Publication { narinfo, upstream: String::new(), replaces: false }
}

fn refused(narinfo: &NarInfo, reason: &str) -> Error {
    Error::new(Code::Invalid, format!("{} refused: {reason}", narinfo.store_path))
}
