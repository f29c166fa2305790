//! What edges hold, as they say it, joined to turns and accesses for eviction.

use std::time::Instant;

use ncps_nix::NarFileName;
use ncps_proto::HeldNar;
use ncps_runtime::clock::UnixTime;

use super::{Action, Fleet, SessionId};
use crate::eviction::plan::{self, Access, Candidate, NARINFO_BYTES, Plan};
use crate::record::Standing;

impl Fleet {
    fn access(&mut self, at: UnixTime) -> Access {
        self.accesses += 1;
        self.latest = self.latest.max(at);
        Access { at: self.latest, order: self.accesses }
    }

    /// A page of an edge's inventory, and when each file was last read. Returns what it held before and does not
    /// say any more.
    pub fn holds(&mut self, id: SessionId, held: Vec<(HeldNar, UnixTime)>, last: bool) -> Vec<NarFileName> {
        let Some(session) = self.sessions.get(&id) else { return Vec::new() };
        self.latest = held.iter().map(|(_, at)| *at).fold(self.latest, UnixTime::max);
        let held = held.into_iter().map(|(held, at)| (held, Access { at, order: 0 }));
        if last {
            self.actions.push(Action::Counted(id));
        }
        self.placements.page(&session.instance, held, last)
    }

    /// What an edge holds could not be dealt with: it has to say all of it again when it attaches the next time.
    pub fn says_all(&mut self, instance: &str) {
        self.placements.says_all(instance);
    }

    /// Those of a page of which it is not known when they were last read.
    pub fn never_met(&self, instance: &str, held: &[HeldNar]) -> Vec<NarFileName> {
        let names = held.iter().map(|held| held.name);
        names.filter(|name| self.placements.held(instance, *name).is_none()).collect()
    }

    /// A file came into an edge's store, which counts as a read. What would be lost with it is said at once: an upload
    /// must never be there as one of the files that go first.
    pub fn committed(&mut self, id: SessionId, held: HeldNar, standing: Standing, at: UnixTime) {
        let access = self.access(at);
        if let Some(session) = self.sessions.get(&id) {
            self.doubts.settle(&session.instance, held.name);
            self.placements.committed(&session.instance, held, access);
            self.placements.stands(held.name, standing);
        }
    }

    /// The same from a call that does not know what the file takes on the disk: until the edge's report says it,
    /// and unless it has said it, its size in whole blocks is believed.
    pub fn announced(
        &mut self,
        instance: &str,
        name: NarFileName,
        file_size: u64,
        standing: Standing,
        at: UnixTime,
    ) {
        let known = self.placements.held(instance, name).map(|held| held.disk_bytes);
        let disk_bytes =
            known.unwrap_or(file_size.checked_next_multiple_of(NARINFO_BYTES).unwrap_or(file_size));
        let access = self.access(at);
        self.doubts.settle(instance, name);
        self.placements.committed(instance, HeldNar { name, file_size, disk_bytes }, access);
        self.placements.stands(name, standing);
    }

    /// An edge served a file. False where it is not believed to hold it.
    pub fn accessed(&mut self, id: SessionId, name: NarFileName, at: UnixTime) -> bool {
        let access = self.access(at);
        let session = self.sessions.get(&id);
        session.is_some_and(|session| self.placements.accessed(&session.instance, name, access))
    }

    /// What would be lost with a file, for the edges that hold it now.
    pub fn stands(&mut self, name: NarFileName, standing: Standing) {
        self.placements.stands(name, standing);
    }

    /// A file is no longer in an edge's store, or about to leave it, without having been evicted.
    pub fn lost(&mut self, instance: &str, name: NarFileName) {
        self.doubts.settle(instance, name);
        self.placements.evicted(instance, name);
    }

    /// What must leave an edge's store to free `missing` bytes.
    pub fn plan(
        &self,
        instance: &str,
        missing: u64,
        today: UnixTime,
        now: Instant,
        is_pinned: impl Fn(NarFileName) -> bool,
    ) -> Plan {
        let candidates = self.placements.held_by(instance).map(|(name, held)| {
            let uploaded = held.standing.goes_last(held.accessed, today);
            Candidate {
                name,
                bytes: held.disk_bytes.saturating_add(NARINFO_BYTES),
                accessed: held.accessed,
                in_flight: self.leases.is_taken(name, now),
                pinned: is_pinned(name),
                uploaded,
                spare: self.placements.is_spare(instance, name, uploaded),
                superseded: held.standing == Standing::Superseded,
            }
        });
        plan::plan(candidates, missing)
    }

    /// Whether an edge is believed to hold a file.
    pub fn holds_file(&self, instance: &str, name: NarFileName) -> bool {
        self.placements.held(instance, name).is_some()
    }

    /// Everything that an edge is believed to hold.
    pub fn holdings(&self, instance: &str) -> Vec<NarFileName> {
        self.placements.held_by(instance).map(|(name, _)| name).collect()
    }

    /// Files that edges are believed to hold, one that several hold counted for each.
    pub fn files(&self) -> usize {
        self.placements.files()
    }

    /// Whether any attached edge is believed to hold a file.
    pub fn is_held(&self, name: NarFileName) -> bool {
        !self.placements.holders(name).is_empty()
    }

    /// The URLs of attached edges that hold a file.
    pub fn holders(&self, name: NarFileName) -> Vec<String> {
        let holders = self.placements.holders(name).into_iter();
        holders.filter_map(|holder| self.session(holder)?.url.clone()).collect()
    }

    /// The attached edges, by instance, that hold a file.
    pub fn holding(&self, name: NarFileName) -> Vec<String> {
        self.placements.holders(name).into_iter().map(str::to_owned).collect()
    }

    /// The names of attached edges that hold a file.
    pub fn holder_names(&self, name: NarFileName) -> Vec<String> {
        let holders = self.placements.holders(name).into_iter();
        holders.filter_map(|holder| Some(self.session(holder)?.name.clone())).collect()
    }

    /// Whether a file that an edge has no longer is lost, should nobody be able to give it again: nobody is believed to
    /// hold it, those included that are away for less than an hour. Where it had to make room on a disk that is kept, a
    /// copy on one that is not saves nothing: such a disk may be gone tomorrow.
    pub fn is_lost(&self, instance: &str, name: NarFileName, for_room: bool) -> bool {
        match for_room && self.placements.keeps(instance) {
            true => self.placements.kept_by(name).next().is_none(),
            false => !self.placements.is_remembered(name),
        }
    }

    /// Whether any edge, attached or away for less than an hour, is believed to hold a file.
    pub fn is_remembered(&self, name: NarFileName) -> bool {
        self.placements.is_remembered(name)
    }
}
