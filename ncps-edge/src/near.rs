//! The near cache: a bounded memory of narinfos as prepared bytes. A warm narinfo is served from here, with no
//! RPC, no disk and no lock held across an await. Absences are not kept: what was put anywhere is seen at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ncps_nix::{FileHash, NarFileName, NarInfo, StorePathHash};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// What an entry costs beside its text, roughly.
const OVERHEAD: u64 = 512;
/// What a narinfo weighs on average, to size the tables.
const TYPICAL: u64 = 2048;

/// A narinfo, rendered once.
#[derive(Debug)]
pub struct Served {
    pub hash: StorePathHash,
    /// The NAR file that it names.
    pub nar: NarFileName,
    pub body: Bytes,
}

impl From<&NarInfo> for Served {
    fn from(narinfo: &NarInfo) -> Self {
        Served { hash: narinfo.store_path.hash(), nar: named(narinfo), body: Bytes::from(narinfo.render()) }
    }
}

/// The file that a narinfo of ours names.
pub(crate) fn named(narinfo: &NarInfo) -> NarFileName {
    let hash = narinfo.file_hash.unwrap_or(FileHash(narinfo.nar_hash.0));
    NarFileName { hash, compression: narinfo.compression }
}

#[derive(Clone)]
struct Weight;

impl Weighter<StorePathHash, Arc<Served>> for Weight {
    fn weight(&self, _hash: &StorePathHash, served: &Arc<Served>) -> u64 {
        served.body.len() as u64 + OVERHEAD
    }
}

/// Narinfos in memory.
pub struct NearCache {
    cache: Cache<StorePathHash, Arc<Served>, Weight>,
    /// Grows with every invalidation: an answer from before one must not be kept after it.
    epoch: AtomicU64,
}

impl NearCache {
    /// At most `bytes`, overhead included.
    pub fn new(bytes: u64) -> NearCache {
        let entries = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(16);
        NearCache { cache: Cache::with_weighter(entries, bytes, Weight), epoch: AtomicU64::new(0) }
    }

    pub fn get(&self, hash: StorePathHash) -> Option<Arc<Served>> {
        self.cache.get(&hash)
    }

    /// The epoch to hand to [`NearCache::put`]; read it before asking control.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Keeps an answer, unless something was invalidated since `epoch`.
    pub fn put(&self, served: Arc<Served>, epoch: u64) {
        if self.epoch() != epoch {
            return;
        }
        let hash = served.hash;
        self.cache.insert(hash, served);
        // An invalidation that came in between did not see the entry.
        if self.epoch() != epoch {
            self.cache.remove(&hash);
        }
    }

    /// Forgets these narinfos.
    pub fn invalidate(&self, hashes: &[StorePathHash]) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for hash in hashes {
            self.cache.remove(hash);
        }
    }

    /// Forgets everything: after a break of the attach stream nobody knows what was missed.
    pub fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.cache.clear();
    }

    /// Bytes that they take, overhead included.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Narinfos in memory.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cache.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::{Compression, Sha256Hash};

    fn served(n: u8) -> Arc<Served> {
        let nar = NarFileName { hash: FileHash(Sha256Hash::of(&[n])), compression: Compression::None };
        Arc::new(Served {
            hash: StorePathHash::from_bytes([n; 20]),
            nar,
            body: Bytes::from(vec![b'x'; 1000]),
        })
    }

    #[test]
    fn an_answer_from_before_an_invalidation_is_not_kept() {
        let near = NearCache::new(1 << 20);
        let epoch = near.epoch();
        near.invalidate(&[served(1).hash]);
        near.put(served(1), epoch);
        assert!(near.get(served(1).hash).is_none());
        near.put(served(1), near.epoch());
        assert!(near.get(served(1).hash).is_some());
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let near = NearCache::new(64 << 10);
        for n in 0..=255 {
            near.put(served(n), near.epoch());
        }
        assert!(near.len() <= (64 << 10) / 1512, "{}", near.len());
    }
}
