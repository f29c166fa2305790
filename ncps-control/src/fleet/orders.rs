//! What edges are told to remove, and their answers.

use std::time::Instant;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{Directive, Eviction, Outdating, Removal, Victim};

use super::{Fleet, SessionId};
use crate::eviction::plan::NARINFO_BYTES;

/// An order that waits for its answer.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) session: SessionId,
    pub(super) why: Why,
}

/// Why files had to go.
#[derive(Debug)]
pub(super) enum Why {
    /// To make room.
    Room(Vec<NarFileName>),
    /// Their paths were removed, and these files with them.
    Removed(Vec<NarFileName>),
    /// None: narinfos changed.
    Changed,
}

impl Why {
    pub(super) fn names(&self) -> &[NarFileName] {
        match self {
            Why::Room(names) | Why::Removed(names) => names,
            Why::Changed => &[],
        }
    }
}

/// A file was planned to go as one copy of several.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// Only copies on disks that are kept counted.
    pub uploaded: bool,
}

/// What an edge has removed when it was told to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub names: Vec<NarFileName>,
    /// On disk, narinfos not counted.
    pub bytes: u64,
}

/// An edge's answer to an eviction or a removal.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// The order's.
    pub number: u64,
    /// It was to make room.
    pub for_room: bool,
    pub gone: Gone,
}

impl Fleet {
    /// What of these an edge has to remove to make room: what was planned as one copy of several and is the last one
    /// by now stays.
    pub fn going(&self, instance: &str, victims: Vec<(Victim, Option<Spare>)>) -> Vec<Victim> {
        let is_last = |victim: &Victim, spare: Option<Spare>| {
            spare.is_some_and(|spare| !self.placements.is_spare(instance, victim.name, spare.uploaded))
        };
        let goes = victims.into_iter().filter(|(victim, spare)| !is_last(victim, *spare));
        goes.map(|(victim, _)| victim).collect()
    }

    /// Tells an edge to remove files to make room; the order's number, or `None` where it is gone or does not keep up.
    pub fn evict(&mut self, instance: &str, victims: Vec<Victim>) -> Option<u64> {
        let names: Vec<_> = victims.iter().map(|victim| victim.name).collect();
        let eviction = |number| Directive::Evict(Eviction { victims, settles: None, number });
        self.order(instance, Why::Room(names), eviction)
    }

    /// Tells an edge that nothing more is removed because of its disk reports up to this one. One that does not keep
    /// up is told again when it reports anew.
    pub fn settle(&mut self, instance: &str, report: u64) {
        let over = Eviction { settles: Some(report), ..Eviction::default() };
        if let Some(id) = self.session_of(instance) {
            self.tell(id, Directive::Evict(over));
        }
    }

    /// Paths are out of the index. Returns the attached edges, instance and name, which are to be told; those that are
    /// away are going to say all that they hold, so that it is looked up.
    pub fn removal(&mut self) -> Vec<(String, String)> {
        self.placements.all_away_say_all();
        self.attached()
    }

    /// Tells an edge that paths are out of the index, with files that nothing names any more. `None` where it is
    /// gone, or does not keep up and is cut: then it says all that it holds when it is back.
    pub fn remove(
        &mut self,
        instance: &str,
        store_paths: Vec<StorePathHash>,
        nars: Vec<NarFileName>,
        now: Instant,
    ) -> Option<u64> {
        let why = Why::Removed(nars.clone());
        let removal = |number| Directive::Remove(Removal { number, store_paths, nars });
        let told = self.order(instance, why, removal);
        if told.is_none() {
            self.cut(instance, now);
            self.placements.says_all(instance);
        }
        told
    }

    /// Whether an edge was told to remove a file, and has not answered: what is put there now may go by
    /// that. Where its session ended, until it attaches again, since it does not before it has obeyed.
    pub fn is_leaving(&self, instance: &str, name: NarFileName) -> bool {
        if self.leaving.get(instance).is_some_and(|names| names.contains(&name)) {
            return true;
        }
        let session = self.session_of(instance);
        let mut orders = self.orders.values().filter(|order| Some(order.session) == session);
        orders.any(|order| order.why.names().contains(&name))
    }

    /// Narinfos changed, and a client waits. Returns the attached edges, instance and name, which are to be told; those
    /// that are away hear it when they are back.
    pub fn change(&mut self, paths: &[StorePathHash]) -> Vec<(String, String)> {
        self.placements.all_away_miss(paths);
        self.attached()
    }

    /// Tells an edge that narinfos changed. `None` where it is gone, or does not keep up and is cut.
    pub fn outdate(&mut self, instance: &str, store_paths: Vec<StorePathHash>, now: Instant) -> Option<u64> {
        let missed = store_paths.clone();
        let outdating = |number| Directive::Outdate(Outdating { number, store_paths });
        let told = self.order(instance, Why::Changed, outdating);
        if told.is_none() {
            self.cut(instance, now);
            self.placements.misses(instance, missed);
        }
        told
    }

    /// Until it is answered nobody counts on the copies that it names.
    fn order(&mut self, instance: &str, why: Why, directive: impl FnOnce(u64) -> Directive) -> Option<u64> {
        let session = self.session_of(instance)?;
        self.last_order += 1;
        let number = self.last_order;
        if !self.tell(session, directive(number)) {
            return None;
        }
        self.placements.going(instance, why.names(), true);
        self.orders.insert(number, Order { session, why });
        Some(number)
    }

    /// An edge says what it removed. `None` where nobody waits for it.
    pub fn evicted(&mut self, id: SessionId, number: u64, names: Vec<NarFileName>) -> Option<Settled> {
        let session = self.sessions.get_mut(&id)?;
        let sizes = names.iter().map(|name| self.placements.evicted(&session.instance, *name));
        // What an edge says is not checked: it must not overflow.
        let bytes = sizes.fold(0, u64::saturating_add);
        // Until the edge reports anew: nothing is evicted twice for the same want.
        if let Some(disk) = &mut session.disk {
            let freed = bytes.saturating_add(NARINFO_BYTES * names.len() as u64);
            disk.used = disk.used.saturating_sub(freed);
            disk.free = disk.free.saturating_add(freed);
        }
        self.orders.get(&number).filter(|order| order.session == id)?;
        let Order { why, .. } = self.orders.remove(&number)?;
        let for_room = matches!(why, Why::Room(_));
        // What was in use is still there.
        self.placements.going(&session.instance, why.names(), false);
        Some(Settled { number, for_room, gone: Gone { names, bytes } })
    }
}
