//! The time of day as a parameter.
//!
//! Whoever writes a time down or compares with one written down takes a [`Clock`]; tests hand in a
//! [`ManualClock`]. Knows seconds since 1970, and whether it was set. Absent: time zones, and intervals and timeouts
//! within a process, which are tokio's business.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Seconds since 1970-01-01 00:00:00 UTC, without leap seconds; negative before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// This time moved by whole seconds, kept within the range of `i64`.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// This time moved into the future; parts of a second are dropped.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        self.plus_seconds(i64::try_from(by.as_secs()).unwrap_or(i64::MAX))
    }

    /// This time moved into the past; parts of a second are dropped.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        self.plus_seconds(-i64::try_from(by.as_secs()).unwrap_or(i64::MAX))
    }

    /// How long after `earlier` this is; zero when it isn't after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let seconds = self.0.saturating_sub(earlier.0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who knows what time it is.
pub trait Clock: Send + Sync {
    /// The present moment. May go backwards: the machine's clock can be set.
    fn now(&self) -> UnixTime;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> UnixTime {
        (**self).now()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        UnixTime(seconds)
    }
}

/// Whether the clock goes on as time passes, from one look to the next.
#[derive(Debug)]
pub struct Pace {
    at: UnixTime,
    seen: Instant,
}

impl Pace {
    /// Clocks are kept right in steps smaller than this.
    const TOLERANCE: i64 = 5;

    /// From now on.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), seen: Instant::now() }
    }

    /// By how many seconds the clock was set since the last look, back where it is negative; `None` where it was not.
    pub fn leap(&mut self, clock: &dyn Clock) -> Option<i64> {
        let now = Self::of(clock);
        let expected = self.at.plus(now.seen.duration_since(self.seen));
        let leap = now.at.0.saturating_sub(expected.0);
        *self = now;
        (leap.saturating_abs() > Self::TOLERANCE).then_some(leap)
    }
}

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn at(at: UnixTime) -> Self {
        Self(Arc::new(AtomicI64::new(at.0)))
    }

    /// Moves the clock forward; parts of a second are dropped.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: UnixTime) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(UnixTime(100));
        let same = clock.clone();
        same.advance(Duration::from_secs(20));
        assert_eq!(clock.now(), UnixTime(120));
        clock.set(UnixTime(-5));
        assert_eq!(same.now(), UnixTime(-5));
    }

    #[test]
    fn differences_never_go_below_zero_and_sums_never_wrap() {
        let (early, late) = (UnixTime(10), UnixTime(70));
        assert_eq!(late.since(early), Duration::from_secs(60));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.plus(Duration::MAX), UnixTime(i64::MAX));
        assert_eq!(UnixTime(-10).minus(Duration::MAX), UnixTime(i64::MIN));
        assert_eq!(late.minus(Duration::from_secs(60)), early);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_once() {
        let clock = ManualClock::at(UnixTime(1_000_000));
        let mut pace = Pace::of(&clock);
        let mut after_a_minute = async |moved: i64| {
            tokio::time::advance(Duration::from_secs(60)).await;
            clock.set(clock.now().plus_seconds(moved));
            pace.leap(&clock)
        };
        assert_eq!(after_a_minute(60).await, None);
        assert_eq!(after_a_minute(63).await, None, "kept right");
        assert_eq!(after_a_minute(3600).await, Some(3540));
        assert_eq!(after_a_minute(60).await, None);
        assert_eq!(after_a_minute(-86_400).await, Some(-86_460));
        assert_eq!(after_a_minute(60).await, None);
    }

    #[test]
    fn the_machine_is_past_the_year_2020() {
        assert!(SystemClock.now() > UnixTime(1_577_836_800));
    }
}
