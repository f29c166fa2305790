//! States that wait for their rows, and when things were last read: what a reader must see before it asks
//! the database.
//!
//! A state is put whole, so a later put of the same key simply replaces it, writing it may be repeated, and a
//! batch that fails loses nothing. Knows no SQL, no locks between use cases and no time.
//!
//! # Hidden contract
//! Batches are taken oldest first, and a narinfo's file must be written in the same batch or before. So a
//! file keeps the place in the queue that it got first, while a narinfo that is put again moves to the end:
//! the file that it names now was put before it. A file that is forgotten moves to the end, too, behind the narinfos
//! that named it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ncps_nix::{NarFileName, NarHash, NarInfo, StorePathHash};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::accesses::Accesses;
use crate::db::Batch;
use crate::record::{NarFile, file_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    File(NarFileName),
    Alias(NarFileName),
    Removal(StorePathHash, NarFileName),
    NarInfo(StorePathHash),
}

#[derive(Clone, Debug)]
enum State {
    File(Option<Arc<NarFile>>),
    Alias(Option<NarFileName>),
    Removal,
    NarInfo(Option<Arc<NarInfo>>),
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Tells a state that was put while its predecessor was being written.
    version: u64,
    /// Its place in the queue.
    place: u64,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    queue: BTreeMap<u64, Key>,
    last: u64,
    /// Counts batches that were written.
    settled: u64,
    accessed: Accesses<NarFileName>,
    served: Accesses<StorePathHash>,
}

/// States on their way into the database.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    inner: Mutex<Inner>,
    /// Something was put.
    pub(super) dirty: Notify,
    /// Something was read.
    pub(super) read: Notify,
    /// Something was written.
    pub(super) written: Notify,
}

/// The states of one batch, to be settled when it is written.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batch: Batch,
    versions: Vec<(Key, u64)>,
}

impl Overlay {
    /// `None` where the database knows; `Some(None)` where the narinfo is gone.
    pub(super) fn narinfo(&self, hash: StorePathHash) -> Option<Option<Arc<NarInfo>>> {
        match self.state(Key::NarInfo(hash))? {
            State::NarInfo(narinfo) => Some(narinfo),
            _ => None,
        }
    }

    /// `None` where the database knows; `Some(None)` where the file is forgotten.
    pub(super) fn file(&self, name: NarFileName) -> Option<Option<Arc<NarFile>>> {
        match self.state(Key::File(name))? {
            State::File(file) => Some(file),
            _ => None,
        }
    }

    pub(super) fn alias(&self, name: NarFileName) -> Option<Option<NarFileName>> {
        match self.state(Key::Alias(name))? {
            State::Alias(target) => Some(target),
            _ => None,
        }
    }

    fn state(&self, key: Key) -> Option<State> {
        self.inner.lock().entries.get(&key).map(|entry| entry.state.clone())
    }

    /// The waiting narinfos that name `name`. Looks at all that wait, which are a few thousand at most.
    pub(super) fn naming(&self, name: NarFileName) -> Vec<StorePathHash> {
        self.select(|key, state| match (key, state) {
            (Key::NarInfo(hash), State::NarInfo(Some(narinfo))) if file_of(narinfo) == name => Some(*hash),
            _ => None,
        })
    }

    /// The waiting files of a NAR.
    pub(super) fn files_of(&self, nar: NarHash) -> Vec<NarFileName> {
        self.select(|key, state| match (key, state) {
            (Key::File(name), State::File(Some(file))) if file.nar.is_some_and(|f| f.hash == nar) => {
                Some(*name)
            }
            _ => None,
        })
    }

    fn select<T>(&self, wanted: impl Fn(&Key, &State) -> Option<T>) -> Vec<T> {
        self.inner.lock().entries.iter().filter_map(|(key, entry)| wanted(key, &entry.state)).collect()
    }

    pub(super) fn put_narinfo(&self, hash: StorePathHash, narinfo: Option<Arc<NarInfo>>) {
        self.put(Key::NarInfo(hash), State::NarInfo(narinfo));
    }

    /// `None` forgets the file, which no narinfo names any more.
    pub(super) fn put_file(&self, name: NarFileName, file: Option<Arc<NarFile>>) {
        self.put(Key::File(name), State::File(file));
    }

    pub(super) fn put_alias(&self, name: NarFileName, target: Option<NarFileName>) {
        self.put(Key::Alias(name), State::Alias(target));
    }

    /// Remembers that a path, which had this file, is removed. Before the removal itself.
    pub(super) fn put_removal(&self, hash: StorePathHash, name: NarFileName) {
        self.put(Key::Removal(hash, name), State::Removal);
    }

    fn put(&self, key: Key, state: State) {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let version = inner.last;
        let is_gone = matches!(state, State::File(None));
        let former = inner.entries.get(&key).map(|entry| entry.place);
        let place = match (key, former) {
            (Key::File(_), Some(place)) if !is_gone => place,
            (Key::Alias(_), Some(place)) => place,
            (Key::File(_) | Key::Removal(..) | Key::NarInfo(_), Some(place)) => {
                inner.queue.remove(&place);
                version
            }
            (_, None) => version,
        };
        inner.queue.insert(place, key);
        inner.entries.insert(key, Entry { state, version, place });
        drop(inner);
        self.dirty.notify_one();
    }

    /// Notes when a file was read; forgotten when `limit` files wait already.
    pub(super) fn accessed(&self, name: NarFileName, at: UnixTime, limit: usize) {
        self.inner.lock().accessed.note(name, at, limit);
        self.read.notify_one();
    }

    /// Notes when a narinfo was served; forgotten when `limit` narinfos wait already.
    pub(super) fn served(&self, hash: StorePathHash, at: UnixTime, limit: usize) {
        self.inner.lock().served.note(hash, at, limit);
        self.read.notify_one();
    }

    /// When a file was read, where its row does not say it yet.
    pub(super) fn last_access(&self, name: NarFileName) -> Option<UnixTime> {
        self.inner.lock().accessed.get(name)
    }

    /// The same of a narinfo.
    pub(super) fn last_serving(&self, hash: StorePathHash) -> Option<UnixTime> {
        self.inner.lock().served.get(hash)
    }

    /// How many accesses wait.
    pub(super) fn accesses(&self) -> usize {
        let inner = self.inner.lock();
        inner.accessed.len() + inner.served.len()
    }

    /// Grows whenever anything leaves memory for its row.
    pub(super) fn settled(&self) -> u64 {
        self.inner.lock().settled
    }

    /// What was put so far, for [`Overlay::waits_for`].
    pub(super) fn mark(&self) -> u64 {
        self.inner.lock().last
    }

    /// Whether anything that was put up to a mark waits.
    pub(super) fn waits_for(&self, mark: u64) -> bool {
        self.inner.lock().queue.first_key_value().is_some_and(|(place, _)| *place <= mark)
    }

    /// How many states wait; accesses, which may be forgotten, don't count.
    pub(super) fn waiting(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// The oldest states, at most `limit`, which stay readable here, and so many `accesses` of either kind in turn.
    pub(super) fn take(&self, limit: usize, accesses: usize) -> Taken {
        let mut inner = self.inner.lock();
        let mut taken = Taken::default();
        let keys: Vec<Key> = inner.queue.values().take(limit).copied().collect();
        for key in keys {
            if let Some(entry) = inner.entries.get(&key) {
                taken.add(key, entry);
            }
        }
        let files = (accesses / 2).max(accesses.saturating_sub(inner.served.len()));
        taken.batch.accessed = inner.accessed.take(files);
        taken.batch.served = inner.served.take(accesses - taken.batch.accessed.len());
        taken
    }

    /// The batch is written: what was not put again meanwhile is the database's to know.
    pub(super) fn settle(&self, taken: &Taken) {
        let mut inner = self.inner.lock();
        inner.settled += 1;
        for (key, version) in &taken.versions {
            if inner.entries.get(key).is_some_and(|entry| entry.version == *version)
                && let Some(entry) = inner.entries.remove(key)
            {
                inner.queue.remove(&entry.place);
            }
        }
        drop(inner);
        self.written.notify_waiters();
    }

    /// The batch was not written: its accesses wait again, unless there are later ones.
    pub(super) fn put_back(&self, taken: Taken) {
        let mut inner = self.inner.lock();
        inner.accessed.put_back(taken.batch.accessed);
        inner.served.put_back(taken.batch.served);
    }
}

impl Taken {
    fn add(&mut self, key: Key, entry: &Entry) {
        self.versions.push((key, entry.version));
        match (key, &entry.state) {
            (Key::File(name), State::File(file)) => self.batch.files.push((name, file.clone())),
            (Key::Alias(name), State::Alias(target)) => self.batch.aliases.push((name, *target)),
            (Key::Removal(hash, name), State::Removal) => self.batch.removals.push((hash, name)),
            (Key::NarInfo(hash), State::NarInfo(narinfo)) => {
                self.batch.narinfos.push((hash, narinfo.clone()))
            }
            _ => debug_assert!(false, "a key with another's state"),
        }
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
