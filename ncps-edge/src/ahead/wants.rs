//! The NARs that a client will want of a closure, and in which order: Nix downloads what a path refers to before the path
//! itself. Pure. Wanted is only what was asked for by a client: of the rest of a closure it has the paths already.

use std::collections::{HashMap, HashSet, VecDeque};

use ncps_nix::{NarFileName, StorePathHash};

use crate::near::Served;

/// A path that a client asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: StorePathHash,
    pub(super) nar: NarFileName,
    pub(super) references: Vec<StorePathHash>,
}

impl Asked {
    /// `None` where a narinfo can't be read, which its clients will say.
    pub(super) fn of(served: &Served) -> Option<Asked> {
        let narinfo = served.narinfo().ok()?;
        let references = narinfo.references.iter().map(|reference| reference.hash()).collect();
        Some(Asked { path: served.hash, nar: served.nar, references })
    }

    pub(super) fn refers_to(&self, other: &Asked) -> bool {
        self.references.contains(&other.path)
    }
}

/// What of a closure was asked for, and how much of it was begun.
#[derive(Debug, Default)]
pub(super) struct Wants {
    paths: HashMap<StorePathHash, Asked>,
    nars: HashSet<NarFileName>,
    /// In the order of the requests.
    asked: Vec<StorePathHash>,
    /// Whom a client reads already, or we fetch.
    begun: HashSet<NarFileName>,
    /// What comes next; `None` until it is worked out.
    order: Option<VecDeque<NarFileName>>,
    read: bool,
}

impl Wants {
    /// A client asked for this path.
    pub(super) fn add(&mut self, asked: Asked) {
        let (path, nar) = (asked.path, asked.nar);
        if self.paths.insert(path, asked).is_none() {
            self.asked.push(path);
            self.nars.insert(nar);
            self.order = None;
        }
    }

    pub(super) fn has(&self, nar: &NarFileName) -> bool {
        self.nars.contains(nar)
    }

    pub(super) fn knows(&self, path: StorePathHash) -> bool {
        self.paths.contains_key(&path)
    }

    /// A client reads one: it will want the others.
    pub(super) fn reads(&mut self, nar: NarFileName) {
        self.read = true;
        self.begun.insert(nar);
    }

    pub(super) fn are_read(&self) -> bool {
        self.read
    }

    /// What to fetch next, once a client reads any; each is named once.
    pub(super) fn next(&mut self) -> Option<NarFileName> {
        if !self.read {
            return None;
        }
        if self.order.is_none() {
            self.order = Some(self.in_order());
        }
        let order = self.order.as_mut()?;
        while let Some(nar) = order.pop_front() {
            if self.begun.insert(nar) {
                return Some(nar);
            }
        }
        None
    }

    /// What paths refer to before them, else as they were asked for. Without recursion, since closures are deep.
    fn in_order(&self) -> VecDeque<NarFileName> {
        let (mut order, mut seen) = (VecDeque::with_capacity(self.paths.len()), HashSet::new());
        for root in &self.asked {
            let mut path_to = vec![(*root, 0)];
            seen.insert(*root);
            while let Some((path, n)) = path_to.pop() {
                let Some(want) = self.paths.get(&path) else { continue };
                match want.references.get(n) {
                    Some(reference) => {
                        path_to.push((path, n + 1));
                        if seen.insert(*reference) {
                            path_to.push((*reference, 0));
                        }
                    }
                    None => order.push_back(want.nar),
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn path(n: u8) -> StorePathHash {
        StorePathHash::from_bytes([n; 20])
    }

    fn nar(n: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[n])), compression: Compression::Xz }
    }

    fn asked(n: u8, references: &[u8]) -> Asked {
        Asked { path: path(n), nar: nar(n), references: references.iter().map(|n| path(*n)).collect() }
    }

    fn wants(all: &[(u8, &[u8])]) -> Wants {
        let mut wants = Wants::default();
        for (n, references) in all {
            wants.add(asked(*n, references));
        }
        wants
    }

    fn rest(wants: &mut Wants) -> Vec<NarFileName> {
        std::iter::from_fn(|| wants.next()).collect()
    }

    #[test]
    fn what_paths_refer_to_comes_first_and_only_what_was_asked_for() {
        // 1 refers to 2 and 3, both to 4, which refers to 1 again; nobody asked for 5.
        let mut wants = wants(&[(1, &[1, 2, 3]), (2, &[4, 5]), (3, &[4]), (4, &[1])]);
        assert_eq!(wants.next(), None, "nobody reads any");
        wants.reads(nar(4));
        assert_eq!(rest(&mut wants), [nar(2), nar(3), nar(1)]);
        assert!(wants.has(&nar(2)) && !wants.has(&nar(5)) && wants.knows(path(2)));
    }

    #[test]
    fn what_is_asked_for_later_comes_too_and_nothing_twice() {
        let mut wants = wants(&[(1, &[2])]);
        wants.reads(nar(9));
        assert_eq!(rest(&mut wants), [nar(1)]);
        wants.add(asked(2, &[3]));
        wants.add(asked(2, &[3]));
        wants.add(asked(3, &[]));
        assert_eq!(rest(&mut wants), [nar(3), nar(2)]);
    }
}
