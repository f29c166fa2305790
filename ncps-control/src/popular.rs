//! Which NAR files are read most: counted over the last hour from what edges report, in memory alone.
//!
//! Bounded: of each ten minutes only the most read files are remembered. Absent: which paths these files are of.

use std::collections::{HashMap, VecDeque};

use ncps_nix::NarFileName;
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;

/// How many seconds are counted together.
const SLOT: i64 = 600;
/// So many such times are remembered, the one that runs included.
const SLOTS: usize = 7;
/// Files of one such time; at twice as many those that were read least are forgotten.
const MOST: usize = 2048;

#[derive(Debug)]
struct Slot {
    number: i64,
    reads: HashMap<NarFileName, u64>,
}

impl Slot {
    fn note(&mut self, name: NarFileName, times: u32) {
        *self.reads.entry(name).or_default() += u64::from(times);
        if self.reads.len() >= 2 * MOST {
            self.reads = most(std::mem::take(&mut self.reads), MOST).into_iter().collect();
        }
    }
}

/// Reads of the last hour.
#[derive(Debug, Default)]
pub(crate) struct Popular {
    slots: Mutex<VecDeque<Slot>>,
}

impl Popular {
    /// An edge says how often clients read files since its last report.
    pub(crate) fn note(&self, reads: &[(NarFileName, u32)], now: UnixTime) {
        let number = now.0.div_euclid(SLOT);
        let mut slots = self.slots.lock();
        if slots.back().is_none_or(|slot| slot.number < number) {
            slots.push_back(Slot { number, reads: HashMap::new() });
            slots.retain(|slot| is_recent(slot, number));
        }
        // Where the clock was set back the last slot goes on.
        if let Some(slot) = slots.back_mut() {
            reads.iter().for_each(|(name, times)| slot.note(*name, *times));
        }
    }

    /// The files that were read most, and how often.
    pub(crate) fn top(&self, limit: usize, now: UnixTime) -> Vec<(NarFileName, u64)> {
        let number = now.0.div_euclid(SLOT);
        let mut all: HashMap<NarFileName, u64> = HashMap::new();
        for slot in self.slots.lock().iter().filter(|slot| is_recent(slot, number)) {
            slot.reads.iter().for_each(|(name, times)| *all.entry(*name).or_default() += times);
        }
        most(all, limit)
    }
}

fn is_recent(slot: &Slot, number: i64) -> bool {
    slot.number > number - SLOTS as i64
}

fn most(reads: HashMap<NarFileName, u64>, limit: usize) -> Vec<(NarFileName, u64)> {
    let mut reads: Vec<_> = reads.into_iter().collect();
    reads.sort_unstable_by_key(|(name, times)| (std::cmp::Reverse(*times), *name));
    reads.truncate(limit);
    reads
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: usize) -> NarFileName {
        let hash = FileHash(Sha256Hash::of(&seed.to_be_bytes()));
        NarFileName { hash, compression: Compression::Xz }
    }

    #[test]
    fn an_hour_is_added_up_and_what_was_before_is_forgotten() {
        let popular = Popular::default();
        popular.note(&[(file(1), 5), (file(2), 1)], UnixTime(10));
        popular.note(&[(file(2), 6)], UnixTime(3000));
        let (one, two) = ((file(1), 5), (file(2), 7));
        assert_eq!(popular.top(9, UnixTime(3600)), [two, one]);
        assert_eq!(popular.top(1, UnixTime(3600)), [two]);
        assert_eq!(popular.top(9, UnixTime(4200)), [(file(2), 6)]);
        assert_eq!(popular.top(9, UnixTime(100_000)), []);
        popular.note(&[(file(3), 1)], UnixTime(100_000));
        assert_eq!(popular.slots.lock().len(), 1);
    }

    #[test]
    fn of_very_many_the_most_read_are_remembered() {
        let popular = Popular::default();
        popular.note(&[(file(0), 3)], UnixTime(0));
        let many: Vec<_> = (1..10 * MOST).map(|seed| (file(seed), 1)).collect();
        popular.note(&many, UnixTime(1));
        assert!(popular.slots.lock()[0].reads.len() < 2 * MOST);
        assert_eq!(popular.top(1, UnixTime(2)), [(file(0), 3)]);
    }
}
