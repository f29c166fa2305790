//! What the index knows of one NAR file: plain data between the database and the use cases.
//!
//! A narinfo needs no record of its own: it is stored as it is served. Absent on purpose: who holds a file
//! (soft state, see [`crate::fleet`]) and when it was last read (only eviction asks).

use ncps_nix::{FileHash, NarFileName, NarHash, NarInfo, StorePath};
use ncps_proto::{NarFacts, Origin, Recipe};
use ncps_runtime::clock::UnixTime;

/// One representation of a NAR.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NarFile {
    /// In bytes: of the committed file, else as a narinfo claims.
    pub(crate) file_size: Option<u64>,
    /// What it decodes to; `None` for a name that turned out wrong.
    pub(crate) nar: Option<NarFacts>,
    /// An edge decoded it and found `nar`; else `nar` is what a signed narinfo claims.
    pub(crate) proven: bool,
    /// A client brought it.
    pub(crate) uploaded: bool,
    /// Where it can be fetched, in the order in which they became known.
    pub(crate) origins: Vec<Origin>,
    /// How it was made of another file of its NAR.
    pub(crate) recipe: Option<Recipe>,
    /// From when on nobody needs to keep it, since narinfos name another file of its NAR.
    pub(crate) drop_at: Option<UnixTime>,
}

/// What would be lost with a stored file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: narinfos name another file of its NAR.
    Superseded,
    /// Nothing that an upstream could not give again.
    #[default]
    Replaceable,
    /// A client brought it, nobody could give it again, and no narinfo names it, at least not yet.
    Unnamed,
    /// The same, and a narinfo promises it.
    Promised,
}

/// A path, its file, and when anybody asked for either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) path: StorePath,
    pub(crate) file: NarFileName,
    /// When the narinfo was served or the file was read, whichever was later.
    pub(crate) last_use: UnixTime,
}

impl NarFile {
    /// Adds an origin, at the front where it `leads`. An upstream has one place for a file: a newer URL
    /// takes the former one's place, so that URLs that change with every answer don't pile up.
    pub(crate) fn add_origin(&mut self, origin: Origin, leads: bool) {
        let former = self.origins.iter().position(|known| known.upstream == origin.upstream);
        match former {
            Some(place) if !leads => self.origins[place] = origin,
            Some(place) => {
                self.origins.remove(place);
                self.origins.insert(0, origin);
            }
            None if leads => self.origins.insert(0, origin),
            None => self.origins.push(origin),
        }
    }

    /// Whether nobody could give it again: a client brought it, and no upstream is known to have it.
    pub(crate) fn is_irreplaceable(&self) -> bool {
        self.uploaded && self.origins.is_empty()
    }

    /// Whether it was proven to decode to this NAR.
    pub(crate) fn is_proven(&self, nar: NarFacts) -> bool {
        self.proven && self.nar == Some(nar)
    }

    /// Whether it was proven to decode to another NAR, or to have another size. A name is the hash of its bytes, so one
    /// of both is a mistake or a lie.
    pub(crate) fn denies(&self, nar: NarFacts, file_size: u64) -> bool {
        self.proven && (self.nar != Some(nar) || self.file_size != Some(file_size))
    }

    /// Whether the file is known to decode to another NAR.
    pub(crate) fn contradicts(&self, nar: NarFacts) -> bool {
        self.proven && self.nar.is_some_and(|proven| proven != nar)
    }
}

/// The NAR file that a served narinfo names.
pub(crate) fn file_of(narinfo: &NarInfo) -> NarFileName {
    let hash = narinfo.file_hash.unwrap_or(uncompressed(narinfo.nar_hash));
    NarFileName { hash, compression: narinfo.compression }
}

/// The signed facts of a narinfo's NAR.
pub(crate) fn facts_of(narinfo: &NarInfo) -> NarFacts {
    NarFacts { hash: narinfo.nar_hash, size: narinfo.nar_size }
}

/// Makes a narinfo name `file`: the parts of it that no signature covers.
pub(crate) fn point_at(narinfo: &mut NarInfo, file: NarFileName, file_size: Option<u64>) {
    narinfo.point_at(file, file_size);
}

/// The file hash of a NAR that is stored as it is.
pub(crate) fn uncompressed(nar: NarHash) -> FileHash {
    FileHash(nar.0)
}
