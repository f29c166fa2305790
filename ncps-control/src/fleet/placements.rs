//! Who is believed to hold which NAR file. A pure state machine over what edges say; a hint, since an edge's
//! disk decides.
//!
//! An edge says what it holds in pages after each attach. Until the last page, what it said before is
//! believed as well; then whatever it did not say again is forgotten. Of an edge that is gone everything is
//! remembered for an hour, in case it was a broken link, and counted no longer; when it is back in time it says what
//! changed since, unless more is wanted of it. Absent on purpose: turns (see
//! [`crate::leases`]) and sockets.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::HeldNar;

use super::holders::Holders;
use crate::eviction::plan::Access;
use crate::record::Standing;

/// How long the holdings of an edge that is gone are remembered.
pub(crate) const MEMORY: Duration = Duration::from_secs(3600);

/// Narinfos that one edge may have missed, at most. Past it the edge says all that it holds.
const MOST_MISSED: usize = 10_000;

#[derive(Debug, Default)]
struct Edge {
    /// Since when it is gone; `None` while it is attached.
    gone: Option<Instant>,
    name: String,
    /// Its disk is kept: uploads may rest there.
    durable: bool,
    /// It is to leave the fleet: what it holds is no copy to count on.
    leaves: bool,
    /// Counts its inventories, so that the last page tells what was not said again.
    inventory: u64,
    held: HashMap<NarFileName, Held>,
    /// Files that it was told to remove and has not answered for, and by how many orders.
    going: HashMap<NarFileName, u32>,
    /// What it holds is known up to this report; `None`: it has to say all.
    heard: Option<u64>,
    /// Paths of which it may not have heard that their narinfos changed.
    missed: BTreeSet<StorePathHash>,
}

impl Edge {
    fn miss(&mut self, paths: impl IntoIterator<Item = StorePathHash>) {
        if self.heard.is_some() {
            self.missed.extend(paths);
        }
        if self.missed.len() > MOST_MISSED {
            self.says_all();
        }
    }

    fn says_all(&mut self) {
        self.heard = None;
        self.missed.clear();
    }
}

/// A file in an edge's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// In which inventory the edge said so.
    inventory: u64,
    /// On disk, without its narinfo.
    pub(crate) disk_bytes: u64,
    pub(crate) accessed: Access,
    pub(crate) standing: Standing,
}

/// What every edge holds.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    edges: HashMap<String, Edge>,
    holders: Holders,
}

impl Edge {
    /// Whether its copy of a file is one to count on: not what it said to a former session, of which it has not said
    /// yet whether it is still so.
    fn counts(&self, name: NarFileName) -> bool {
        let is_here = self.gone.is_none() && !self.leaves && !self.going.contains_key(&name);
        let is_said = |held: &Held| self.heard.is_some() || held.inventory == self.inventory;
        is_here && self.held.get(&name).is_some_and(is_said)
    }
}

impl Placements {
    /// An edge is there and begins to say what it holds. What it was told to remove before it has heard, or never will.
    pub(crate) fn attached(&mut self, instance: &str, name: &str, durable: bool) {
        let edge = self.edges.entry(instance.to_owned()).or_default();
        (edge.gone, edge.durable) = (None, durable);
        name.clone_into(&mut edge.name);
        edge.inventory += 1;
        edge.going.clear();
    }

    /// An edge that is there says what changed after a report that it knows to be `heard`, or everything. Returns up to
    /// which report it is known what it holds, where it is.
    pub(crate) fn resumes(&mut self, instance: &str, heard: Option<u64>) -> Option<u64> {
        let edge = self.edges.get_mut(instance)?;
        if heard.is_none_or(|heard| edge.heard.is_none_or(|known| known < heard)) {
            edge.says_all();
        }
        edge.heard
    }

    /// Whether an edge is attached, or remembered.
    pub(crate) fn knows(&self, instance: &str) -> bool {
        self.edges.contains_key(instance)
    }

    /// Up to which report it is known what an edge holds.
    pub(crate) fn heard(&self, instance: &str) -> Option<u64> {
        self.edges.get(instance)?.heard
    }

    /// A report was dealt with. False where more is to be said before it counts.
    pub(crate) fn dealt_with(&mut self, instance: &str, report: u64) -> bool {
        let Some(edge) = self.edges.get_mut(instance) else { return false };
        edge.heard = edge.heard.map(|heard| heard.max(report));
        edge.heard.is_some()
    }

    /// Narinfos changed, which an edge may not have heard.
    pub(crate) fn misses(&mut self, instance: &str, paths: impl IntoIterator<Item = StorePathHash>) {
        if let Some(edge) = self.edges.get_mut(instance) {
            edge.miss(paths);
        }
    }

    /// The same of every edge that is away.
    pub(crate) fn all_away_miss(&mut self, paths: &[StorePathHash]) {
        self.away().for_each(|edge| edge.miss(paths.iter().copied()));
    }

    /// What an edge may have missed, which is told to it now.
    pub(crate) fn missed(&mut self, instance: &str) -> Vec<StorePathHash> {
        let missed = self.edges.get_mut(instance).map(|edge| std::mem::take(&mut edge.missed));
        missed.into_iter().flatten().collect()
    }

    /// What changed is not enough to know what an edge holds.
    pub(crate) fn says_all(&mut self, instance: &str) {
        self.edges.get_mut(instance).into_iter().for_each(Edge::says_all);
    }

    /// The same of every edge that is away.
    pub(crate) fn all_away_say_all(&mut self) {
        self.away().for_each(Edge::says_all);
    }

    fn away(&mut self) -> impl Iterator<Item = &mut Edge> {
        self.edges.values_mut().filter(|edge| edge.gone.is_some())
    }

    /// A page of its inventory. Returns what is forgotten at its end.
    pub(crate) fn page(
        &mut self,
        instance: &str,
        held: impl IntoIterator<Item = (HeldNar, Access)>,
        last: bool,
    ) -> Vec<NarFileName> {
        for (held, accessed) in held {
            self.committed(instance, held, accessed);
        }
        if last { self.forget_unsaid(instance) } else { Vec::new() }
    }

    /// A file came into its store. Of an edge that was never attached nothing is noted: its inventory will
    /// say it.
    pub(crate) fn committed(
        &mut self,
        instance: &str,
        HeldNar { name, disk_bytes, .. }: HeldNar,
        at: Access,
    ) {
        let Some(edge) = self.edges.get_mut(instance) else { return };
        let known = edge.held.get(&name);
        let accessed = known.map_or(at, |known| known.accessed.max(at));
        let standing = known.map(|known| known.standing).unwrap_or_default();
        edge.held.insert(name, Held { inventory: edge.inventory, disk_bytes, accessed, standing });
        self.holders.put(name, instance);
    }

    /// It read a file. False where it is not believed to hold one of this name.
    pub(crate) fn accessed(&mut self, instance: &str, name: NarFileName, at: Access) -> bool {
        let held = self.edges.get_mut(instance).and_then(|edge| edge.held.get_mut(&name));
        held.map(|held| held.accessed = held.accessed.max(at)).is_some()
    }

    /// What would be lost with a file, wherever it is.
    pub(crate) fn stands(&mut self, name: NarFileName, standing: Standing) {
        for instance in self.holders.of(name) {
            let held = self.edges.get_mut(instance).and_then(|edge| edge.held.get_mut(&name));
            held.into_iter().for_each(|held| held.standing = standing);
        }
    }

    /// Whether a copy of a file at an edge is one too many: another attached edge holds it that is not about to lose it;
    /// of an upload, one whose disk is kept.
    pub(crate) fn is_spare(&self, instance: &str, name: NarFileName, uploaded: bool) -> bool {
        let others = self.holders.of(name).filter(|other| *other != instance);
        let mut edges = others.filter_map(|other| self.edges.get(other));
        edges.any(|edge| edge.counts(name) && (edge.durable || !uploaded))
    }

    /// An edge was told to remove these files, or answered that. What is there of them meanwhile, even what came after
    /// the order, is no copy to count on.
    pub(crate) fn going(&mut self, instance: &str, names: &[NarFileName], going: bool) {
        let Some(edge) = self.edges.get_mut(instance) else { return };
        for name in names {
            let orders = edge.going.get(name).copied().unwrap_or(0);
            match if going { orders + 1 } else { orders.saturating_sub(1) } {
                0 => edge.going.remove(name),
                left => edge.going.insert(*name, left),
            };
        }
    }

    /// The edges whose disks are kept that are believed to hold a file: attached, or away for less than an hour.
    pub(crate) fn kept_by(&self, name: NarFileName) -> impl Iterator<Item = &str> {
        self.holders.of(name).filter(|instance| self.keeps(instance))
    }

    /// An edge is to leave the fleet, or stays after all.
    pub(crate) fn leaves(&mut self, instance: &str, leaves: bool) {
        self.edges.get_mut(instance).into_iter().for_each(|edge| edge.leaves = leaves);
    }

    /// Other instances of this name, which are away.
    pub(crate) fn namesakes(&self, name: &str, instance: &str) -> Vec<String> {
        let away = self.edges.iter().filter(|(other, edge)| edge.name == name && *other != instance);
        away.filter(|(_, edge)| edge.gone.is_some()).map(|(other, _)| other.clone()).collect()
    }

    /// The instance of an edge that is away, by its name: the last one to go.
    pub(crate) fn remembered(&self, name: &str) -> Option<String> {
        let away = self.edges.iter().filter(|(_, edge)| edge.name == name && edge.gone.is_some());
        away.max_by_key(|(_, edge)| edge.gone).map(|(instance, _)| instance.clone())
    }

    /// Forgets an edge with all that it holds, which is returned.
    pub(crate) fn forget_edge(&mut self, instance: &str) -> Vec<NarFileName> {
        let held = self.edges.remove(instance).map(|edge| edge.held).unwrap_or_default();
        held.keys().for_each(|name| self.forget(instance, *name));
        held.into_keys().collect()
    }

    /// Whether an attached edge holds a file; where it was `uploaded`, one whose disk is kept.
    pub(crate) fn has(&self, name: NarFileName, uploaded: bool) -> bool {
        self.holders_of(name).any(|edge| edge.gone.is_none() && (edge.durable || !uploaded))
    }

    /// Whether any edge keeps its disk, those included that are away for less than an hour.
    pub(crate) fn is_any_durable(&self) -> bool {
        self.edges.values().any(|edge| edge.durable)
    }

    /// Whether an edge's disk is kept. One that was never attached has none that counts.
    pub(crate) fn keeps(&self, instance: &str) -> bool {
        self.edges.get(instance).is_some_and(|edge| edge.durable)
    }

    fn holders_of(&self, name: NarFileName) -> impl Iterator<Item = &Edge> {
        self.holders.of(name).filter_map(|instance| self.edges.get(instance))
    }

    /// A file left its store. Returns the bytes on disk that are believed to be free now.
    pub(crate) fn evicted(&mut self, instance: &str, name: NarFileName) -> u64 {
        let held = self.edges.get_mut(instance).and_then(|edge| edge.held.remove(&name));
        self.forget(instance, name);
        held.map_or(0, |held| held.disk_bytes)
    }

    /// What it is believed to hold.
    pub(crate) fn held_by(&self, instance: &str) -> impl Iterator<Item = (NarFileName, Held)> {
        self.edges.get(instance).into_iter().flat_map(|edge| edge.held.iter().map(|(n, h)| (*n, *h)))
    }

    /// How many files it is believed to hold.
    pub(crate) fn count(&self, instance: &str) -> usize {
        self.edges.get(instance).map_or(0, |edge| edge.held.len())
    }

    /// The same of all edges, those included that are gone.
    pub(crate) fn files(&self) -> usize {
        self.edges.values().map(|edge| edge.held.len()).sum()
    }

    /// What it is believed to hold of one name.
    pub(crate) fn held(&self, instance: &str, name: NarFileName) -> Option<Held> {
        self.edges.get(instance)?.held.get(&name).copied()
    }

    /// The edge is there no longer.
    pub(crate) fn detached(&mut self, instance: &str, now: Instant) {
        if let Some(edge) = self.edges.get_mut(instance) {
            edge.gone = Some(now);
        }
    }

    /// Forgets edges that are gone for long. Returns what each of them held.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(String, Vec<NarFileName>)> {
        let is_over =
            |edge: &Edge| edge.gone.is_some_and(|gone| now.saturating_duration_since(gone) >= MEMORY);
        let over: Vec<String> =
            self.edges.iter().filter(|(_, e)| is_over(e)).map(|(i, _)| i.clone()).collect();
        let mut forgotten = Vec::new();
        for instance in over {
            let held = self.forget_edge(&instance);
            forgotten.push((instance, held));
        }
        forgotten
    }

    /// The attached edges that hold a file, in the order of their instances.
    pub(crate) fn holders(&self, name: NarFileName) -> Vec<&str> {
        let attached = |instance: &&str| self.edges.get(*instance).is_some_and(|edge| edge.gone.is_none());
        let mut holders: Vec<&str> = self.holders.of(name).filter(attached).collect();
        holders.sort_unstable();
        holders
    }

    /// Whether any edge is believed to hold a file, those included that are gone.
    pub(crate) fn is_remembered(&self, name: NarFileName) -> bool {
        self.holders.any(name)
    }

    fn forget_unsaid(&mut self, instance: &str) -> Vec<NarFileName> {
        let Some(edge) = self.edges.get_mut(instance) else { return Vec::new() };
        let current = edge.inventory;
        edge.heard = Some(0);
        let unsaid = edge.held.iter().filter(|(_, held)| held.inventory < current).map(|(n, _)| *n);
        let mut unsaid: Vec<NarFileName> = unsaid.collect();
        unsaid.sort_unstable();
        for name in &unsaid {
            edge.held.remove(name);
        }
        unsaid.iter().for_each(|name| self.forget(instance, *name));
        unsaid
    }

    fn forget(&mut self, instance: &str, name: NarFileName) {
        self.holders.remove(name, instance);
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[seed])), compression: Compression::Zstd }
    }

    fn held(seed: u8) -> HeldNar {
        HeldNar { name: file(seed), file_size: 1, disk_bytes: 4096 }
    }

    fn at(seconds: i64) -> Access {
        Access { at: ncps_runtime::clock::UnixTime(seconds), order: 0 }
    }

    /// A page of files that were never read.
    fn page<const N: usize>(seeds: [u8; N]) -> [(HeldNar, Access); N] {
        seeds.map(|seed| (held(seed), at(0)))
    }

    #[test]
    fn inventories_and_commits_place_files() {
        let mut placements = Placements::default();
        placements.attached("a", "a", true);
        placements.page("a", page([1, 2]), false);
        placements.page("a", page([3]), true);
        placements.attached("b", "b", true);
        placements.committed("b", held(1), at(0));
        assert_eq!(placements.holders(file(1)), ["a", "b"]);
        assert_eq!(placements.holders(file(3)), ["a"]);
        assert_eq!(placements.holders(file(4)), [""; 0]);
    }

    #[test]
    fn a_new_inventory_replaces_the_old_one_at_its_end() {
        let mut placements = Placements::default();
        placements.attached("a", "a", true);
        placements.page("a", page([1, 2]), true);
        placements.detached("a", Instant::now());
        placements.attached("a", "a", true);
        placements.page("a", page([2]), false);
        assert_eq!(placements.holders(file(1)), ["a"], "not yet said to be gone");
        placements.committed("a", held(3), at(0));
        placements.page("a", page([]), true);
        assert_eq!(placements.holders(file(1)), [""; 0]);
        assert_eq!((placements.holders(file(2)), placements.holders(file(3))), (vec!["a"], vec!["a"]));
    }

    #[test]
    fn nothing_is_noted_of_an_edge_that_never_attached() {
        let mut placements = Placements::default();
        placements.committed("a", held(1), at(0));
        assert_eq!(placements.holders(file(1)), [""; 0]);
        assert!(placements.edges.is_empty() && placements.holders.is_empty());
    }

    #[test]
    fn an_edge_that_is_gone_counts_not_but_is_remembered_for_an_hour() {
        let (mut placements, start) = (Placements::default(), Instant::now());
        placements.attached("a", "a", true);
        placements.page("a", page([1]), true);
        placements.detached("a", start);
        assert_eq!(placements.holders(file(1)), [""; 0]);
        placements.expire(start + MEMORY - Duration::from_secs(1));
        placements.attached("a", "a", true);
        assert_eq!(placements.holders(file(1)), ["a"], "it came back in time");
        placements.detached("a", start);
        placements.expire(start + MEMORY);
        placements.attached("a", "a", true);
        assert_eq!(placements.holders(file(1)), [""; 0], "it was away too long");
        assert!(placements.holders.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_files_standing_is_the_same_everywhere_and_outlives_an_inventory() {
        let mut placements = Placements::default();
        placements.stands(file(1), Standing::Promised);
        for instance in ["a", "b"] {
            placements.attached(instance, instance, true);
            placements.page(instance, page([1, 2]), true);
        }
        let of = |placements: &Placements, instance, seed| {
            placements.held(instance, file(seed)).expect("it is there").standing
        };
        assert_eq!(of(&placements, "a", 1), Standing::Replaceable, "nobody had it when it was said");
        placements.stands(file(1), Standing::Promised);
        placements.attached("a", "a", true);
        placements.page("a", page([1, 2]), true);
        assert_eq!([of(&placements, "a", 1), of(&placements, "b", 1)], [Standing::Promised; 2]);
        assert_eq!(of(&placements, "a", 2), Standing::Replaceable);
        placements.stands(file(1), Standing::Replaceable);
        assert_eq!([of(&placements, "a", 1), of(&placements, "b", 1)], [Standing::Replaceable; 2]);
    }

    fn two_edges(durable: [bool; 2]) -> Placements {
        let mut placements = Placements::default();
        for (instance, durable) in ["a", "b"].into_iter().zip(durable) {
            placements.attached(instance, instance, durable);
            placements.page(instance, page([1]), true);
        }
        placements
    }

    #[test]
    fn a_copy_is_spare_while_another_edge_has_one_to_count_on() {
        let mut placements = two_edges([true, true]);
        let spare = |placements: &Placements, instance| placements.is_spare(instance, file(1), false);
        assert!(spare(&placements, "a") && spare(&placements, "b"));
        placements.going("b", &[file(1)], true);
        assert!(!spare(&placements, "a"), "the other one is about to remove it");
        assert!(spare(&placements, "b"));
        placements.committed("b", held(1), at(9));
        assert!(!spare(&placements, "a"), "that it still has it changes nothing");
        placements.going("b", &[file(1)], true);
        placements.going("b", &[file(1)], false);
        assert!(!spare(&placements, "a"), "another order waits");
        placements.going("b", &[file(1)], false);
        assert!(spare(&placements, "a"), "it stays");
        placements.leaves("b", true);
        assert!(!spare(&placements, "a") && spare(&placements, "b"), "it leaves, and loses nothing");
        placements.leaves("b", false);
        placements.detached("b", Instant::now());
        assert!(!spare(&placements, "a"), "it is away");
        assert_eq!((placements.remembered("b"), placements.remembered("a")), (Some("b".to_owned()), None));
        placements.attached("b", "b", true);
        placements.evicted("b", file(1));
        assert!(!spare(&placements, "a"));
    }

    #[test]
    fn an_edge_that_is_taken_out_leaves_nothing() {
        let mut placements = two_edges([true, true]);
        assert_eq!(placements.forget_edge("b"), [file(1)]);
        assert_eq!(placements.holders(file(1)), ["a"]);
        assert_eq!((placements.forget_edge("a"), placements.forget_edge("a")), (vec![file(1)], vec![]));
        assert!(placements.edges.is_empty() && placements.holders.is_empty());
    }

    #[test]
    fn what_was_told_to_go_counts_again_when_the_next_session_says_so() {
        let mut placements = two_edges([true, true]);
        placements.going("b", &[file(1)], true);
        placements.detached("b", Instant::now());
        placements.attached("b", "b", true);
        placements.resumes("b", None);
        assert!(!placements.is_spare("a", file(1), false), "it may have gone meanwhile");
        placements.page("b", page([1]), false);
        assert!(placements.is_spare("a", file(1), false));
    }

    #[test]
    fn an_upload_is_spare_only_beside_a_disk_that_is_kept() {
        let placements = two_edges([true, false]);
        assert!(!placements.is_spare("a", file(1), true), "the other one's disk is not kept");
        assert!(placements.is_spare("b", file(1), true) && placements.is_spare("a", file(1), false));
        assert!(placements.keeps("a") && !placements.keeps("b"));
        let mut placements = two_edges([false, false]);
        assert!(!placements.is_spare("a", file(1), true) && placements.kept_by(file(1)).next().is_none());
        placements.attached("b", "b", true);
        placements.detached("b", Instant::now());
        assert!(placements.kept_by(file(1)).eq(["b"]));
    }

    #[test]
    fn accesses_only_move_forward_and_evictions_forget() {
        let mut placements = Placements::default();
        placements.attached("a", "a", true);
        placements.page("a", [(held(1), at(5))], true);
        assert!(placements.accessed("a", file(1), at(9)));
        assert!(!placements.accessed("a", file(2), at(9)) && !placements.accessed("b", file(1), at(9)));
        placements.attached("a", "a", true);
        placements.page("a", [(held(1), at(5))], true);
        let held = placements.held("a", file(1)).expect("it is there");
        assert_eq!((held.accessed, held.disk_bytes), (at(9), 4096), "the database may be behind");
        assert_eq!((placements.evicted("a", file(1)), placements.evicted("a", file(1))), (4096, 0));
        assert!(placements.held_by("a").next().is_none() && placements.holders.is_empty());
    }
}
