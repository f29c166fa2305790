//! What the store takes on the disk: counted once, by looking at every file, and kept up to date from then on by
//! whoever adds and removes files, while holding it.
//!
//! A NAR file counts with the narinfo that belongs beside it from its commit on, so that the narinfo, which is
//! written later, finds its room; and [`SPARE`] is never given to a NAR, so that a narinfo can be written anew.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

/// A narinfo file counts as one block of the usual file systems: looking at each would cost more than it tells.
pub(super) const NARINFO_BYTES: u64 = 4096;

/// What stays free of the limit: one narinfo that is being written anew, and a block by which each of the
/// directories `store/`, `nar/` and `spool/` may grow.
pub(super) const SPARE: u64 = 4 * NARINFO_BYTES;

/// What a file takes on the disk: not its length, since it may have holes, and blocks are whole.
pub(super) fn disk_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// What there is, in numbers and in bytes on disk.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) nars: u64,
    pub(super) nar_bytes: u64,
    pub(super) narinfos: u64,
    /// Narinfos in the spool, on their way.
    writing: u64,
    /// Bytes that directories take themselves.
    pub(super) directories: u64,
}

impl Used {
    /// Bytes on disk, with the narinfos that NAR files have still to get.
    pub(super) fn bytes(&self) -> u64 {
        self.nar_bytes + self.directories + self.nars.max(self.narinfos + self.writing) * NARINFO_BYTES
    }

    pub(super) fn add_nar(&mut self, disk_bytes: u64) {
        self.nars += 1;
        self.nar_bytes += disk_bytes;
    }

    pub(super) fn remove_nar(&mut self, disk_bytes: u64) {
        self.nars = self.nars.saturating_sub(1);
        self.nar_bytes = self.nar_bytes.saturating_sub(disk_bytes);
    }

    /// Whether a NAR file is still without the narinfo that it counts with.
    fn awaits_narinfo(&self) -> bool {
        self.narinfos + self.writing < self.nars
    }
}

/// Not known before it is first asked for: counting a large store takes a while.
#[derive(Debug)]
pub(super) struct Ledger {
    used: Mutex<Option<Used>>,
    /// The most that the store may take, in bytes; `u64::MAX` where there is no limit.
    limit: AtomicU64,
    /// Held by who writes a narinfo that no NAR file counts with.
    spare: Mutex<()>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger { used: Mutex::default(), limit: AtomicU64::new(u64::MAX), spare: Mutex::default() }
    }
}

impl Ledger {
    /// The numbers, to be read or changed; nobody else changes files meanwhile. Counted where they are not known.
    pub(super) fn open(
        &self,
        count: impl FnOnce() -> io::Result<Used>,
    ) -> io::Result<MappedMutexGuard<'_, Used>> {
        let mut used = self.used.lock();
        if used.is_none() {
            *used = Some(count()?);
        }
        Ok(MutexGuard::map(used, |used| used.get_or_insert_default()))
    }

    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether `more` bytes, and what is to be spare, are within the limit.
    pub(super) fn has_room(&self, used: u64, more: u64) -> bool {
        used.saturating_add(more).saturating_add(SPARE) <= self.limit.load(Ordering::Relaxed)
    }

    /// Room for a narinfo file while it is written; waits for its turn where no NAR file counts with it. `None` where
    /// it would stay, in addition to all others, and there is no room for one more.
    pub(super) fn narinfo(
        &self,
        stays: bool,
        count: impl Fn() -> io::Result<Used>,
    ) -> io::Result<Option<Writing<'_>>> {
        let mut used = self.open(&count)?;
        if used.awaits_narinfo() {
            used.writing += 1;
            return Ok(Some(Writing { ledger: self, _turn: None }));
        }
        drop(used);
        let turn = self.spare.lock();
        let mut used = self.open(&count)?;
        if stays && !used.awaits_narinfo() && !self.has_room(used.bytes(), NARINFO_BYTES) {
            return Ok(None);
        }
        used.writing += 1;
        Ok(Some(Writing { ledger: self, _turn: Some(turn) }))
    }
}

/// A narinfo that is being written.
#[derive(Debug)]
pub(super) struct Writing<'l> {
    ledger: &'l Ledger,
    _turn: Option<MutexGuard<'l, ()>>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(used) = self.ledger.used.lock().as_mut() {
            used.writing -= 1;
        }
    }
}
