//! When things were last read, until their rows say it. Merged: of each the last time counts, however often it was read,
//! and it keeps the place that it got first, so that nothing that is read all the time keeps others from being written.
//!
//! Bounded: past the limit what is read for the first time since its last row is forgotten. Evictions are planned by what
//! is in the memory of the fleet and miss nothing; a crash loses the order of what waits here. Absent: SQL, and when how
//! much is written (see [`super::pace`]).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use ncps_runtime::clock::UnixTime;

/// Times that wait, by what was read.
#[derive(Debug)]
pub(super) struct Accesses<K> {
    times: HashMap<K, UnixTime>,
    /// Each once, in the order in which they came.
    queue: VecDeque<K>,
}

impl<K> Default for Accesses<K> {
    fn default() -> Self {
        Accesses { times: HashMap::new(), queue: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> Accesses<K> {
    /// Something was read; forgotten when `limit` others wait already.
    pub(super) fn note(&mut self, key: K, at: UnixTime, limit: usize) {
        if let Some(known) = self.times.get_mut(&key) {
            *known = at;
        } else if self.times.len() < limit {
            self.times.insert(key, at);
            self.queue.push_back(key);
        }
    }

    /// When something was read, where that waits.
    pub(super) fn get(&self, key: K) -> Option<UnixTime> {
        self.times.get(&key).copied()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Those that wait for longest, at most `limit`.
    pub(super) fn take(&mut self, limit: usize) -> Vec<(K, UnixTime)> {
        let keys: Vec<K> = self.queue.drain(..limit.min(self.queue.len())).collect();
        keys.into_iter().filter_map(|key| self.times.remove_entry(&key)).collect()
    }

    /// They could not be written: they come first again. What was read meanwhile is later.
    pub(super) fn put_back(&mut self, taken: Vec<(K, UnixTime)>) {
        for (key, at) in taken.into_iter().rev() {
            if let Entry::Vacant(place) = self.times.entry(key) {
                place.insert(at);
                self.queue.push_front(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: usize = 100;

    fn noted(reads: &[(u32, i64)], limit: usize) -> Accesses<u32> {
        let mut accesses = Accesses::default();
        reads.iter().for_each(|(key, at)| accesses.note(*key, UnixTime(*at), limit));
        accesses
    }

    #[test]
    fn of_many_reads_the_last_time_counts_and_the_first_place() {
        let mut accesses = noted(&[(1, 10), (2, 20), (1, 30), (3, 40), (1, 50)], PLENTY);
        assert_eq!((accesses.len(), accesses.get(1)), (3, Some(UnixTime(50))));
        assert_eq!(accesses.take(2), [(1, UnixTime(50)), (2, UnixTime(20))]);
        accesses.note(1, UnixTime(60), PLENTY);
        assert_eq!(accesses.take(PLENTY), [(3, UnixTime(40)), (1, UnixTime(60))]);
        assert_eq!((accesses.len(), accesses.take(PLENTY)), (0, vec![]));
    }

    #[test]
    fn past_the_limit_only_what_waits_is_read_again() {
        let mut accesses = noted(&[(1, 10), (2, 20), (3, 30), (1, 40)], 2);
        assert_eq!(accesses.take(PLENTY), [(1, UnixTime(40)), (2, UnixTime(20))]);
    }

    #[test]
    fn what_was_not_written_comes_first_again_unless_it_was_read_since() {
        let mut accesses = noted(&[(1, 10), (2, 20), (3, 30)], PLENTY);
        let taken = accesses.take(2);
        accesses.note(2, UnixTime(40), PLENTY);
        accesses.put_back(taken);
        assert_eq!(accesses.take(PLENTY), [(1, UnixTime(10)), (3, UnixTime(30)), (2, UnixTime(40))]);
    }
}
