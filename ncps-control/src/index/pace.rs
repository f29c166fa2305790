//! How many accesses are written and when: few at a time, evenly spread, so that neither the disk nor a change that waits
//! for its transaction notices them.

use std::time::Duration;

use tokio::time::Instant;

/// In one transaction: rows of files and narinfos together. In no second, wherever it begins, are there more than 5,000.
const AT_ONCE: usize = 450;
/// From one transaction with accesses to the next.
const EVERY: Duration = Duration::from_millis(100);

/// When accesses are written next.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { next: now + EVERY }
    }

    /// From when on any may be written.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// How many may be written now, which counts as done.
    pub(super) fn take(&mut self, now: Instant) -> usize {
        if now < self.next {
            return 0;
        }
        self.next = now + EVERY;
        AT_ONCE
    }

    /// Those were not written: the next batch, which has a pause of its own, tries again.
    pub(super) fn again(&mut self, now: Instant) {
        self.next = now;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ncps_runtime::clock::UnixTime;

    use super::*;
    use crate::index::accesses::Accesses;

    #[test]
    fn in_no_second_more_than_the_most_is_written_and_what_waits_loses_nothing() {
        const FILES: u64 = 20_000;
        const MOST: usize = 5_000;
        let (start, mut accesses, mut written) = (Instant::now(), Accesses::default(), HashMap::new());
        let (mut pace, mut rows, mut last) = (Pace::new(start), Vec::new(), HashMap::new());
        // 100,000 reads a second for ten seconds, in steps of a millisecond, and then silence.
        for millis in 0..20_000_u64 {
            let now = start + Duration::from_millis(millis);
            let reads = if millis < 10_000 { 100 } else { 0 };
            for read in 0..reads {
                // Each file comes again and again, and no two steps have the same.
                let file = (millis * 7919 + read * 104_729) % FILES;
                accesses.note(file, UnixTime(millis as i64), usize::MAX);
                last.insert(file, UnixTime(millis as i64));
            }
            let some = accesses.take(pace.take(now));
            rows.push(some.len());
            written.extend(some);
        }
        assert!(rows.windows(1000).all(|second| second.iter().sum::<usize>() <= MOST));
        assert!(rows[..10_000].iter().sum::<usize>() > 8 * MOST, "it is used, too");
        assert_eq!(
            (accesses.len(), &written),
            (0, &last),
            "each file's last read is what its row says in the end"
        );
    }
}
