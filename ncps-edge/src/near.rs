//! The near cache: a bounded memory of narinfos as prepared bytes. A warm narinfo is served from here, with no
//! RPC, no disk and no lock held across an await. Absences are not kept: what was put anywhere is seen at once.
//!
//! What is from before a break of the session with control may be outdated. It stays, since it is better than nothing
//! where control can't be asked, and is replaced as it is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ncps_nix::{FileHash, NarFileName, NarInfo, NarInfoError, StorePathHash};
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

impl Served {
    /// What was rendered.
    ///
    /// # Errors
    /// Where it is none, which would be a mistake of ours.
    pub(crate) fn narinfo(&self) -> Result<NarInfo, NarInfoError> {
        NarInfo::parse(&self.body)
    }
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

/// A narinfo, and in which age of the cache control said it.
#[derive(Clone)]
struct Kept {
    served: Arc<Served>,
    age: u64,
}

impl Weighter<StorePathHash, Kept> for Weight {
    fn weight(&self, _hash: &StorePathHash, kept: &Kept) -> u64 {
        kept.served.body.len() as u64 + OVERHEAD
    }
}

/// Narinfos in memory.
pub struct NearCache {
    cache: Cache<StorePathHash, Kept, Weight>,
    /// Grows with every break: what is of a former age counts only where control can't be asked.
    age: AtomicU64,
    /// Grows with every invalidation: an answer from before one must not be kept after it.
    epoch: AtomicU64,
}

impl NearCache {
    /// At most `bytes`, overhead included.
    pub fn new(bytes: u64) -> NearCache {
        let entries = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(16);
        let cache = Cache::with_weighter(entries, bytes, Weight);
        NearCache { cache, age: AtomicU64::new(0), epoch: AtomicU64::new(0) }
    }

    pub fn get(&self, hash: StorePathHash) -> Option<Arc<Served>> {
        let age = self.age.load(Ordering::Acquire);
        self.cache.get(&hash).filter(|kept| kept.age == age).map(|kept| kept.served)
    }

    /// The same, and what is of a former age: for who can't ask control.
    pub(crate) fn of_any_age(&self, hash: StorePathHash) -> Option<Arc<Served>> {
        self.cache.get(&hash).map(|kept| kept.served)
    }

    /// Those that name a file, of any age. Looks at all that is near.
    pub(crate) fn naming(&self, name: NarFileName) -> Vec<Arc<Served>> {
        let kept = self.cache.iter().map(|(_, kept)| kept.served);
        kept.filter(|served| served.nar == name).collect()
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
        let (hash, age) = (served.hash, self.age.load(Ordering::Acquire));
        self.cache.insert(hash, Kept { served, age });
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

    /// After a break of the attach stream nobody knows what was missed: from here on control is asked for everything
    /// anew.
    pub(crate) fn outdate(&self) {
        self.age.fetch_add(1, Ordering::AcqRel);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets everything.
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
    fn what_is_outdated_is_there_for_who_can_not_ask() {
        let near = NearCache::new(1 << 20);
        let epoch = near.epoch();
        near.put(served(1), epoch);
        near.outdate();
        assert!(near.get(served(1).hash).is_none() && near.of_any_age(served(1).hash).is_some());
        near.put(served(2), epoch);
        assert!(near.of_any_age(served(2).hash).is_none(), "an answer from before the break");
        assert_eq!(near.naming(served(1).nar).len(), 1);
        near.put(served(1), near.epoch());
        assert!(near.get(served(1).hash).is_some());
        near.invalidate(&[served(1).hash]);
        assert!(near.of_any_age(served(1).hash).is_none());
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
