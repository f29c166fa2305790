//! Which files go: a pure function of what is held, when it was read, and how much room is missing.
//!
//! Copies that others in the fleet hold, too, and files in whose place narinfos name another one of their NAR go first, uploads (which no upstream can give back) after everything
//! else, and in each of these the oldest first. Nothing goes that is in flight or pinned. The plan is the shortest such
//! list that frees what is missing. Absent on purpose: time, sockets, SQL, and the carrying out (see [`super::job`]).
//!
//! An upload counts as one while a narinfo names it. Until that comes it has a [`GRACE`]: then it is like any other
//! file, so that NARs that nobody can ask for push nothing out.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use ncps_nix::NarFileName;
use ncps_proto::{DiskReport, MinFree};
use ncps_runtime::clock::UnixTime;

use crate::record::Standing;

/// A narinfo file on disk: one block of the usual file systems.
pub(crate) const NARINFO_BYTES: u64 = 4096;
/// How long after its last access an upload may wait for its narinfo, in seconds: a client sends it right after the NAR.
const GRACE: i64 = 600;

impl Standing {
    /// Whether a file goes after everything else.
    pub(crate) fn goes_last(self, accessed: Access, now: UnixTime) -> bool {
        match self {
            Standing::Promised => true,
            Standing::Unnamed => now.0.saturating_sub(accessed.at.0) < GRACE,
            Standing::Replaceable | Standing::Superseded => false,
        }
    }
}

/// When a file was last read: the time of day, and which came first of those at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    pub at: UnixTime,
    /// Grows within a process. What was read from the database has 0.
    pub order: u64,
}

/// A file that an edge holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: NarFileName,
    /// On disk, its narinfo file included.
    pub bytes: u64,
    pub accessed: Access,
    /// Somebody is fetching it right now.
    pub in_flight: bool,
    /// A pin needs it.
    pub pinned: bool,
    /// No upstream can give it back.
    pub uploaded: bool,
    /// Another attached edge holds it; of an upload, one whose disk is kept.
    pub spare: bool,
    /// Narinfos name another file of its NAR.
    pub superseded: bool,
}

impl Candidate {
    /// What is lost with it: nothing, a fetch, or the only copy of what somebody brought.
    fn loss(&self) -> Loss {
        match (self.spare || self.superseded, self.uploaded) {
            (true, _) => Loss::Nothing,
            (false, false) => Loss::Fetch,
            (false, true) => Loss::Upload,
        }
    }
}

/// In the order in which files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    Nothing,
    Fetch,
    Upload,
}

/// The limits of an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Of the store on disk, in bytes.
    pub(crate) limit: Option<u64>,
    /// Of the file system's free space.
    pub(crate) min_free: MinFree,
}

/// What goes, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub victims: Vec<Candidate>,
    /// What they free.
    pub bytes: u64,
    /// What can't be freed, since all that is left is pinned or in flight; 0 where the budget is met.
    pub shortfall: u64,
    /// What pins keep.
    pub pinned: u64,
}

impl Budget {
    /// With the limit that an edge has of its own, where it has one.
    pub(crate) fn with(self, capacity: Option<u64>) -> Budget {
        Budget { limit: capacity.or(self.limit), ..self }
    }

    /// Bytes to be freed. None while the disk is within its limits; past one of them down to 90 % of the size
    /// limit, or up to 110 % of the free space, so that the next file does not come too late again.
    pub(crate) fn missing(&self, disk: &DiskReport) -> u64 {
        self.over_limit(disk).max(self.under_min_free(disk))
    }

    fn over_limit(&self, disk: &DiskReport) -> u64 {
        let Some(limit) = self.limit else { return 0 };
        let needed = disk.used.saturating_add(disk.wanted);
        if needed <= limit {
            return 0;
        }
        let low_water = limit - limit / 10;
        // A file that needs more than that still fits into the limit itself.
        let goal = if disk.wanted <= low_water { low_water } else { limit };
        needed.saturating_sub(goal).min(disk.used)
    }

    fn under_min_free(&self, disk: &DiskReport) -> u64 {
        let min_free = self.min_free.of(disk.total);
        if disk.free >= min_free.saturating_add(disk.wanted) {
            return 0;
        }
        (min_free + min_free / 10).saturating_add(disk.wanted) - disk.free
    }
}

/// Victims that free `missing` bytes, or all that may go where that is not enough.
pub fn plan(held: impl IntoIterator<Item = Candidate>, missing: u64) -> Plan {
    let (mut chosen, mut pinned) = (Chosen::default(), 0_u64);
    for candidate in held {
        if candidate.pinned {
            pinned = pinned.saturating_add(candidate.bytes);
        } else if !candidate.in_flight {
            chosen.add(candidate, missing);
        }
    }
    Plan {
        bytes: chosen.bytes,
        shortfall: missing.saturating_sub(chosen.bytes),
        pinned,
        victims: chosen.heap.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect(),
    }
}

/// The oldest candidates so far that are just enough: memory and time are those of the victims, not of all that
/// is held.
#[derive(Default)]
struct Chosen {
    heap: BinaryHeap<Ranked>,
    bytes: u64,
}

impl Chosen {
    fn add(&mut self, candidate: Candidate, missing: u64) {
        self.bytes = self.bytes.saturating_add(candidate.bytes);
        self.heap.push(Ranked(candidate));
        while let Some(Ranked(newest)) = self.heap.peek()
            && self.bytes.saturating_sub(newest.bytes) >= missing
        {
            self.bytes = self.bytes.saturating_sub(newest.bytes);
            self.heap.pop();
        }
    }
}

/// A candidate by the order in which they go: the greatest stays longest. Names settle ties, so that the same
/// input gives the same plan.
#[derive(PartialEq, Eq)]
struct Ranked(Candidate);

impl Ranked {
    fn rank(&self) -> (Loss, Access, NarFileName) {
        (self.0.loss(), self.0.accessed, self.0.name)
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
