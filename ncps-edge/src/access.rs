//! What was served, counted in memory until the next report to control. Bounded: past it a sample is dropped,
//! a reader never waits.

use std::collections::HashMap;
use std::hash::Hash;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::Accesses;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Different paths, and different NAR files, per report.
const MOST: usize = 50_000;

/// Hits since the last report.
#[derive(Debug, Default)]
pub struct AccessLog {
    narinfos: Mutex<Counts<StorePathHash>>,
    nars: Mutex<Counts<NarFileName>>,
    hurry: Notify,
}

impl AccessLog {
    pub fn narinfo(&self, hash: StorePathHash) {
        self.narinfos.lock().count(hash);
    }

    pub fn nar(&self, name: NarFileName) {
        self.nars.lock().count(name);
    }

    /// Asks for a report now instead of in a few seconds.
    pub fn report_now(&self) {
        self.hurry.notify_one();
    }

    /// Waits until somebody asks for a report.
    pub(crate) async fn due(&self) {
        self.hurry.notified().await;
    }

    /// Everything so far, in the order of the last hits; the log starts anew.
    pub fn take(&self) -> Accesses {
        Accesses {
            narinfos: std::mem::take(&mut *self.narinfos.lock()).in_order(),
            nars: std::mem::take(&mut *self.nars.lock()).in_order(),
        }
    }
}

/// How often, and which hit was the last.
#[derive(Debug)]
struct Counts<K> {
    hits: HashMap<K, (u32, u64)>,
    all: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts { hits: HashMap::new(), all: 0 }
    }
}

impl<K: Hash + Eq> Counts<K> {
    fn count(&mut self, key: K) {
        self.all += 1;
        if let Some((count, last)) = self.hits.get_mut(&key) {
            (*count, *last) = (count.saturating_add(1), self.all);
        } else if self.hits.len() < MOST {
            self.hits.insert(key, (1, self.all));
        }
    }

    fn in_order(self) -> Vec<(K, u32)> {
        let mut hits: Vec<_> = self.hits.into_iter().collect();
        hits.sort_unstable_by_key(|(_, (_, last))| *last);
        hits.into_iter().map(|(key, (count, _))| (key, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_starts_anew() {
        let (log, hash) = (AccessLog::default(), StorePathHash::from_bytes([1; 20]));
        log.narinfo(hash);
        log.narinfo(hash);
        assert_eq!(log.take().narinfos, vec![(hash, 2)]);
        assert!(log.take().is_empty());
    }

    #[test]
    fn the_last_hit_says_the_order() {
        let (log, hash) = (AccessLog::default(), |n| StorePathHash::from_bytes([n; 20]));
        [1, 2, 3, 1].into_iter().for_each(|n| log.narinfo(hash(n)));
        assert_eq!(log.take().narinfos, vec![(hash(2), 1), (hash(3), 1), (hash(1), 2)]);
    }
}
