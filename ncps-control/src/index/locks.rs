//! Turns between use cases that read and then change the same things. Readers take none.
//!
//! # Hidden contract
//! Files are locked before narinfos, each of them all at once: two use cases that follow this can't wait for
//! each other.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use ncps_nix::{NarFileName, StorePathHash};
use tokio::sync::{Mutex, MutexGuard};

/// Two keys share a stripe now and then, which costs a wait of less than a millisecond.
const STRIPES: usize = 64;

/// What a holder keeps while it has its turn.
pub(crate) type Held<'a> = Vec<MutexGuard<'a, ()>>;

/// The stripes of files and narinfos.
pub(super) struct Locks {
    files: [Mutex<()>; STRIPES],
    narinfos: [Mutex<()>; STRIPES],
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            files: std::array::from_fn(|_| Mutex::new(())),
            narinfos: std::array::from_fn(|_| Mutex::new(())),
        }
    }

    pub(super) async fn files(&self, names: impl IntoIterator<Item = NarFileName>) -> Held<'_> {
        lock_all(&self.files, names).await
    }

    pub(super) async fn narinfos(&self, hashes: impl IntoIterator<Item = StorePathHash>) -> Held<'_> {
        lock_all(&self.narinfos, hashes).await
    }
}

/// In the order of the stripes, each once.
async fn lock_all<K: Hash>(stripes: &[Mutex<()>; STRIPES], keys: impl IntoIterator<Item = K>) -> Held<'_> {
    let wanted: BTreeSet<usize> = keys.into_iter().map(|key| stripe(&key)).collect();
    let mut held = Vec::with_capacity(wanted.len());
    for stripe in wanted {
        held.push(stripes[stripe].lock().await);
    }
    held
}

fn stripe(key: &impl Hash) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(hash % STRIPES as u64).unwrap_or(0)
}
