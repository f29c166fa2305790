//! The attached edges, and what depends on their being there: turns and placements. Decides nothing about
//! either (see [`crate::leases`], [`crate::placements`]); it joins them to sessions and to the time.
//!
//! What is said to an edge goes through a bounded queue. An edge that does not keep up is cut: after a break
//! everything is said again, so nothing is lost that way, while a queue without a limit would only hide it.

use std::collections::HashMap;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::admin::EdgeStats;
use ncps_proto::grpc::Attached;
use ncps_proto::{
    Code, Counts, Directive, DiskReport, Error, Eviction, HeldNar, Hello, Job, JobReport, Removal, Result,
    Totals, Turn, Victim,
};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::eviction::plan::{self, Access, Candidate, NARINFO_BYTES, Plan};
use crate::jobs::{JobRun, SessionJobs};
use crate::leases::{Answer, Leases};
use crate::placements::Placements;
use crate::record::Standing;

/// Directives that may wait for one edge.
const QUEUE: usize = 1024;
/// Store paths in one invalidation: 20 bytes each on the wire.
const INVALIDATED_AT_ONCE: usize = 4096;

type Directives = mpsc::Receiver<Result<Directive>>;

/// One edge, from its hello to the end of either stream.
#[derive(Debug)]
struct Session {
    /// Tells it from an earlier session of the same instance.
    id: u64,
    /// The edge's.
    name: String,
    /// The index that it belonged to when it attached.
    index: Option<String>,
    url: Option<String>,
    zone: Option<String>,
    /// Its disk is kept.
    durable: bool,
    /// What its store may take, where it has a limit of its own.
    capacity: Option<u64>,
    version: String,
    directives: mpsc::Sender<Result<Directive>>,
    cut: CancellationToken,
    /// What it said last of its disk.
    disk: Option<DiskReport>,
    /// What it was told to remove and has not answered yet, by number.
    asked: HashMap<u64, Asked>,
    /// What it said last of what it counted.
    totals: Option<Totals>,
    since: UnixTime,
    jobs: SessionJobs,
    /// It has said all that it holds.
    counted: watch::Sender<bool>,
}

/// Who waits for an answer.
#[derive(Debug)]
struct Asked {
    why: Why,
    answer: oneshot::Sender<Gone>,
}

/// Why files had to go.
#[derive(Debug)]
enum Why {
    /// To make room: these, which are no copies to count on until the edge has answered.
    Room(Vec<NarFileName>),
    /// Their paths were removed.
    Removed,
}

/// What an edge has removed when it was told to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone {
    pub(crate) names: Vec<NarFileName>,
    /// On disk, narinfos not counted.
    pub(crate) bytes: u64,
}

/// An edge's answer to an eviction or a removal. Who waits hears it with [`Settled::tell`].
#[derive(Debug)]
pub(crate) struct Settled {
    /// It was to make room.
    pub(crate) for_room: bool,
    gone: Gone,
    answer: oneshot::Sender<Gone>,
}

impl Settled {
    pub(crate) fn tell(self) {
        // Who asked may have left.
        self.answer.send(self.gone).ok();
    }
}

/// How full the disk of an attached edge is.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) instance: String,
    /// Its name.
    pub(crate) edge: String,
    /// What its store may take, where it has a limit of its own.
    pub(crate) capacity: Option<u64>,
    pub(crate) report: DiskReport,
}

/// A file was planned to go as one copy of several.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    /// Only copies on disks that are kept counted.
    pub(crate) uploaded: bool,
}

/// The answer to an eviction or a removal, which never comes where the session ends first.
pub(crate) type Answered = oneshot::Receiver<Gone>;

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    sessions: HashMap<String, Session>,
    leases: Leases,
    placements: Placements,
    /// Counts evictions and removals.
    orders: u64,
    /// Counts accesses, to tell those of the same second apart.
    accesses: u64,
    /// Of all accesses. A clock that is set back must not make the oldest of what was just read.
    latest: UnixTime,
}

impl State {
    fn access(&mut self, at: UnixTime) -> Access {
        self.accesses += 1;
        self.latest = self.latest.max(at);
        Access { at: self.latest, order: self.accesses }
    }

    fn order(
        &mut self,
        instance: &str,
        why: Why,
        directive: impl FnOnce(u64) -> Directive,
    ) -> Option<Answered> {
        self.orders += 1;
        let number = self.orders;
        let session = self.sessions.get_mut(instance)?;
        session.directives.try_send(Ok(directive(number))).ok()?;
        let (answer, answered) = oneshot::channel();
        session.asked.insert(number, Asked { why, answer });
        Some(answered)
    }
}

/// Every attached edge.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

/// A session as its own task sees it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: u64,
    pub(crate) directives: Directives,
    /// Fires when the session is to end: taken over, too slow, or shutting down.
    pub(crate) cut: CancellationToken,
}

impl Attached for Sessions {
    fn name_of(&self, instance: &str) -> Option<String> {
        Sessions::name_of(self, instance)
    }
}

impl Sessions {
    /// Opens a session. A former session of the same instance ends, and its turns go over to this one.
    pub(crate) fn open(&self, hello: &Hello, at: UnixTime) -> Opened {
        let (sender, directives) = mpsc::channel(QUEUE);
        let cut = CancellationToken::new();
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.placements.attached(&hello.instance, hello.durable);
        let session = Session {
            id,
            name: hello.name.clone(),
            index: hello.index.clone(),
            url: hello.url.clone(),
            zone: hello.zone.clone(),
            durable: hello.durable,
            capacity: hello.capacity,
            version: hello.version.clone(),
            directives: sender,
            cut: cut.clone(),
            disk: None,
            asked: HashMap::new(),
            totals: None,
            since: at,
            jobs: SessionJobs::default(),
            counted: watch::Sender::new(false),
        };
        if let Some(former) = state.sessions.insert(hello.instance.clone(), session) {
            former.cut.cancel();
        }
        Opened { id, directives, cut }
    }

    /// A session is over. Turns end with it, unless the instance has a newer one.
    pub(crate) fn close(&self, instance: &str, id: u64) {
        let mut state = self.state.lock();
        if state.sessions.get(instance).is_none_or(|session| session.id != id) {
            return;
        }
        state.sessions.remove(instance);
        state.leases.drop_holder(instance);
        state.placements.detached(instance, now());
    }

    /// Cuts every session, as for a stop: edges attach again where they can.
    pub(crate) fn cut_all(&self) {
        for session in self.state.lock().sessions.values() {
            session.cut.cancel();
        }
    }

    /// Tells every edge to drop narinfos from memory.
    pub(crate) fn invalidate(&self, hashes: &[StorePathHash]) {
        let state = self.state.lock();
        for some in hashes.chunks(INVALIDATED_AT_ONCE) {
            for (instance, session) in &state.sessions {
                let sent = session.directives.try_send(Ok(Directive::Invalidate(some.to_vec())));
                if sent.is_err() && !session.cut.is_cancelled() {
                    tracing::warn!(%instance, "edge does not keep up with invalidations, its session is cut");
                    session.cut.cancel();
                }
            }
        }
    }

    /// Asks for a turn; see [`Leases`].
    pub(crate) fn begin(&self, instance: &str, name: NarFileName) -> Turn {
        let mut state = self.state.lock();
        match state.leases.begin(instance, name, now()) {
            Answer::Granted => Turn::Yours,
            Answer::HeldBy(holder) => {
                Turn::Theirs(state.sessions.get(&holder).and_then(|session| session.url.clone()))
            }
        }
    }

    /// Gives a turn back.
    pub(crate) fn end(&self, instance: &str, name: NarFileName) {
        self.state.lock().leases.end(instance, name);
    }

    /// A page of an edge's inventory, and when each file was last read. Returns what it held before and does not
    /// say any more.
    pub(crate) fn holds(
        &self,
        instance: &str,
        held: Vec<(HeldNar, UnixTime)>,
        last: bool,
    ) -> Vec<NarFileName> {
        let mut state = self.state.lock();
        state.latest = held.iter().map(|(_, at)| *at).fold(state.latest, UnixTime::max);
        let held = held.into_iter().map(|(held, at)| (held, Access { at, order: 0 }));
        if let Some(session) = state.sessions.get(instance).filter(|_| last) {
            session.counted.send_replace(true);
        }
        state.placements.page(instance, held, last)
    }

    /// Those of a page of which it is not known when they were last read.
    pub(crate) fn never_met(&self, instance: &str, held: &[HeldNar]) -> Vec<NarFileName> {
        let state = self.state.lock();
        let names = held.iter().map(|held| held.name);
        names.filter(|name| state.placements.held(instance, *name).is_none()).collect()
    }

    /// A file came into an edge's store, which counts as a read. What would be lost with it is said at once: an
    /// upload must never be there as one of the files that go first.
    pub(crate) fn committed(&self, instance: &str, held: HeldNar, standing: Standing, at: UnixTime) {
        let mut state = self.state.lock();
        let access = state.access(at);
        state.placements.committed(instance, held, access);
        state.placements.stands(held.name, standing);
    }

    /// The same from a call that does not know what the file takes on the disk: until the edge's report says it,
    /// and unless it has said it, its size in whole blocks is believed.
    pub(crate) fn announced(
        &self,
        instance: &str,
        name: NarFileName,
        file_size: u64,
        standing: Standing,
        at: UnixTime,
    ) {
        let mut state = self.state.lock();
        let known = state.placements.held(instance, name).map(|held| held.disk_bytes);
        let disk_bytes =
            known.unwrap_or(file_size.checked_next_multiple_of(NARINFO_BYTES).unwrap_or(file_size));
        let access = state.access(at);
        state.placements.committed(instance, HeldNar { name, file_size, disk_bytes }, access);
        state.placements.stands(name, standing);
    }

    /// An edge served a file. False where it is not believed to hold it.
    pub(crate) fn accessed(&self, instance: &str, name: NarFileName, at: UnixTime) -> bool {
        let mut state = self.state.lock();
        let access = state.access(at);
        state.placements.accessed(instance, name, access)
    }

    /// What would be lost with a file, for the edges that hold it now.
    pub(crate) fn stands(&self, name: NarFileName, standing: Standing) {
        self.state.lock().placements.stands(name, standing);
    }

    /// An edge says how full its disk is.
    pub(crate) fn disk(&self, instance: &str, disk: DiskReport) {
        if let Some(session) = self.state.lock().sessions.get_mut(instance) {
            session.disk = Some(disk);
        }
    }

    /// An edge says what it has counted.
    pub(crate) fn totals(&self, instance: &str, totals: Totals) {
        if let Some(session) = self.state.lock().sessions.get_mut(instance) {
            session.totals = Some(totals);
        }
    }

    /// The attached edges by name, without what they counted.
    pub(crate) fn edges(&self) -> Vec<EdgeStats> {
        let state = self.state.lock();
        let edge = |(instance, session): (&String, &Session)| {
            let totals = session.totals.as_ref();
            EdgeStats {
                name: session.name.clone(),
                instance: instance.clone(),
                url: session.url.clone(),
                zone: session.zone.clone(),
                durable: session.durable,
                capacity: session.capacity,
                version: totals.map_or(&session.version, |totals| &totals.version).clone(),
                attached_at: session.since.0,
                disk: session.disk,
                files: state.placements.count(instance) as u64,
                counts: Counts::default(),
                upstreams: totals.map(|totals| totals.upstreams.clone()).unwrap_or_default(),
            }
        };
        let mut edges: Vec<_> = state.sessions.iter().map(edge).collect();
        edges.sort_unstable_by(|a, b| (&a.name, &a.instance).cmp(&(&b.name, &b.instance)));
        edges
    }

    /// A file is about to leave an edge's store, which it need not say.
    pub(crate) fn removed(&self, instance: &str, name: NarFileName) {
        self.state.lock().placements.evicted(instance, name);
    }

    /// An edge says what it removed. `None` where nobody waits for it.
    pub(crate) fn evicted(&self, instance: &str, number: u64, names: Vec<NarFileName>) -> Option<Settled> {
        let mut state = self.state.lock();
        let sizes = names.iter().map(|name| state.placements.evicted(instance, *name));
        // What an edge says is not checked: it must not overflow.
        let bytes = sizes.fold(0, u64::saturating_add);
        let session = state.sessions.get_mut(instance)?;
        // Until the edge reports anew: nothing is evicted twice for the same want.
        if let Some(disk) = &mut session.disk {
            let freed = bytes.saturating_add(NARINFO_BYTES * names.len() as u64);
            disk.used = disk.used.saturating_sub(freed);
            disk.free = disk.free.saturating_add(freed);
        }
        let Asked { why, answer } = session.asked.remove(&number)?;
        let for_room = matches!(why, Why::Room(_));
        if let Why::Room(told) = why {
            // What was in use is still there.
            told.iter().for_each(|name| state.placements.going(instance, *name, false));
        }
        Some(Settled { for_room, gone: Gone { names, bytes }, answer })
    }

    /// The attached edges that have said how full their disk is.
    pub(crate) fn disks(&self) -> Vec<Disk> {
        let state = self.state.lock();
        let disk = |(instance, session): (&String, &Session)| {
            Some(Disk {
                instance: instance.clone(),
                edge: session.name.clone(),
                capacity: session.capacity,
                report: session.disk?,
            })
        };
        let mut disks: Vec<Disk> = state.sessions.iter().filter_map(disk).collect();
        disks.sort_unstable_by(|a, b| a.instance.cmp(&b.instance));
        disks
    }

    /// What must leave an edge's store to free `missing` bytes.
    pub(crate) fn plan(
        &self,
        instance: &str,
        missing: u64,
        today: UnixTime,
        is_pinned: impl Fn(NarFileName) -> bool,
    ) -> Plan {
        let state = self.state.lock();
        let now = now();
        let candidates = state.placements.held_by(instance).map(|(name, held)| {
            let uploaded = held.standing.goes_last(held.accessed, today);
            Candidate {
                name,
                bytes: held.disk_bytes.saturating_add(NARINFO_BYTES),
                accessed: held.accessed,
                in_flight: state.leases.is_taken(name, now),
                pinned: is_pinned(name),
                uploaded,
                spare: state.placements.is_spare(instance, name, uploaded),
            }
        });
        plan::plan(candidates, missing)
    }

    /// Tells an edge to remove files to make room; `None` where it is gone or does not keep up. Until it answers nobody
    /// counts on its copies of them. What was planned as one copy of several and is the last one by now stays.
    pub(crate) fn evict(&self, instance: &str, victims: Vec<(Victim, Option<Spare>)>) -> Option<Answered> {
        let mut state = self.state.lock();
        let is_last = |victim: &Victim, spare: Option<Spare>| {
            spare.is_some_and(|spare| !state.placements.is_spare(instance, victim.name, spare.uploaded))
        };
        let goes = victims.into_iter().filter(|(victim, spare)| !is_last(victim, *spare));
        let victims: Vec<_> = goes.map(|(victim, _)| victim).collect();
        if victims.is_empty() {
            return Some(answered_at_once());
        }
        let names: Vec<_> = victims.iter().map(|victim| victim.name).collect();
        let eviction = |number| Directive::Evict(Eviction { victims, settles: None, number });
        let answered = state.order(instance, Why::Room(names.clone()), eviction)?;
        names.iter().for_each(|name| state.placements.going(instance, *name, true));
        Some(answered)
    }

    /// Tells an edge that nothing more is removed because of its disk reports up to this one.
    pub(crate) fn settle(&self, instance: &str, report: u64) {
        let over = Eviction { settles: Some(report), ..Eviction::default() };
        if let Some(session) = self.state.lock().sessions.get(instance) {
            // One that does not keep up is told again when it reports anew.
            session.directives.try_send(Ok(Directive::Evict(over))).ok();
        }
    }

    /// Tells an edge that paths are out of the index, with files that nothing names any more. `None` where it is
    /// gone, or does not keep up and is cut.
    pub(crate) fn remove(
        &self,
        instance: &str,
        store_paths: Vec<StorePathHash>,
        nars: Vec<NarFileName>,
    ) -> Option<Answered> {
        let removal = |number| Directive::Remove(Removal { number, store_paths, nars });
        let told = self.state.lock().order(instance, Why::Removed, removal);
        if told.is_none() {
            self.cut(instance);
        }
        told
    }

    /// Ends an edge's session: it attaches again, and says everything anew.
    pub(crate) fn cut(&self, instance: &str) {
        if let Some(session) = self.state.lock().sessions.get(instance) {
            session.cut.cancel();
        }
    }

    /// The attached edges: instance and name, in this order.
    pub(crate) fn attached(&self) -> Vec<(String, String)> {
        let state = self.state.lock();
        let mut attached: Vec<_> = state.sessions.iter().map(|(i, s)| (i.clone(), s.name.clone())).collect();
        attached.sort_unstable();
        attached
    }

    /// Gives an attached edge a job.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone or does not keep up, [`Code::Overloaded`] where it has one of this kind.
    pub(crate) fn begin_job(&self, instance: &str, job: Job) -> Result<JobRun> {
        let mut state = self.state.lock();
        let gone = || Error::new(Code::Unavailable, "the edge is gone or does not keep up");
        let session = state.sessions.get_mut(instance).ok_or_else(gone)?;
        for over in session.jobs.called_off() {
            session.directives.try_send(Ok(Directive::EndJob(over))).map_err(|_| gone())?;
        }
        let run = session.jobs.begin(&job)?;
        let directive = Directive::Job { id: run.id, job };
        session.directives.try_send(Ok(directive)).map_err(|_| gone())?;
        Ok(run)
    }

    /// An edge says something of a job. Waits where who listens does not keep up, and with it the session.
    pub(crate) async fn heard_of_job(&self, instance: &str, report: JobReport) {
        let listener = {
            let mut state = self.state.lock();
            state.sessions.get_mut(instance).and_then(|session| session.jobs.listener(&report))
        };
        if let Some(listener) = listener {
            // Who listened may have left.
            listener.send(report.said).await.ok();
        }
    }

    /// A file is no longer in an edge's store, without having been evicted.
    pub(crate) fn lost(&self, instance: &str, name: NarFileName) {
        self.state.lock().placements.evicted(instance, name);
    }

    /// Whether an edge is believed to hold a file.
    pub(crate) fn holds_file(&self, instance: &str, name: NarFileName) -> bool {
        self.state.lock().placements.held(instance, name).is_some()
    }

    /// Everything that an edge is believed to hold.
    pub(crate) fn holdings(&self, instance: &str) -> Vec<NarFileName> {
        self.state.lock().placements.held_by(instance).map(|(name, _)| name).collect()
    }

    /// Waits until an edge has said all that it holds.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone.
    pub(crate) async fn counted(&self, instance: &str) -> Result<()> {
        let gone = || Error::new(Code::Unavailable, "the edge is gone");
        let session = |state: &State| Some(state.sessions.get(instance)?.counted.subscribe());
        let counted = session(&self.state.lock());
        counted.ok_or_else(gone)?.wait_for(|counted| *counted).await.map_err(|_| gone())?;
        Ok(())
    }

    /// The index that an attached edge belongs to. It removes nothing for another one.
    pub(crate) fn index_of(&self, instance: &str) -> Option<String> {
        self.state.lock().sessions.get(instance)?.index.clone()
    }

    /// Tells an edge that it belongs to this index.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone or does not keep up.
    pub(crate) fn accept(&self, instance: &str, index: &str) -> Result<()> {
        let mut state = self.state.lock();
        let gone = || Error::new(Code::Unavailable, "the edge is gone or does not keep up");
        let session = state.sessions.get_mut(instance).ok_or_else(gone)?;
        session.directives.try_send(Ok(Directive::AcceptIndex(index.to_owned()))).map_err(|_| gone())?;
        session.index = Some(index.to_owned());
        Ok(())
    }

    /// Whether any attached edge is believed to hold a file.
    pub(crate) fn is_held(&self, name: NarFileName) -> bool {
        !self.state.lock().placements.holders(name).is_empty()
    }

    /// The attached edges of this name, or all: name and instance.
    pub(crate) fn named(&self, name: Option<&str>) -> Vec<(String, String)> {
        let state = self.state.lock();
        let meant = state.sessions.iter().filter(|(_, session)| name.is_none_or(|name| name == session.name));
        let mut named: Vec<_> = meant.map(|(i, session)| (session.name.clone(), i.clone())).collect();
        named.sort_unstable();
        named
    }

    /// Returns the memory of what ran out.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock();
        state.leases.expire(now());
        state.placements.expire(now());
        tracing::trace!(turns = state.leases.len(), sessions = state.sessions.len(), "expired");
    }

    /// The URLs of attached edges that hold a file.
    pub(crate) fn holders(&self, name: NarFileName) -> Vec<String> {
        let state = self.state.lock();
        let holders = state.placements.holders(name);
        holders.iter().filter_map(|holder| state.sessions.get(*holder)?.url.clone()).collect()
    }

    /// The names of attached edges that hold a file.
    pub(crate) fn holder_names(&self, name: NarFileName) -> Vec<String> {
        let state = self.state.lock();
        let holders = state.placements.holders(name);
        holders.iter().filter_map(|holder| Some(state.sessions.get(*holder)?.name.clone())).collect()
    }

    /// Whether a file that an edge has no longer is lost, should nobody be able to give it again: nobody is believed to
    /// hold it, those included that are away for less than an hour. Where it had to make room on a disk that is kept, a
    /// copy on one that is not saves nothing: such a disk may be gone tomorrow.
    pub(crate) fn is_lost(&self, instance: &str, name: NarFileName, for_room: bool) -> bool {
        let placements = &self.state.lock().placements;
        match for_room && placements.keeps(instance) {
            true => !placements.is_kept(name),
            false => !placements.is_remembered(name),
        }
    }

    /// Whether any edge, attached or away for less than an hour, is believed to hold a file.
    pub(crate) fn is_remembered(&self, name: NarFileName) -> bool {
        self.state.lock().placements.is_remembered(name)
    }

    /// The name of an attached edge.
    pub(crate) fn name_of(&self, instance: &str) -> Option<String> {
        self.state.lock().sessions.get(instance).map(|session| session.name.clone())
    }

    /// How many turns are taken, those that ran out and were not yet forgotten included.
    pub(crate) fn leases(&self) -> usize {
        self.state.lock().leases.len()
    }

    /// How many edges are attached.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().sessions.len()
    }
}

/// Of an edge that is told nothing.
fn answered_at_once() -> Answered {
    let (answer, answered) = oneshot::channel();
    Settled { for_room: true, gone: Gone::default(), answer }.tell();
    answered
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
