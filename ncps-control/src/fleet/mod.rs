//! The fleet as control sees it: who is attached, whose turn it is to fetch, who is believed to hold what, and which
//! orders wait for an answer. A pure state machine: events and `now` in, answers out, and beside them [`Action`]s,
//! which whoever stands around it carries out (see `crate::sessions`).
//!
//! What always holds:
//! - An instance has one session at most. What a session says that is over is not heard.
//! - A turn has one holder. It ends with its holder's last session; a takeover keeps it.
//! - Every order is settled once: by its answer, or by the end of the session that it was given to.
//! - Directives are counted without a gap. A session that can't be told something that it must hear is over.
//! - After a break an edge says what changed since the last report that was heard, if this is the run that heard it,
//!   remembers what the edge held then, and knows what the edge may have missed: narinfos that changed, of which it is
//!   told first. Else it says its whole inventory. So does one that was away when paths were removed, or may not have
//!   obeyed: what it holds of them is looked up in the index.
//!
//! Absent on purpose: channels, tasks, SQL, the time of day except as an argument, and chance: the same events give
//! the same answers.

mod holders;
mod holdings;
mod leases;
mod leaving;
mod membership;
mod orders;
mod peers;
mod placements;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::admin::{EdgeState, EdgeStats};
use ncps_proto::{Counts, Directive, DiskReport, Hello, Peer, Resume, Told, Totals, Turn, Welcome};
use ncps_runtime::clock::UnixTime;

pub use crate::eviction::plan::{Access, Candidate, Plan};
pub use crate::record::Standing;
use leases::{Answer, Leases};
pub use leaving::{Alone, Keeper};
use membership::Room;
pub use orders::{Gone, Settled, Spare};
use orders::{Order, Why};
use peers::{Doubts, Holder};
use placements::Placements;
use session::Session;
pub use session::{QUEUE, SessionId};

#[cfg(test)]
pub(crate) use leases::TTL;
pub(crate) use placements::MEMORY;

/// Store paths in one invalidation: 20 bytes each on the wire.
pub(crate) const INVALIDATED_AT_ONCE: usize = 4096;

/// What is to be done for the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There is something to tell this edge.
    Wake(SessionId),
    /// This session is over.
    End(SessionId),
    /// This edge has said all that it holds.
    Counted(SessionId),
    /// This order is not going to be answered.
    Unanswered(u64),
}

/// How full the disk of an attached edge is.
#[derive(Clone, Debug)]
pub struct Disk {
    pub instance: String,
    /// Its name.
    pub edge: String,
    /// What its store may take, where it has a limit of its own.
    pub capacity: Option<u64>,
    pub report: DiskReport,
}

/// The state of the fleet.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Random, of the process: what edges said to another one is not known here.
    run: String,
    last_session: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// The session of each attached instance.
    attached: BTreeMap<String, SessionId>,
    leases: Leases,
    placements: Placements,
    room: Room,
    /// Instances that are not taken in before then.
    out: BTreeMap<String, Instant>,
    doubts: Doubts,
    /// Those that wait for an answer, by number.
    orders: BTreeMap<u64, Order>,
    /// What edges had been told to remove, and not answered, when their sessions ended, by instance.
    leaving: BTreeMap<String, Vec<NarFileName>>,
    /// Counts evictions and removals.
    last_order: u64,
    /// Counts accesses, to tell those of the same second apart.
    accesses: u64,
    /// Of all accesses. A clock that is set back must not make the oldest of what was just read.
    latest: UnixTime,
    actions: Vec<Action>,
}

impl Fleet {
    /// What is to be done since this was asked last, in this order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The fleet of a process. One that has no `run` remembers nobody after a break.
    pub fn new(run: String) -> Fleet {
        Fleet { run, ..Fleet::default() }
    }

    /// Opens a session. A former session of the same instance ends, and its turns go over to this one.
    pub fn open(&mut self, hello: &Hello, at: UnixTime) -> (SessionId, Welcome) {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        if let Some(former) = self.attached.insert(hello.instance.clone(), id) {
            self.end(former);
        }
        let known = hello.resume.as_ref().filter(|resume| !self.run.is_empty() && resume.run == self.run);
        self.leaving.remove(&hello.instance);
        self.placements.attached(&hello.instance, &hello.name, hello.durable);
        self.placements.leaves(&hello.instance, false);
        let resumes = self.placements.resumes(&hello.instance, known.map(|Resume { heard, .. }| *heard));
        let mut session = Session::new(hello, at);
        session.acknowledged = resumes;
        self.sessions.insert(id, session);
        if resumes.is_some() {
            self.actions.push(Action::Counted(id));
            self.tell_missed(id);
        }
        (id, Welcome { run: self.run.clone(), resumes })
    }

    fn tell_missed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let missed = self.placements.missed(&session.instance);
        for some in missed.chunks(INVALIDATED_AT_ONCE) {
            self.tell(id, Directive::Invalidate(some.to_vec()));
        }
    }

    /// A session is over. Turns end with it, unless the instance has a newer one.
    pub fn close(&mut self, id: SessionId, now: Instant) {
        let Some(instance) = self.end(id) else { return };
        self.attached.remove(&instance);
        self.leases.drop_holder(&instance);
        self.placements.detached(&instance, now);
    }

    /// Ends every session, as for a stop: edges attach again where they can.
    pub fn close_all(&mut self, now: Instant) {
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close(id, now);
        }
    }

    /// Ends an edge's session: it attaches again, and says everything anew.
    pub fn cut(&mut self, instance: &str, now: Instant) {
        if let Some(id) = self.session_of(instance) {
            self.close(id, now);
        }
    }

    /// Nobody answers any more what this session was asked.
    fn end(&mut self, id: SessionId) -> Option<String> {
        let session = self.sessions.remove(&id)?;
        let instance = session.instance.clone();
        self.placements.misses(&instance, session.unheard());
        let unanswered = self.orders.extract_if(.., |_, order| order.session == id).collect::<Vec<_>>();
        for (number, order) in unanswered {
            if matches!(order.why, Why::Removed(_)) {
                self.placements.says_all(&instance);
            }
            self.leaving.entry(instance.clone()).or_default().extend(order.why.names());
            self.actions.push(Action::Unanswered(number));
        }
        self.actions.push(Action::End(id));
        Some(instance)
    }

    /// The session of an attached instance.
    pub fn session_of(&self, instance: &str) -> Option<SessionId> {
        self.attached.get(instance).copied()
    }

    /// Whether a session goes on.
    pub fn is_open(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    fn session(&self, instance: &str) -> Option<&Session> {
        self.sessions.get(self.attached.get(instance)?)
    }

    fn session_mut(&mut self, instance: &str) -> Option<&mut Session> {
        self.sessions.get_mut(self.attached.get(instance)?)
    }

    /// Has an edge told something. False where its session is over, or too much waits for it.
    pub fn tell(&mut self, id: SessionId, directive: Directive) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let told = session.tell(directive);
        if told {
            self.actions.push(Action::Wake(id));
        }
        told
    }

    /// What an edge is to be told next.
    pub fn next_told(&mut self, id: SessionId) -> Option<Told> {
        let session = self.sessions.get_mut(&id)?;
        session.next_told(self.placements.heard(&session.instance))
    }

    /// An edge has heard the directives up to this one.
    pub fn has_heard(&mut self, id: SessionId, directive: u64) {
        self.sessions.get_mut(&id).into_iter().for_each(|session| session.has_heard(directive));
    }

    /// A report of a change, or the last page of an inventory, was dealt with: it need not be said again.
    pub fn dealt_with(&mut self, id: SessionId, report: u64) {
        if let Some(session) = self.sessions.get(&id)
            && self.placements.dealt_with(&session.instance, report)
        {
            self.actions.push(Action::Wake(id));
        }
    }

    /// Tells every edge to drop narinfos from memory. One that does not keep up is cut. Returns the names of these.
    pub fn invalidate(&mut self, hashes: &[StorePathHash], now: Instant) -> Vec<String> {
        let mut slow = Vec::new();
        self.placements.all_away_miss(hashes);
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let mut pages = hashes.chunks(INVALIDATED_AT_ONCE);
            if !pages.all(|some| self.tell(id, Directive::Invalidate(some.to_vec()))) {
                slow.extend(self.sessions.get(&id).map(|session| session.instance.clone()));
                self.close(id, now);
            }
        }
        slow
    }

    /// Asks for a turn; see `Leases`. That of an edge which did not give the file goes over to who asks: `failed` are
    /// the URLs of such edges, and the empty one stands for an edge without a URL.
    pub fn begin(&mut self, instance: &str, name: NarFileName, failed: &[String], now: Instant) -> Turn {
        if let Answer::HeldBy(holder) = self.leases.begin(instance, name, now) {
            let url = self.session(&holder).and_then(|session| session.url.clone());
            if !failed.contains(url.as_ref().unwrap_or(&String::new())) {
                return Turn::Theirs(url);
            }
            tracing::info!(nar = %name, %holder, to = instance, "a turn goes over: its holder does not give the file");
            self.leases.take(instance, name, now);
        }
        Turn::Yours(self.peers(instance, name))
    }

    /// Whether an edge may have a turn. One that is to leave keeps those that it has.
    pub fn may_begin(&self, instance: &str, name: NarFileName, now: Instant) -> bool {
        let stays = self.state_of(instance).is_none_or(|state| state == EdgeState::Attached);
        stays || self.leases.is_held_by(instance, name, now)
    }

    /// From whom an edge may read a file, in the order to ask: attached edges that hold it, and are not doubted. Those
    /// that are to leave are named only where nobody else is.
    pub fn peers(&self, asker: &str, name: NarFileName) -> Vec<Peer> {
        let holders = self.placements.holders(name).into_iter();
        let holders = holders.filter(|instance| *instance != asker && !self.doubts.covers(instance, name));
        let holders = holders.filter_map(|instance| {
            let session = self.session(instance)?;
            let holder = Holder { instance, url: session.url.as_deref()?, zone: session.zone.as_deref() };
            Some((session.state == EdgeState::Attached, holder))
        });
        let (staying, leaving): (Vec<_>, Vec<_>) = holders.partition(|(stays, _)| *stays);
        let named = if staying.is_empty() { leaving } else { staying };
        let zone = self.session(asker).and_then(|session| session.zone.as_deref());
        peers::in_order(asker, zone, name, named.into_iter().map(|(_, holder)| holder))
    }

    /// Doubts that the attached edge at this URL holds a file. Returns its instance where it is to be told to look; it
    /// is not where it is not believed to hold the file, or looks already.
    pub fn doubt(&mut self, url: &str, name: NarFileName, now: Instant) -> Option<String> {
        let session = self.sessions.values().find(|session| session.url.as_deref() == Some(url))?;
        let instance = session.instance.clone();
        self.placements.held(&instance, name)?;
        self.doubts.doubt(&instance, name, now).then_some(instance)
    }

    /// What an edge is to look at next, beside what it has; with nothing left it looks no more.
    pub fn doubted(&mut self, instance: &str, seen: &BTreeSet<NarFileName>) -> Vec<NarFileName> {
        self.doubts.next(instance, seen)
    }

    /// An edge says that it has no file of this name. Returns whether that was doubted, and is believed: otherwise it
    /// may have come back meanwhile.
    pub fn is_missing(&mut self, instance: &str, name: NarFileName) -> bool {
        let believed = self.doubts.settle(instance, name);
        if believed {
            self.placements.evicted(instance, name);
        }
        believed
    }

    /// An edge has looked at a file: it is right.
    pub fn is_right(&mut self, instance: &str, name: NarFileName) {
        self.doubts.settle(instance, name);
    }

    /// Gives a turn back.
    pub fn end_turn(&mut self, instance: &str, name: NarFileName) {
        self.leases.end(instance, name);
    }

    /// The turns that are taken, and by which instance each is.
    pub fn turns(&self, now: Instant) -> Vec<(NarFileName, String)> {
        self.leases.taken(now)
    }

    /// An edge says how full its disk is.
    pub fn disk(&mut self, id: SessionId, disk: DiskReport) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.disk = Some(disk);
        }
    }

    /// An edge says what it has counted.
    pub fn totals(&mut self, id: SessionId, totals: Totals) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.totals = Some(totals);
        }
    }

    /// The attached edges by name, without what they counted.
    pub fn edges(&self) -> Vec<EdgeStats> {
        let edge = |session: &Session| {
            let totals = session.totals.as_ref();
            EdgeStats {
                name: session.name.clone(),
                instance: session.instance.clone(),
                url: session.url.clone(),
                zone: session.zone.clone(),
                durable: session.durable,
                capacity: session.capacity,
                version: totals.map_or(&session.version, |totals| &totals.version).clone(),
                attached_at: session.since.0,
                disk: session.disk,
                state: session.state,
                files: self.placements.count(&session.instance) as u64,
                counts: Counts::default(),
                upstreams: totals.map(|totals| totals.upstreams.clone()).unwrap_or_default(),
            }
        };
        let mut edges: Vec<_> = self.sessions.values().map(edge).collect();
        edges.sort_unstable_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        edges
    }

    /// The attached edges that have said how full their disk is.
    pub fn disks(&self) -> Vec<Disk> {
        let disk = |session: &Session| {
            Some(Disk {
                instance: session.instance.clone(),
                edge: session.name.clone(),
                capacity: session.capacity,
                report: session.disk?,
            })
        };
        let mut disks: Vec<Disk> = self.sessions.values().filter_map(disk).collect();
        disks.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
        disks
    }

    /// The attached edges: instance and name, in this order.
    pub fn attached(&self) -> Vec<(String, String)> {
        let mut attached: Vec<_> =
            self.sessions.values().map(|s| (s.instance.clone(), s.name.clone())).collect();
        attached.sort_unstable();
        attached
    }

    /// The attached edges of this name, or all: name and instance.
    pub fn named(&self, name: Option<&str>) -> Vec<(String, String)> {
        let meant = self.sessions.values().filter(|session| name.is_none_or(|name| name == session.name));
        let mut named: Vec<_> = meant.map(|s| (s.name.clone(), s.instance.clone())).collect();
        named.sort_unstable();
        named
    }

    /// The name of an attached edge.
    pub fn name_of(&self, instance: &str) -> Option<String> {
        self.session(instance).map(|session| session.name.clone())
    }

    /// The index that an attached edge belongs to. It removes nothing for another one.
    pub fn index_of(&self, instance: &str) -> Option<String> {
        self.session(instance)?.index.clone()
    }

    /// Tells an edge that it belongs to this index. False where it is gone or does not keep up.
    pub fn accept(&mut self, instance: &str, index: &str) -> bool {
        let Some(id) = self.session_of(instance) else { return false };
        let told = self.tell(id, Directive::AcceptIndex(index.to_owned()));
        if told && let Some(session) = self.session_mut(instance) {
            session.index = Some(index.to_owned());
        }
        told
    }

    /// Frees the memory of what ran out. Returns what was held by each edge that is away for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<(String, Vec<NarFileName>)> {
        self.leases.expire(now);
        let forgotten = self.placements.expire(now);
        self.doubts.expire(now);
        self.leaving.retain(|instance, _| self.placements.knows(instance));
        tracing::trace!(turns = self.leases.len(), sessions = self.sessions.len(), "expired");
        forgotten
    }

    /// How many turns are taken, those that ran out and were not yet forgotten included.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// How many edges are attached.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests;
