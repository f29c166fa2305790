//! How fast a job may read. Pure: bytes and the time in, a pause out.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// What a pause may make up for: after a longer one, nothing is owed from before it.
const BURST: Duration = Duration::from_secs(1);

/// A bound on bytes per second.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<NonZeroU64>,
    /// When everything that was read is paid for.
    paid: Instant,
}

impl Pace {
    /// `None` is as fast as it goes.
    pub(super) fn new(rate: Option<NonZeroU64>, now: Instant) -> Pace {
        Pace { rate, paid: now }
    }

    /// `bytes` were read: how long to wait before the next ones.
    pub(super) fn read(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(earliest) + cost;
        self.paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u64) -> (Pace, Instant) {
        let start = Instant::now();
        (Pace::new(NonZeroU64::new(rate), start), start)
    }

    #[test]
    fn no_more_than_the_rate_is_read_over_any_longer_time() {
        let (mut pace, start) = pace(1_000_000);
        let (mut now, mut bytes) = (start, 0);
        while now - start < Duration::from_secs(60) {
            // The disk is ten times as fast.
            now += Duration::from_millis(7);
            bytes += 70_000;
            now += pace.read(70_000, now);
        }
        let most = 1_000_000 * (now - start + BURST).as_secs_f64() as u64;
        assert!(bytes <= most && bytes > most * 9 / 10, "{bytes} of {most}");
    }

    #[test]
    fn a_long_pause_earns_no_long_burst() {
        let (mut pace, start) = pace(1_000);
        let now = start + Duration::from_secs(3600);
        assert_eq!(pace.read(1_000, now), Duration::ZERO);
        assert_eq!(pace.read(1_000, now), Duration::from_secs(1));
    }

    #[test]
    fn a_disk_that_is_slower_never_waits() {
        let (mut pace, start) = pace(1_000);
        for second in 1..100 {
            assert_eq!(pace.read(999, start + Duration::from_secs(second)), Duration::ZERO);
        }
    }

    #[test]
    fn without_a_rate_there_is_no_pause() {
        let mut pace = Pace::new(None, Instant::now());
        assert_eq!(pace.read(u64::MAX, Instant::now()), Duration::ZERO);
    }
}
