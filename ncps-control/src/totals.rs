//! What edges have counted, added up over their restarts and ours: in memory, with rows behind it.
//!
//! An edge says totals of its process; what its former processes counted is kept beside. So a report that is lost,
//! or said again to a control that was started anew, counts nothing twice.

use std::collections::BTreeMap;

use ncps_proto::{Counts, Totals};
use parking_lot::Mutex;

/// What one edge counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// The process that says `now`.
    pub(crate) run: String,
    pub(crate) now: Counts,
    /// By its former processes.
    pub(crate) before: Counts,
}

impl Counted {
    fn all(&self) -> Counts {
        self.before.plus(&self.now)
    }
}

/// What every edge ever counted, by its instance.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    edges: Mutex<BTreeMap<String, Counted>>,
    /// What was heard after a gap.
    late: Mutex<Counts>,
}

impl Tally {
    /// Goes on from the rows.
    pub(crate) fn new(edges: BTreeMap<String, Counted>) -> Tally {
        Tally { edges: Mutex::new(edges), late: Mutex::default() }
    }

    /// An edge says its totals. Returns what its rows must say, where that changed.
    pub(crate) fn hear(&self, instance: &str, totals: &Totals) -> Option<Counted> {
        let mut edges = self.edges.lock();
        let known = edges.entry(instance.to_owned()).or_default();
        let before = if known.run == totals.run { known.before } else { known.all() };
        let counted = Counted { run: totals.run.clone(), now: totals.counts, before };
        let changed = *known != counted;
        *known = counted.clone();
        changed.then_some(counted)
    }

    /// The same of the first totals of a session. What they add came when nobody heard of it, perhaps within hours.
    pub(crate) fn hear_late(&self, instance: &str, totals: &Totals) -> Option<Counted> {
        let mut late = self.late.lock();
        let before = self.of(instance);
        let counted = self.hear(instance, totals);
        *late = late.plus(&self.of(instance).minus(&before));
        counted
    }

    /// All edges together, without what was heard late: how fast this grows is how fast it happens.
    pub(crate) fn in_time(&self) -> Counts {
        let late = self.late.lock();
        self.sum().minus(&late)
    }

    /// All edges together.
    pub(crate) fn sum(&self) -> Counts {
        self.edges.lock().values().fold(Counts::default(), |sum, edge| sum.plus(&edge.all()))
    }

    /// One edge alone.
    pub(crate) fn of(&self, instance: &str) -> Counts {
        self.edges.lock().get(instance).map(Counted::all).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use ncps_proto::Counter;

    use super::*;

    fn totals(run: &str, hits: u64) -> Totals {
        let mut counts = Counts::default();
        counts.set(Counter::NarHits, hits);
        Totals { run: run.to_owned(), version: String::new(), counts, upstreams: Vec::new() }
    }

    fn hits(tally: &Tally) -> u64 {
        tally.sum().get(Counter::NarHits)
    }

    #[test]
    fn what_is_heard_late_counts_and_happens_at_no_time() {
        let tally = Tally::default();
        tally.hear_late("a", &totals("1", 1000));
        tally.hear("a", &totals("1", 1007));
        tally.hear_late("a", &totals("2", 50));
        assert_eq!((hits(&tally), tally.in_time().get(Counter::NarHits)), (1057, 7));
        tally.hear("a", &totals("2", 51));
        assert_eq!((hits(&tally), tally.in_time().get(Counter::NarHits)), (1058, 8));
    }

    #[test]
    fn restarts_add_up_and_repetitions_do_not() {
        let tally = Tally::default();
        assert!(tally.hear("a", &totals("1", 5)).is_some());
        assert!(tally.hear("a", &totals("1", 5)).is_none(), "nothing changed");
        tally.hear("a", &totals("1", 7));
        assert_eq!(hits(&tally), 7);
        tally.hear("a", &totals("2", 1));
        tally.hear("b", &totals("1", 10));
        assert_eq!((hits(&tally), tally.of("a").get(Counter::NarHits)), (18, 8));
    }

    #[test]
    fn a_control_that_starts_anew_counts_nothing_twice() {
        let tally = Tally::default();
        tally.hear("a", &totals("1", 5));
        let rows = tally.hear("a", &totals("2", 3)).expect("changed");
        let again = Tally::new(BTreeMap::from([("a".to_owned(), rows)]));
        assert_eq!(hits(&again), 8);
        again.hear("a", &totals("2", 4));
        assert_eq!(hits(&again), 9, "the edge went on meanwhile");
    }
}
