//! What changed in the store and is not known to control for sure: names, each with the number under which it is said.
//!
//! A change says no more than "look at this file": what is said of it is how it is when it is said, and every change
//! is noted after it was done. So two changes at once may be noted in either order, and the last word is right.
//!
//! Bounded: past the limit the oldest changes are given up, and only a whole inventory says what they were.

use std::collections::{BTreeMap, HashMap};

use ncps_nix::NarFileName;

use super::dialogue::Ticket;

/// Changes that are remembered, at most.
const MOST: usize = 100_000;

/// Something that control does not know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file came, went, or both.
    File(NarFileName),
    /// An order was carried out, and these files went by it.
    Done { ticket: Ticket, gone: Vec<NarFileName> },
}

impl Change {
    /// The files that are to be looked at to say it.
    pub(super) fn names(&self) -> Vec<NarFileName> {
        match self {
            Change::File(name) => vec![*name],
            Change::Done { gone, .. } => gone.clone(),
        }
    }
}

/// The changes that control has not acknowledged, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Changes {
    last: u64,
    /// Those up to here are known from an inventory alone.
    floor: u64,
    open: BTreeMap<u64, Change>,
    files: HashMap<NarFileName, u64>,
}

impl Default for Changes {
    /// None. Numbers begin after 1, since 0 is said where nothing is counted.
    fn default() -> Changes {
        Changes { last: 1, floor: 0, open: BTreeMap::new(), files: HashMap::new() }
    }
}

impl Changes {
    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether every change after this one can be said.
    pub(super) fn reach_back_to(&self, number: u64) -> bool {
        (self.floor..=self.last).contains(&number)
    }

    /// Notes a change. A file that waits to be said is said once, under its last number.
    pub(super) fn note(&mut self, change: Change) {
        self.last += 1;
        if let Change::File(name) = &change
            && let Some(former) = self.files.insert(*name, self.last)
        {
            self.open.remove(&former);
        }
        self.open.insert(self.last, change);
        if self.open.len() > MOST {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.floor = self.last;
        self.open.clear();
        self.files.clear();
    }

    /// The first change after this number.
    pub(super) fn after(&self, number: u64) -> Option<(u64, &Change)> {
        self.open.range(number + 1..).next().map(|(number, change)| (*number, change))
    }

    /// Control knows the changes up to this number: they are forgotten, and can't be said any more.
    pub(super) fn known(&mut self, number: u64) {
        let number = number.min(self.last);
        self.floor = self.floor.max(number);
        let open = self.open.split_off(&(number + 1));
        for change in std::mem::replace(&mut self.open, open).into_values() {
            if let Change::File(name) = change
                && self.files.get(&name).is_some_and(|last| *last <= number)
            {
                self.files.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: usize) -> NarFileName {
        let hash = FileHash(Sha256Hash::of(&seed.to_le_bytes()));
        NarFileName { hash, compression: Compression::None }
    }

    fn open(changes: &Changes) -> Vec<u64> {
        changes.open.keys().copied().collect()
    }

    #[test]
    fn a_file_is_said_once_under_its_last_number() {
        let mut changes = Changes::default();
        [1, 2, 1].into_iter().for_each(|seed| changes.note(Change::File(file(seed))));
        assert_eq!(open(&changes), [3, 4]);
        assert_eq!(changes.after(3), Some((4, &Change::File(file(1)))));
        assert_eq!(changes.after(4), None);
    }

    #[test]
    fn what_is_known_is_forgotten_and_the_rest_can_be_said() {
        let mut changes = Changes::default();
        [1, 2, 1].into_iter().for_each(|seed| changes.note(Change::File(file(seed))));
        changes.known(3);
        assert_eq!(open(&changes), [4]);
        assert!(!changes.reach_back_to(2) && changes.reach_back_to(3) && changes.reach_back_to(4));
        assert!(!changes.reach_back_to(5), "nobody knows more than there is");
        changes.known(9);
        changes.note(Change::File(file(1)));
        assert_eq!(open(&changes), [5]);
    }

    #[test]
    fn past_the_limit_they_are_given_up() {
        let mut changes = Changes::default();
        (0..=MOST).for_each(|seed| changes.note(Change::File(file(seed))));
        assert!(open(&changes).is_empty() && changes.files.is_empty());
        assert!(!changes.reach_back_to(0) && changes.reach_back_to(changes.last()));
    }
}
