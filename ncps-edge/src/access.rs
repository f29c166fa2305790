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
    narinfos: Mutex<HashMap<StorePathHash, u32>>,
    nars: Mutex<HashMap<NarFileName, u32>>,
    hurry: Notify,
}

impl AccessLog {
    pub fn narinfo(&self, hash: StorePathHash) {
        count(&mut self.narinfos.lock(), hash);
    }

    pub fn nar(&self, name: NarFileName) {
        count(&mut self.nars.lock(), name);
    }

    /// Asks for a report now instead of in a few seconds.
    pub fn report_now(&self) {
        self.hurry.notify_one();
    }

    /// Waits until somebody asks for a report.
    pub(crate) async fn due(&self) {
        self.hurry.notified().await;
    }

    /// Everything so far; the log starts anew.
    pub fn take(&self) -> Accesses {
        Accesses {
            narinfos: std::mem::take(&mut *self.narinfos.lock()).into_iter().collect(),
            nars: std::mem::take(&mut *self.nars.lock()).into_iter().collect(),
        }
    }
}

fn count<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_add(1);
    } else if counts.len() < MOST {
        counts.insert(key, 1);
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
}
