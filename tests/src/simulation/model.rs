//! What outlives a crash: control's rows, as a simple model of what is committed there. Every path has one NAR file.

use std::collections::{BTreeMap, BTreeSet};

use ncps_control::fleet::Standing;
use ncps_nix::{Compression, FileHash, NarFileName, Sha256Hash, StorePathHash};
use ncps_proto::HeldNar;

/// A path and its file.
pub(super) type Path = u8;

/// Paths that there are.
pub(super) const PATHS: Path = 6;
/// The first of them that upstreams have. Those before are brought by clients alone.
pub(super) const FIRST_UPSTREAM: Path = 2;

/// Names of paths and their files, made once: hashes cost more than the rest of a step.
#[derive(Debug, Default)]
pub(super) struct Names {
    files: Vec<NarFileName>,
    paths: BTreeMap<NarFileName, Path>,
}

impl Names {
    pub(super) fn new() -> Names {
        let files: Vec<NarFileName> = (0..PATHS).map(name).collect();
        let paths = files.iter().copied().zip(0..PATHS).collect();
        Names { files, paths }
    }

    pub(super) fn file(&self, path: Path) -> NarFileName {
        self.files[usize::from(path)]
    }

    pub(super) fn held(&self, path: Path) -> HeldNar {
        HeldNar { name: self.file(path), file_size: 4096, disk_bytes: 4096 }
    }

    pub(super) fn path(&self, name: NarFileName) -> Path {
        self.paths[&name]
    }
}

fn name(path: Path) -> NarFileName {
    NarFileName { hash: FileHash(Sha256Hash::of(&[path])), compression: Compression::Zstd }
}

pub(super) fn hash(path: Path) -> StorePathHash {
    StorePathHash::from_bytes([path; 20])
}

pub(super) fn path_of(hash: &StorePathHash) -> Path {
    hash.as_bytes()[0]
}

/// Control's database.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// Paths with a narinfo.
    pub(super) narinfos: BTreeSet<Path>,
    /// Files with a row that clients brought.
    pub(super) uploads: BTreeSet<Path>,
    /// Paths that were taken out.
    pub(super) removed: BTreeSet<Path>,
    pub(super) pinned: BTreeSet<Path>,
}

impl Rows {
    /// A narinfo comes in.
    pub(super) fn publish(&mut self, path: Path) {
        self.narinfos.insert(path);
    }

    /// A path is taken out, and its file with it.
    pub(super) fn remove(&mut self, path: Path) {
        self.narinfos.remove(&path);
        self.uploads.remove(&path);
        self.removed.insert(path);
    }

    /// Whether a path was taken out and did not come back.
    pub(super) fn is_removed(&self, path: Path) -> bool {
        self.removed.contains(&path) && !self.narinfos.contains(&path)
    }

    pub(super) fn standing(&self, path: Path) -> Standing {
        match (self.uploads.contains(&path), self.narinfos.contains(&path)) {
            (true, true) => Standing::Promised,
            (true, false) => Standing::Unnamed,
            (false, _) => Standing::Replaceable,
        }
    }
}
