//! Which closures clients are asking for. Pure: what was asked for, what narinfos say and the time go in, what to look up
//! next comes out.
//!
//! Two paths of which one refers to the other are taken for the beginning of a closure. From then on it is all that is
//! mentioned in it, until nobody has asked for any of it for a while. A path belongs to one closure, the first that
//! mentions it, so that none is looked up twice. Bounded in all that it remembers.

use std::collections::{HashSet, VecDeque};

use ncps_nix::{NarFileName, StorePathHash};
use tokio::time::{Duration, Instant};

use super::wants::{Asked, Wants};

/// Paths of one closure.
const MOST_PATHS: usize = 20_000;
/// Closures at once; clients that ask for another one wait for upstreams as they come.
const MOST_CLOSURES: usize = 16;
/// Paths that were asked for and belong to no closure yet.
const MOST_RECENT: usize = 256;
/// After this long nobody asks for the rest any more.
const QUIET: Duration = Duration::from_secs(10);
/// The same while NARs are downloaded, in which one file may take long.
const QUIET_READING: Duration = Duration::from_secs(60);
/// Lookups in a row that failed: upstreams that are down are left to those who ask.
const MOST_FAILED: u32 = 16;

/// Tells a closure from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u64);

/// Those that clients ask for.
#[derive(Debug, Default)]
pub(super) struct Closures {
    recent: VecDeque<Recent>,
    open: Vec<Closure>,
    last: u64,
}

#[derive(Debug)]
struct Recent {
    asked: Asked,
    at: Instant,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Closure {
    id: Id,
    mentioned: HashSet<StorePathHash>,
    to_look_up: VecDeque<StorePathHash>,
    /// When any of it was asked for.
    asked_at: Instant,
    failed: u32,
    pub(super) wants: Wants,
}

impl Closures {
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The closure that a path belongs to, which goes on.
    pub(super) fn of(&mut self, path: StorePathHash, now: Instant) -> Option<&mut Closure> {
        let closure = self.open.iter_mut().find(|closure| closure.mentions(path))?;
        closure.asked_at = now;
        Some(closure)
    }

    /// The one that has a NAR file which its client wants.
    pub(super) fn reading(&mut self, nar: &NarFileName, now: Instant) -> Option<&mut Closure> {
        let closure = self.open.iter_mut().find(|closure| closure.wants.has(nar))?;
        closure.asked_at = now;
        Some(closure)
    }

    /// A path of no closure was asked for. Returns the one that begins with it, if one does.
    pub(super) fn begin(&mut self, asked: Asked, now: Instant) -> Option<Id> {
        self.recent.retain(|recent| now.duration_since(recent.at) < QUIET && recent.asked.path != asked.path);
        if let Some(id) = self.next_of_kin(&asked) {
            self.adopt(id, asked, now);
            return None;
        }
        let is_kin = |recent: &Recent| recent.asked.refers_to(&asked) || asked.refers_to(&recent.asked);
        if self.open.len() >= MOST_CLOSURES || !self.recent.iter().any(is_kin) {
            self.recent.truncate(MOST_RECENT - 1);
            self.recent.push_front(Recent { asked, at: now });
            return None;
        }
        let (kin, others): (VecDeque<_>, _) = std::mem::take(&mut self.recent).into_iter().partition(is_kin);
        self.recent = others;
        self.last += 1;
        let id = Id(self.last);
        self.open.push(Closure::new(id, now));
        // The newest comes first there.
        kin.into_iter().rev().for_each(|recent| self.adopt(id, recent.asked, now));
        self.adopt(id, asked, now);
        Some(id)
    }

    /// The closure that mentions what a path refers to.
    fn next_of_kin(&self, asked: &Asked) -> Option<Id> {
        let closure =
            self.open.iter().find(|closure| asked.references.iter().any(|path| closure.mentions(*path)))?;
        Some(closure.id)
    }

    /// A path that was asked for before anybody looked ahead belongs to a closure from now on.
    fn adopt(&mut self, id: Id, asked: Asked, now: Instant) {
        self.found(id, &asked.references);
        if let Some(closure) = self.get(id) {
            closure.asked_at = now;
            closure.mentioned.insert(asked.path);
            closure.to_look_up.retain(|next| *next != asked.path);
            closure.wants.add(asked);
        }
    }

    /// What a narinfo of a closure refers to belongs to it, too, unless it is in another one.
    pub(super) fn found(&mut self, id: Id, references: &[StorePathHash]) {
        let is_new = |path: &&StorePathHash| !self.open.iter().any(|closure| closure.mentions(**path));
        let news: Vec<_> = references.iter().filter(is_new).copied().collect();
        if let Some(closure) = self.get(id) {
            closure.found(news);
        }
    }

    /// One could not be looked up.
    pub(super) fn failed(&mut self, id: Id) {
        if let Some(closure) = self.get(id) {
            closure.failed += 1;
        }
    }

    pub(super) fn get(&mut self, id: Id) -> Option<&mut Closure> {
        self.open.iter_mut().find(|closure| closure.id == id)
    }

    pub(super) fn end(&mut self, id: Id) {
        self.open.retain(|closure| closure.id != id);
    }
}

impl Closure {
    fn new(id: Id, now: Instant) -> Closure {
        Closure {
            id,
            mentioned: HashSet::new(),
            to_look_up: VecDeque::new(),
            asked_at: now,
            failed: 0,
            wants: Wants::default(),
        }
    }

    fn mentions(&self, path: StorePathHash) -> bool {
        self.mentioned.contains(&path)
    }

    fn found(&mut self, news: Vec<StorePathHash>) {
        self.failed = 0;
        for path in news {
            if self.mentioned.len() < MOST_PATHS && self.mentioned.insert(path) {
                self.to_look_up.push_back(path);
            }
        }
    }

    /// What to look up next, in the order in which clients will ask.
    pub(super) fn next(&mut self) -> Option<StorePathHash> {
        self.to_look_up.pop_front()
    }

    /// When it is over unless somebody asks for more of it. Failures end it at once.
    pub(super) fn ends_at(&self) -> Instant {
        let quiet = if self.wants.are_read() { QUIET_READING } else { QUIET };
        self.asked_at + if self.failed < MOST_FAILED { quiet } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn path(n: u16) -> StorePathHash {
        let mut bytes = [0; 20];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        StorePathHash::from_bytes(bytes)
    }

    fn asked(n: u16, references: impl IntoIterator<Item = u16>) -> Asked {
        let nar =
            NarFileName { hash: FileHash(Sha256Hash::of(&n.to_be_bytes())), compression: Compression::Xz };
        Asked { path: path(n), nar, references: paths(references) }
    }

    fn paths(numbers: impl IntoIterator<Item = u16>) -> Vec<StorePathHash> {
        numbers.into_iter().map(path).collect()
    }

    fn rest(closures: &mut Closures, id: Id) -> Vec<StorePathHash> {
        let closure = closures.get(id).expect("open");
        std::iter::from_fn(|| closure.next()).collect()
    }

    #[test]
    fn two_paths_of_which_one_refers_to_the_other_begin_a_closure() {
        let (mut closures, now) = (Closures::default(), Instant::now());
        assert_eq!(closures.begin(asked(1, [1, 2, 3]), now), None, "one path is no closure");
        assert_eq!(closures.begin(asked(9, [8]), now), None, "nor are two that don't know each other");
        let id = closures.begin(asked(2, [4, 3]), now).expect("a closure");
        assert_eq!(rest(&mut closures, id), paths([3, 4]), "neither what was asked for nor anything twice");
        assert!(closures.of(path(4), now).is_some(), "it belongs to it");
        closures.found(id, &paths([5, 1]));
        assert_eq!(rest(&mut closures, id), paths([5]));
        assert!(closures.of(path(9), now).is_none());
    }

    #[test]
    fn who_asks_for_the_reference_first_has_begun_one_too() {
        let (mut closures, now) = (Closures::default(), Instant::now());
        closures.begin(asked(2, [3]), now);
        let id = closures.begin(asked(1, [2, 4]), now).expect("a closure");
        assert_eq!(rest(&mut closures, id), paths([3, 4]));
    }

    #[test]
    fn a_path_belongs_to_one_closure() {
        let (mut closures, now) = (Closures::default(), Instant::now());
        closures.begin(asked(1, [2, 3]), now);
        closures.begin(asked(11, [12]), now);
        let one = closures.begin(asked(2, []), now).expect("a closure");
        let other = closures.begin(asked(12, [13]), now).expect("another one");
        closures.found(one, &paths([4]));
        closures.found(other, &paths([4, 14]));
        assert_eq!(rest(&mut closures, one), paths([3, 4]));
        assert_eq!(rest(&mut closures, other), paths([13, 14]));
        assert_eq!(closures.begin(asked(20, [14, 15]), now), None, "it refers to what is in one already");
        assert_eq!(rest(&mut closures, other), paths([15]));
    }

    #[test]
    fn it_ends_when_nobody_asks_and_when_upstreams_fail() {
        let (mut closures, now) = (Closures::default(), Instant::now());
        closures.begin(asked(1, [2]), now);
        assert_eq!(closures.begin(asked(2, [3]), now + QUIET), None, "that was long ago");
        let id = closures.begin(asked(3, []), now + QUIET).expect("a closure");
        let ends = |closures: &mut Closures| closures.get(id).expect("open").ends_at();
        assert_eq!(ends(&mut closures), now + QUIET * 2);
        closures.of(path(2), now + QUIET * 2);
        assert_eq!(ends(&mut closures), now + QUIET * 3);
        for _ in 0..MOST_FAILED {
            closures.failed(id);
        }
        assert!(ends(&mut closures) <= now + QUIET * 2);
        closures.end(id);
        assert!(closures.of(path(2), now).is_none());
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let (mut closures, now) = (Closures::default(), Instant::now());
        for n in 0..1000 {
            closures.begin(asked(n, []), now);
        }
        assert_eq!(closures.recent.len(), MOST_RECENT);
        let id = closures.begin(asked(2000, [999]), now).expect("a closure");
        closures.found(id, &paths(0..u16::MAX));
        assert_eq!(rest(&mut closures, id).len(), MOST_PATHS - 2);
        for n in 0..100 {
            closures.begin(asked(30_000 + 2 * n, []), now);
            closures.begin(asked(30_001 + 2 * n, [30_000 + 2 * n]), now);
        }
        assert_eq!(closures.count(), MOST_CLOSURES);
    }
}
