//! From whom an edge may read a file of another edge, and in which order; and which placements are doubted. Pure:
//! events and `now` in, answers out.
//!
//! A doubt comes from an edge that did not get a file where it was sent to. It keeps others from being sent there, and
//! has the peer look; what the peer holds is for the peer alone to say. Absent: sessions and sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use ncps_nix::NarFileName;
use ncps_proto::Peer;

/// Peers that are named to one who asks.
const MOST: usize = 8;
/// For how long a doubt lasts that nothing dispels.
const DOUBT: Duration = Duration::from_secs(600);

/// An edge that holds a file and can be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) instance: &'a str,
    pub(super) url: &'a str,
    pub(super) zone: Option<&'a str>,
}

/// Who is asked first: those of the asker's zone, and among equals another one for each file and asker, so that no
/// holder serves everybody. Who asks is no peer of itself.
pub(super) fn in_order<'a>(
    asker: &str,
    zone: Option<&str>,
    name: NarFileName,
    holders: impl Iterator<Item = Holder<'a>>,
) -> Vec<Peer> {
    let mut others: Vec<_> = holders.filter(|holder| holder.instance != asker).collect();
    others.sort_by_key(|holder| {
        let is_near = zone.is_some() && holder.zone == zone;
        let lot = BuildHasherDefault::<DefaultHasher>::default().hash_one((asker, holder.instance, name));
        (!is_near, lot)
    });
    others.iter().take(MOST).map(Holder::peer).collect()
}

impl Holder<'_> {
    fn peer(&self) -> Peer {
        Peer { url: self.url.to_owned(), zone: self.zone.map(str::to_owned), holds: None }
    }
}

/// The placements that are doubted.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    since: BTreeMap<String, BTreeMap<NarFileName, Instant>>,
    /// The edges that are looking.
    looking: BTreeSet<String>,
}

impl Doubts {
    /// Doubts that an edge holds a file. Returns whether somebody has to have it look: it is not looking yet.
    pub(super) fn doubt(&mut self, instance: &str, name: NarFileName, now: Instant) -> bool {
        self.since.entry(instance.to_owned()).or_default().insert(name, now);
        self.looking.insert(instance.to_owned())
    }

    /// What an edge is to look at next; with nothing left it looks no more.
    pub(super) fn next(&mut self, instance: &str, seen: &BTreeSet<NarFileName>) -> Vec<NarFileName> {
        let doubted = self.since.get(instance);
        let left: Vec<_> =
            doubted.into_iter().flat_map(BTreeMap::keys).filter(|n| !seen.contains(n)).copied().collect();
        if left.is_empty() {
            self.looking.remove(instance);
        }
        left
    }

    pub(super) fn covers(&self, instance: &str, name: NarFileName) -> bool {
        self.since.get(instance).is_some_and(|names| names.contains_key(&name))
    }

    /// The edge said what it has of this name. Returns whether that was doubted.
    pub(super) fn settle(&mut self, instance: &str, name: NarFileName) -> bool {
        let Some(names) = self.since.get_mut(instance) else { return false };
        let was_doubted = names.remove(&name).is_some();
        if names.is_empty() {
            self.since.remove(instance);
        }
        was_doubted
    }

    /// Forgets what nobody dispelled for long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.since.retain(|_, names| {
            names.retain(|_, since| now.saturating_duration_since(*since) < DOUBT);
            !names.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[seed])), compression: Compression::Xz }
    }

    fn holder<'a>(instance: &'a str, zone: Option<&'a str>) -> Holder<'a> {
        Holder { instance, url: instance, zone }
    }

    fn urls(asker: &str, zone: Option<&str>, seed: u8, holders: &[Holder<'_>]) -> Vec<String> {
        in_order(asker, zone, file(seed), holders.iter().copied()).into_iter().map(|peer| peer.url).collect()
    }

    #[test]
    fn the_own_zone_comes_first_and_never_the_asker() {
        let holders =
            [holder("a", Some("x")), holder("b", Some("y")), holder("c", None), holder("d", Some("y"))];
        for seed in 0..20 {
            let order = urls("d", Some("y"), seed, &holders);
            assert_eq!(order[0], "b");
            assert_eq!(order.len(), 3, "{order:?}");
            assert!(!order.contains(&"d".to_owned()));
        }
        assert_eq!(urls("a", None, 1, &[holder("a", None)]), [""; 0]);
    }

    #[test]
    fn who_has_no_zone_has_no_neighbours() {
        let holders = [holder("a", None), holder("b", Some("x"))];
        let firsts: BTreeSet<_> = (0..50).map(|seed| urls("c", None, seed, &holders)[0].clone()).collect();
        assert_eq!(firsts.len(), 2, "no zone is no common zone");
    }

    #[test]
    fn equals_share_the_work_and_the_order_stays() {
        let holders = ["a", "b", "c"].map(|name| holder(name, None));
        let firsts: BTreeSet<_> = (0..50).map(|seed| urls("d", None, seed, &holders)[0].clone()).collect();
        assert_eq!(firsts.len(), 3);
        assert_eq!(urls("d", None, 1, &holders), urls("d", None, 1, &holders));
    }

    #[test]
    fn a_doubt_is_looked_into_once_and_ends() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        assert!(doubts.doubt("a", file(1), start), "nobody looks yet");
        assert!(!doubts.doubt("a", file(2), start), "it is looking");
        assert!(doubts.covers("a", file(1)) && !doubts.covers("b", file(1)));
        let mut seen: BTreeSet<_> = doubts.next("a", &BTreeSet::new()).into_iter().collect();
        assert_eq!(seen.len(), 2);
        assert!(doubts.settle("a", file(1)) && !doubts.settle("a", file(1)));
        assert!(!doubts.doubt("a", file(3), start));
        let next = doubts.next("a", &seen);
        assert_eq!(next, [file(3)]);
        seen.extend(next);
        assert!(doubts.next("a", &seen).is_empty());
        assert!(doubts.doubt("a", file(2), start), "it looks no more, so somebody has to tell it");
    }

    #[test]
    fn what_nothing_dispels_is_forgotten() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        doubts.doubt("a", file(1), start);
        doubts.expire(start + DOUBT - Duration::from_secs(1));
        assert!(doubts.covers("a", file(1)));
        doubts.expire(start + DOUBT);
        assert!(!doubts.covers("a", file(1)));
    }
}
