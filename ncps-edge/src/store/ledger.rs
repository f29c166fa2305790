//! What the store takes on the disk: counted once, by looking at every file, and kept up to date from then on by
//! whoever adds and removes files, while holding it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

/// A narinfo file counts as one block of the usual file systems: looking at each would cost more than it tells.
pub(super) const NARINFO_BYTES: u64 = 4096;

/// What a file takes on the disk: not its length, since it may have holes, and blocks are whole.
pub(super) fn disk_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Bytes on disk. Not known before it is first asked for: counting a large store takes a while.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Option<u64>>);

impl Ledger {
    /// The number, to be read or changed; nobody else changes files meanwhile. Counted where it is not known.
    pub(super) fn open(
        &self,
        count: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<MappedMutexGuard<'_, u64>> {
        let mut used = self.0.lock();
        if used.is_none() {
            *used = Some(count()?);
        }
        Ok(MutexGuard::map(used, |used| used.get_or_insert(0)))
    }
}
