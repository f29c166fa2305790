//! What pins protect: everything that is reachable from their roots through the references of narinfos. A pure state
//! machine: roots and narinfos come and go, and what they reach is kept up.
//!
//! It knows only what is reached, so its memory is that of the closures, not of the index: about 200 bytes for a
//! path and 20 for each of its references. A path that is reached for the first time is not known yet: whoever
//! drives this asks the index for it, and says the answer. Absent on purpose: labels and ends of pins (see
//! [`super`]), SQL.
//!
//! # Hidden contract
//! A narinfo is put into the index first and said here after it. So an answer that the index gave for a path that
//! was said meanwhile is older than what was said, and is passed over.

use std::collections::{BTreeMap, HashMap, HashSet};

use ncps_nix::{NarFileName, NarInfo, StorePathHash};

use crate::record::file_of;

/// Paths that are protected at most: about 500 MB of memory.
pub(crate) const MOST_PATHS: usize = 1_000_000;

/// A question to the index. Answers to older ones count no more.
pub(crate) type Ticket = u64;

/// The part of a narinfo that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) file: NarFileName,
    pub(crate) references: Box<[StorePathHash]>,
}

impl From<&NarInfo> for Node {
    fn from(narinfo: &NarInfo) -> Node {
        Node {
            file: file_of(narinfo),
            references: narinfo.references.iter().map(|path| path.hash()).collect(),
        }
    }
}

/// What is known of a path that is reached.
#[derive(Debug)]
enum Reached {
    /// The index is to be asked.
    Unasked(Ticket),
    /// It has no narinfo of it, which may come.
    Unknown,
    Known(Node),
}

/// How much is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Paths of which there is a narinfo.
    pub paths: u64,
    /// Paths that are referenced and of which there is none (yet).
    pub unknown: u64,
}

/// The closures of all pins.
#[derive(Debug, Default)]
pub(crate) struct Closures {
    roots: HashSet<StorePathHash>,
    reached: HashMap<StorePathHash, Reached>,
    /// How many of the reached paths name a file.
    files: HashMap<NarFileName, u32>,
    unasked: BTreeMap<Ticket, StorePathHash>,
    last_ticket: Ticket,
    /// Something was not reached for want of room.
    full: bool,
}

impl Closures {
    pub(crate) fn add_root(&mut self, root: StorePathHash) {
        self.roots.insert(root);
        self.reach(root);
    }

    pub(crate) fn remove_root(&mut self, root: StorePathHash) {
        if self.roots.remove(&root) {
            self.sweep();
        }
    }

    /// The index has this narinfo now.
    pub(crate) fn put(&mut self, hash: StorePathHash, node: impl FnOnce() -> Node) {
        if self.reached.contains_key(&hash) {
            self.learn(hash, Some(node()));
        }
    }

    /// The index has no narinfo of this path any more.
    pub(crate) fn removed(&mut self, hash: StorePathHash) {
        if self.reached.contains_key(&hash) {
            self.learn(hash, None);
        }
    }

    /// The next path that the index is to be asked for.
    pub(crate) fn question(&self) -> Option<(Ticket, StorePathHash)> {
        self.unasked.first_key_value().map(|(ticket, hash)| (*ticket, *hash))
    }

    /// What the index said to a question.
    pub(crate) fn answer(&mut self, ticket: Ticket, node: Option<Node>) {
        if let Some(hash) = self.unasked.get(&ticket).copied() {
            self.learn(hash, node);
        }
    }

    /// Whether a file is one of a protected path.
    pub(crate) fn protects_file(&self, name: NarFileName) -> bool {
        self.files.contains_key(&name)
    }

    /// Whether a path is reached from a pin.
    pub(crate) fn protects(&self, hash: StorePathHash) -> bool {
        self.reached.contains_key(&hash)
    }

    /// The next paths that are protected and in the index, in the order of the database: at most `limit` after this one.
    pub(crate) fn known_after(&self, after: Option<StorePathHash>, limit: usize) -> Vec<StorePathHash> {
        let bytes = |hash: &StorePathHash| *hash.as_bytes();
        let after = after.as_ref().map(bytes);
        let known = self.reached.iter().filter(|(_, reached)| matches!(reached, Reached::Known(_)));
        let mut next: Vec<_> =
            known.map(|(hash, _)| *hash).filter(|hash| after < Some(bytes(hash))).collect();
        if next.len() > limit {
            next.select_nth_unstable_by_key(limit, bytes);
            next.truncate(limit);
        }
        next.sort_unstable_by_key(bytes);
        next
    }

    /// The roots that reach a path. Looks at all that is protected, once.
    pub(crate) fn roots_of(&self, hash: StorePathHash) -> HashSet<StorePathHash> {
        let mut referrers: HashMap<StorePathHash, Vec<StorePathHash>> = HashMap::new();
        for (from, reached) in &self.reached {
            references(reached).iter().for_each(|to| referrers.entry(*to).or_default().push(*from));
        }
        let (mut met, mut next) = (HashSet::new(), vec![hash]);
        while let Some(hash) = next.pop() {
            if met.insert(hash) {
                next.extend(referrers.get(&hash).into_iter().flatten());
            }
        }
        met.retain(|hash| self.roots.contains(hash));
        met
    }

    /// Whether more is pinned than can be protected.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Paths that are protected, those included that are only referenced.
    pub(crate) fn len(&self) -> usize {
        self.reached.len()
    }

    /// What one root protects.
    pub(crate) fn extent_of(&self, root: StorePathHash) -> Extent {
        let reached = self.reachable([root]);
        let paths = reached.iter().filter(|hash| matches!(self.reached.get(*hash), Some(Reached::Known(_))));
        let paths = paths.count() as u64;
        Extent { paths, unknown: reached.len() as u64 - paths }
    }

    fn reach(&mut self, hash: StorePathHash) {
        if self.reached.contains_key(&hash) {
            return;
        }
        if self.reached.len() >= MOST_PATHS {
            self.full = true;
            return;
        }
        self.last_ticket += 1;
        self.reached.insert(hash, Reached::Unasked(self.last_ticket));
        self.unasked.insert(self.last_ticket, hash);
    }

    fn learn(&mut self, hash: StorePathHash, node: Option<Node>) {
        let next = node.as_ref().map(|node| node.references.clone()).unwrap_or_default();
        if let Some(node) = &node {
            *self.files.entry(node.file).or_default() += 1;
        }
        let former = self.reached.insert(hash, node.map_or(Reached::Unknown, Reached::Known));
        let loses = match &former {
            Some(Reached::Known(node)) => node.references.iter().any(|former| !next.contains(former)),
            _ => false,
        };
        former.into_iter().for_each(|former| self.forget(&former));
        next.iter().for_each(|reference| self.reach(*reference));
        if loses {
            self.sweep();
        }
    }

    fn forget(&mut self, former: &Reached) {
        match former {
            Reached::Unasked(ticket) => drop(self.unasked.remove(ticket)),
            Reached::Unknown => {}
            Reached::Known(node) => {
                if let Some(count) = self.files.get_mut(&node.file) {
                    *count -= 1;
                    if *count == 0 {
                        self.files.remove(&node.file);
                    }
                }
            }
        }
    }

    /// Forgets what no root reaches any more. What had no room before may have some now.
    fn sweep(&mut self) {
        let kept = self.reachable(self.roots.iter().copied());
        let gone: Vec<_> = self.reached.keys().filter(|hash| !kept.contains(*hash)).copied().collect();
        for hash in gone {
            if let Some(former) = self.reached.remove(&hash) {
                self.forget(&former);
            }
        }
        if std::mem::take(&mut self.full) {
            self.reach_what_is_referenced();
        }
    }

    fn reach_what_is_referenced(&mut self) {
        let references = self.reached.values().flat_map(references).copied();
        let wanted: Vec<_> = references.chain(self.roots.iter().copied()).collect();
        wanted.into_iter().for_each(|hash| self.reach(hash));
    }

    fn reachable(&self, roots: impl IntoIterator<Item = StorePathHash>) -> HashSet<StorePathHash> {
        let mut met = HashSet::new();
        let mut next: Vec<_> = roots.into_iter().collect();
        while let Some(hash) = next.pop() {
            if let Some(reached) = self.reached.get(&hash)
                && met.insert(hash)
            {
                next.extend(references(reached));
            }
        }
        met
    }
}

fn references(reached: &Reached) -> &[StorePathHash] {
    match reached {
        Reached::Known(node) => &node.references,
        Reached::Unasked(_) | Reached::Unknown => &[],
    }
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
