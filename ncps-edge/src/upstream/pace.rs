//! How fast an upstream answers: a moving average over its heads, so that among upstreams of one priority the
//! fast one is asked first. One that was never measured counts as fast, and so is measured soon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Of a new measurement in the average.
const WEIGHT: f64 = 0.2;
/// Differences below this are noise, and must not make the order flicker.
const STEP: f64 = 0.010;

/// Seconds as the bits of a float; 0 before the first measurement.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// An answer, or giving up on one, took so long.
    pub(super) fn took(&self, time: Duration) {
        let before = f64::from_bits(self.0.load(Ordering::Relaxed));
        let now = time.as_secs_f64();
        let average = if before == 0.0 { now } else { before + WEIGHT * (now - before) };
        // Two at once may lose one measurement, which is no harm.
        self.0.store(average.to_bits(), Ordering::Relaxed);
    }

    /// What it takes; `None` before the first measurement.
    pub(super) fn average(&self) -> Option<Duration> {
        let seconds = f64::from_bits(self.0.load(Ordering::Relaxed));
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
    }

    /// What it takes, in steps of 10 ms.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are small and positive"
    )]
    pub(super) fn typical(&self) -> u64 {
        (f64::from_bits(self.0.load(Ordering::Relaxed)) / STEP) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_answer_is_not_yet_a_slow_upstream() {
        let pace = Pace::default();
        assert_eq!(pace.typical(), 0);
        pace.took(Duration::from_millis(55));
        assert_eq!(pace.typical(), 5);
        pace.took(Duration::from_millis(155));
        assert_eq!(pace.typical(), 7);
        for _ in 0..40 {
            pace.took(Duration::from_millis(255));
        }
        assert_eq!(pace.typical(), 25);
    }
}
