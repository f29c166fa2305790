//! What was counted within the last hour: sums, a few times a minute, in memory alone. Who shows them makes rates and
//! ratios of their differences, so that a sample that is missing makes nothing wrong.

use std::collections::VecDeque;
use std::time::Duration;

use ncps_proto::{Counter, Counts};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use serde::Serialize;

/// As often as edges report.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// An hour, and the sample before it.
const KEPT: usize = 361;

/// What of all counters is shown over time, in this order.
const SHOWN: [Counter; 8] = [
    Counter::NarinfoHits,
    Counter::NarinfoMisses,
    Counter::NarHits,
    Counter::NarMisses,
    Counter::NarBytesHit,
    Counter::NarBytesMissed,
    Counter::BytesSaved,
    Counter::BytesFetched,
];

/// The time, in seconds since 1970, and the sums at that time.
type Sample = (i64, [u64; SHOWN.len()]);

/// The samples of the last hour.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: Mutex<VecDeque<Sample>>,
}

/// As they are told: a name for each sum.
#[derive(Serialize)]
pub(super) struct Told {
    counters: [&'static str; SHOWN.len()],
    samples: Vec<Sample>,
}

impl History {
    /// Adds one, and returns it as it is told.
    pub(super) fn add(&self, counts: &Counts, now: UnixTime) -> Told {
        let sample = (now.0, SHOWN.map(|counter| counts.get(counter)));
        let mut samples = self.samples.lock();
        // The clock was set back: what was before has no place.
        if samples.back().is_some_and(|(at, _)| *at > now.0) {
            samples.clear();
        }
        samples.push_back(sample);
        if samples.len() > KEPT {
            samples.pop_front();
        }
        told(vec![sample])
    }

    pub(super) fn all(&self) -> Told {
        told(self.samples.lock().iter().copied().collect())
    }
}

fn told(samples: Vec<Sample>) -> Told {
    Told { counters: SHOWN.map(Counter::name), samples }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept_and_told_with_names() {
        let (history, mut counts) = (History::default(), Counts::default());
        for n in 0..2 * KEPT {
            counts.set(Counter::NarHits, n as u64);
            history.add(&counts, UnixTime(n as i64));
        }
        let told = history.all();
        let (first, last) = (told.samples[0], told.samples[KEPT - 1]);
        assert_eq!((told.samples.len(), first.0, last.0), (KEPT, KEPT as i64, 2 * KEPT as i64 - 1));
        history.add(&counts, UnixTime(7));
        assert_eq!(history.all().samples.len(), 1, "the clock was set back");
        let column = told.counters.iter().position(|name| *name == "nar_hits").expect("it is shown");
        assert_eq!(last.1[column], 2 * KEPT as u64 - 1);
    }
}
