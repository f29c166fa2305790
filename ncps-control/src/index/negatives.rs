//! Paths that every upstream with a say called absent, and until when that is believed. Bounded: past the
//! limit the least used entries are forgotten, which costs a question upstream and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ncps_nix::StorePathHash;
use ncps_proto::Heard;
use quick_cache::sync::Cache;
use tokio::time::Instant;

/// At about 50 bytes each, 10 MB.
const LIMIT: usize = 200_000;

/// Believed absences.
pub(super) struct Negatives {
    entries: Cache<StorePathHash, Entry>,
    ttl: Duration,
    /// How often upstreams that had no say came back.
    returns: AtomicU64,
}

#[derive(Clone, Copy)]
struct Entry {
    until: Instant,
    /// The count of returns at which it was made, where somebody was not heard.
    tentative: Option<u64>,
}

impl Negatives {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { entries: Cache::new(LIMIT), ttl, returns: AtomicU64::new(0) }
    }

    /// Believes an absence from now on. Returns for how long: the TTL, give or take 10 %, so that a
    /// closure's absences don't all end at once.
    pub(super) fn put(&self, hash: StorePathHash, heard: Heard) -> Duration {
        let ttl = self.ttl.mul_f64(jitter());
        let tentative = (heard == Heard::Some).then(|| self.returns.load(Ordering::Relaxed));
        self.entries.insert(hash, Entry { until: Instant::now() + ttl, tentative });
        ttl
    }

    /// Somebody is back who had no say: what was called absent without anybody is not believed any more.
    pub(super) fn forget_tentative(&self) {
        self.returns.fetch_add(1, Ordering::Relaxed);
    }

    /// For how long the path is still believed absent.
    pub(super) fn get(&self, hash: StorePathHash) -> Option<Duration> {
        let entry = self.entries.get(&hash)?;
        let left = entry.until.saturating_duration_since(Instant::now());
        let outdated = entry.tentative.is_some_and(|made| made != self.returns.load(Ordering::Relaxed));
        if left.is_zero() || outdated {
            self.entries.remove(&hash);
            return None;
        }
        Some(left)
    }

    /// How many there are, those included that ran out and were not asked for since.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn remove(&self, hash: StorePathHash) {
        self.entries.remove(&hash);
    }
}

/// Between 0.9 and 1.1. Without randomness there is no jitter, which nobody is hurt by.
fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: StorePathHash = StorePathHash::from_bytes([7; 20]);

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_believed_for_its_ttl() {
        let negatives = Negatives::new(Duration::from_secs(60));
        let ttl = negatives.put(HASH, Heard::All);
        assert!((54..=66).contains(&ttl.as_secs()), "{ttl:?}");
        tokio::time::advance(ttl - Duration::from_millis(1)).await;
        assert_eq!(negatives.get(HASH), Some(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(negatives.get(HASH), None);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_the_ends() {
        let negatives = Negatives::new(Duration::from_secs(1000));
        let ends: std::collections::HashSet<_> = (0..20).map(|_| negatives.put(HASH, Heard::All)).collect();
        assert!(ends.len() > 1, "{ends:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_not_all_said_ends_with_a_return() {
        let negatives = Negatives::new(Duration::from_secs(60));
        negatives.put(HASH, Heard::Some);
        assert!(negatives.get(HASH).is_some());
        negatives.forget_tentative();
        assert_eq!(negatives.get(HASH), None);
        negatives.put(HASH, Heard::All);
        negatives.forget_tentative();
        assert!(negatives.get(HASH).is_some(), "all were heard");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_is_absent_no_longer() {
        let negatives = Negatives::new(Duration::from_secs(60));
        negatives.put(HASH, Heard::All);
        negatives.remove(HASH);
        assert_eq!(negatives.get(HASH), None);
    }
}
