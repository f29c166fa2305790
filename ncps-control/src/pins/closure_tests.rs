//! Closures against the plain definition: whatever happened before, what is protected is what the roots reach in the
//! index as it is now.

use std::collections::BTreeSet;

use ncps_nix::Compression;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::testing::file;

const PATHS: u8 = 12;

/// Paths 0 to 11; some share a file.
fn hash(path: u8) -> StorePathHash {
    StorePathHash::from_bytes([path; 20])
}

fn node(seed: u8, references: &BTreeSet<u8>) -> Node {
    let file = file(&(seed % 5).to_string(), Compression::Xz);
    Node { file, references: references.iter().map(|path| hash(*path)).collect() }
}

#[derive(Clone, Debug)]
enum Step {
    Pin(u8),
    Unpin(u8),
    Put(u8, u8, BTreeSet<u8>),
    Remove(u8),
    /// The index answers so many questions.
    Answer(usize),
    /// A question is asked, and something happens before its answer comes.
    Late(Box<Step>),
}

fn step() -> impl Strategy<Value = Step> {
    let path = 0..PATHS;
    // A path may reference itself, and others in circles.
    let put =
        (path.clone(), 0..20_u8, btree_set(path.clone(), 0..4)).prop_map(|(p, s, r)| Step::Put(p, s, r));
    let now = prop_oneof![
        2 => path.clone().prop_map(Step::Pin),
        1 => path.clone().prop_map(Step::Unpin),
        5 => put,
        1 => path.prop_map(Step::Remove),
    ];
    let late = now.clone().prop_map(|step| Step::Late(Box::new(step)));
    prop_oneof![6 => now, 3 => (0..5_usize).prop_map(Step::Answer), 2 => late]
}

/// The index, the pins, and what is made of them.
#[derive(Default)]
struct World {
    index: HashMap<StorePathHash, Node>,
    roots: BTreeSet<StorePathHash>,
    closures: Closures,
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Pin(path) => {
                self.roots.insert(hash(*path));
                self.closures.add_root(hash(*path));
            }
            Step::Unpin(path) => {
                self.roots.remove(&hash(*path));
                self.closures.remove_root(hash(*path));
            }
            Step::Put(path, seed, references) => {
                self.index.insert(hash(*path), node(*seed, references));
                self.closures.put(hash(*path), || node(*seed, references));
            }
            Step::Remove(path) => {
                self.index.remove(&hash(*path));
                self.closures.removed(hash(*path));
            }
            Step::Answer(count) => {
                for _ in 0..*count {
                    self.answer_one();
                }
            }
            Step::Late(meanwhile) => {
                let question = self.closures.question();
                let answer = question.map(|(ticket, hash)| (ticket, self.index.get(&hash).cloned()));
                self.take(meanwhile);
                if let Some((ticket, node)) = answer {
                    self.closures.answer(ticket, node);
                }
            }
        }
    }

    fn answer_one(&mut self) -> bool {
        let Some((ticket, hash)) = self.closures.question() else { return false };
        self.closures.answer(ticket, self.index.get(&hash).cloned());
        true
    }

    /// By definition.
    fn reachable(&self) -> BTreeSet<StorePathHash> {
        let mut reachable = self.roots.clone();
        loop {
            let nodes = reachable.iter().filter_map(|hash| self.index.get(hash));
            let more: BTreeSet<_> = nodes.flat_map(|node| node.references.iter().copied()).collect();
            if more.is_subset(&reachable) {
                return reachable;
            }
            reachable.extend(more);
        }
    }
}

proptest! {
    #[test]
    fn what_the_roots_reach_is_protected_and_nothing_else(steps in vec(step(), 0..60)) {
        let mut world = World::default();
        steps.iter().for_each(|step| world.take(step));
        while world.answer_one() {}
        let reachable = world.reachable();
        let protected: BTreeSet<_> = world.closures.reached.keys().copied().collect();
        prop_assert_eq!(&protected, &reachable);
        let files: BTreeSet<_> = reachable.iter().filter_map(|hash| Some(world.index.get(hash)?.file)).collect();
        let held: BTreeSet<_> = world.closures.files.keys().copied().collect();
        prop_assert_eq!(held, files);
        prop_assert_eq!(world.closures.len(), reachable.len());
        let known: Vec<_> = reachable.iter().filter(|hash| world.index.contains_key(*hash)).copied().collect();
        prop_assert_eq!(&world.closures.known_after(None, 100), &known);
        let pages = std::iter::successors(Some(world.closures.known_after(None, 2)), |page| {
            Some(world.closures.known_after(Some(*page.last()?), 2))
        });
        prop_assert_eq!(pages.take_while(|page| !page.is_empty()).flatten().collect::<Vec<_>>(), known);
        for root in &world.roots {
            let one = World { index: world.index.clone(), roots: BTreeSet::from([*root]), ..World::default() };
            let all = one.reachable();
            let known = all.iter().filter(|hash| world.index.contains_key(*hash)).count() as u64;
            let expected = Extent { paths: known, unknown: all.len() as u64 - known };
            prop_assert_eq!(world.closures.extent_of(*root), expected);
            for path in (0..PATHS).map(hash) {
                prop_assert_eq!(world.closures.roots_of(path).contains(root), all.contains(&path));
            }
        }
    }

    #[test]
    fn without_roots_nothing_is_left(steps in vec(step(), 0..60)) {
        let mut world = World::default();
        steps.iter().for_each(|step| world.take(step));
        (0..PATHS).for_each(|path| world.take(&Step::Unpin(path)));
        let closures = &world.closures;
        prop_assert!(closures.reached.is_empty() && closures.files.is_empty() && closures.unasked.is_empty());
    }
}

#[test]
fn a_dependency_that_comes_later_is_protected_at_once() {
    let mut closures = Closures::default();
    closures.add_root(hash(1));
    let root = node(1, &BTreeSet::from([1, 2]));
    closures.put(hash(1), || root);
    let late = node(2, &BTreeSet::from([2]));
    assert!(!closures.protects_file(late.file));
    closures.put(hash(2), || late.clone());
    assert!(closures.protects_file(late.file), "nothing had to be asked");
    assert_eq!(closures.question(), None);
    assert_eq!(closures.extent_of(hash(1)), Extent { paths: 2, unknown: 0 });
}
