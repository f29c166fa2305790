//! Edges that are to leave, and where uploads rest meanwhile.

use std::cmp::Reverse;
use std::time::Instant;

use ncps_nix::NarFileName;
use ncps_proto::Directive;
use ncps_proto::admin::EdgeState;

use super::Fleet;
use super::session::Session;
use crate::record::Standing;

/// A file that one edge alone holds.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    pub name: NarFileName,
    /// On disk.
    pub bytes: u64,
    /// Nobody could give it again.
    pub uploaded: bool,
}

/// An attached edge that keeps its disk, and can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub instance: String,
    /// Without a trailing slash.
    pub url: String,
}

impl Keeper {
    fn of(session: &Session) -> Option<Keeper> {
        Some(Keeper { instance: session.instance.clone(), url: session.url.clone()? })
    }
}

impl Fleet {
    /// Tells an edge whether it is to leave. False where it is gone or does not keep up.
    pub fn drain(&mut self, instance: &str, leaves: bool) -> bool {
        let Some(id) = self.session_of(instance) else { return false };
        if !self.tell(id, Directive::Drain(leaves)) {
            return false;
        }
        if let Some(session) = self.session_mut(instance) {
            session.state = match (leaves, session.state) {
                (false, _) => EdgeState::Attached,
                (true, EdgeState::Drained) => EdgeState::Drained,
                (true, _) => EdgeState::Draining,
            };
        }
        self.placements.leaves(instance, leaves);
        true
    }

    /// An edge has finished what ran. One that stays after all says so too late.
    pub fn drained(&mut self, instance: &str) {
        let session = self.session_mut(instance).filter(|session| session.state == EdgeState::Draining);
        session.into_iter().for_each(|session| session.state = EdgeState::Drained);
    }

    /// Whether an attached edge takes part.
    pub fn state_of(&self, instance: &str) -> Option<EdgeState> {
        self.session(instance).map(|session| session.state)
    }

    /// Whether an attached edge holds a file; where it was `uploaded`, one whose disk is kept.
    pub fn has(&self, name: NarFileName, uploaded: bool) -> bool {
        self.placements.has(name, uploaded)
    }

    /// Whether an upload rests on a disk that is kept, that of an edge which is away for less than an hour included. One
    /// that was told to remove it, and has not answered, does not count.
    pub fn is_kept(&self, name: NarFileName) -> bool {
        self.placements.kept_by(name).any(|instance| !self.is_leaving(instance, name))
    }

    /// Whether every edge that keeps an upload was told to remove it, and one has not answered.
    pub fn is_about_to_go(&self, name: NarFileName) -> bool {
        !self.is_kept(name) && self.placements.kept_by(name).next().is_some()
    }

    /// Whether an edge's disk is kept.
    pub fn keeps(&self, instance: &str) -> bool {
        self.placements.keeps(instance)
    }

    /// Where the upload of another edge can rest: those of its zone first, then those with the most free space. Whether
    /// others are away is not known here.
    pub fn resting(&self, instance: &str) -> Vec<Keeper> {
        self.resting_sessions(instance).into_iter().filter_map(Keeper::of).collect()
    }

    /// The other attached edges whose disks are kept, those included that are to leave.
    pub fn keepers(&self, instance: &str) -> Vec<Keeper> {
        let others = self.sessions.values().filter(|session| session.durable && session.instance != instance);
        others.filter_map(Keeper::of).collect()
    }

    /// Whether any edge keeps its disk, those included that are away for less than an hour.
    pub fn is_any_durable(&self) -> bool {
        self.placements.is_any_durable()
    }

    /// The attached edge that takes over another one's uploads.
    pub fn heir(&self, instance: &str) -> Option<String> {
        self.resting_sessions(instance).first().map(|session| session.instance.clone())
    }

    fn resting_sessions(&self, instance: &str) -> Vec<&Session> {
        let zone = self.session(instance).and_then(|session| session.zone.as_deref());
        let takes = |session: &&Session| {
            session.instance != instance && session.state == EdgeState::Attached && session.durable
        };
        let mut all: Vec<_> = self.sessions.values().filter(takes).collect();
        all.sort_by_key(|session| {
            let is_near = zone.is_some() && session.zone.as_deref() == zone;
            (!is_near, Reverse(session.disk.map_or(0, |disk| disk.free)))
        });
        all
    }

    /// The edge of this name that is away for less than an hour.
    pub fn remembered(&self, name: &str) -> Option<String> {
        self.placements.remembered(name)
    }

    /// Other instances of this name, which are away.
    pub fn namesakes(&self, name: &str, instance: &str) -> Vec<String> {
        self.placements.namesakes(name, instance)
    }

    /// What an edge alone holds; of uploads, what no other one holds whose disk is kept.
    pub fn alone(&self, instance: &str) -> Vec<Alone> {
        let held = self.placements.held_by(instance).map(|(name, held)| Alone {
            name,
            bytes: held.disk_bytes,
            uploaded: matches!(held.standing, Standing::Promised | Standing::Unnamed),
        });
        held.filter(|alone| !self.placements.is_spare(instance, alone.name, alone.uploaded)).collect()
    }

    /// Forgets an edge with all that it holds, and ends its session. Returns what it held.
    pub fn take_out(&mut self, instance: &str, now: Instant) -> Vec<NarFileName> {
        self.cut(instance, now);
        self.placements.forget_edge(instance)
    }
}
