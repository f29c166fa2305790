//! The attached edges, and what depends on their being there: turns and placements. Decides nothing about
//! either (see [`crate::leases`], [`crate::placements`]); it joins them to sessions and to the time.
//!
//! What is said to an edge goes through a bounded queue. An edge that does not keep up is cut: after a break
//! everything is said again, so nothing is lost that way, while a queue without a limit would only hide it.

use std::collections::HashMap;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{
    Code, Directive, DiskReport, Error, Eviction, HeldNar, Hello, Job, JobReport, Result, Turn,
};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::eviction::plan::{self, Access, Candidate, NARINFO_BYTES, Plan};
use crate::jobs::{JobRun, SessionJobs};
use crate::leases::{Answer, Leases};
use crate::placements::Placements;

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
    name: String,
    url: Option<String>,
    directives: mpsc::Sender<Result<Directive>>,
    cut: CancellationToken,
    /// What it said last of its disk.
    disk: Option<DiskReport>,
    evicted: watch::Sender<Evicted>,
    jobs: SessionJobs,
}

/// What an edge has removed in a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evicted {
    /// Evictions that it has answered.
    pub(crate) answers: u64,
    pub(crate) files: u64,
    /// On disk, narinfos not counted.
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    sessions: HashMap<String, Session>,
    leases: Leases,
    placements: Placements,
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

impl Sessions {
    /// Opens a session. A former session of the same instance ends, and its turns go over to this one.
    pub(crate) fn open(&self, hello: &Hello) -> Opened {
        let (sender, directives) = mpsc::channel(QUEUE);
        let cut = CancellationToken::new();
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.placements.attached(&hello.instance);
        let session = Session {
            id,
            name: hello.name.clone(),
            url: hello.url.clone(),
            directives: sender,
            cut: cut.clone(),
            disk: None,
            evicted: watch::Sender::default(),
            jobs: SessionJobs::default(),
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

    /// A page of an edge's inventory, and when each file was last read.
    pub(crate) fn holds(&self, instance: &str, held: Vec<(HeldNar, UnixTime)>, last: bool) {
        let mut state = self.state.lock();
        state.latest = held.iter().map(|(_, at)| *at).fold(state.latest, UnixTime::max);
        let held = held.into_iter().map(|(held, at)| (held, Access { at, order: 0 }));
        state.placements.page(instance, held, last);
    }

    /// Those of a page of which it is not known when they were last read.
    pub(crate) fn never_met(&self, instance: &str, held: &[HeldNar]) -> Vec<NarFileName> {
        let state = self.state.lock();
        let names = held.iter().map(|held| held.name);
        names.filter(|name| state.placements.held(instance, *name).is_none()).collect()
    }

    /// A file came into an edge's store, which counts as a read.
    pub(crate) fn committed(&self, instance: &str, held: HeldNar, at: UnixTime) {
        let mut state = self.state.lock();
        let access = state.access(at);
        state.placements.committed(instance, held, access);
    }

    /// The same from a call that does not know what the file takes on the disk: until the edge's report says it,
    /// and unless it has said it, its size in whole blocks is believed.
    pub(crate) fn announced(&self, instance: &str, name: NarFileName, file_size: u64, at: UnixTime) {
        let mut state = self.state.lock();
        let known = state.placements.held(instance, name).map(|held| held.disk_bytes);
        let disk_bytes =
            known.unwrap_or(file_size.checked_next_multiple_of(NARINFO_BYTES).unwrap_or(file_size));
        let access = state.access(at);
        state.placements.committed(instance, HeldNar { name, file_size, disk_bytes }, access);
    }

    /// An edge served a file. False where it is not believed to hold it.
    pub(crate) fn accessed(&self, instance: &str, name: NarFileName, at: UnixTime) -> bool {
        let mut state = self.state.lock();
        let access = state.access(at);
        state.placements.accessed(instance, name, access)
    }

    /// An edge says how full its disk is.
    pub(crate) fn disk(&self, instance: &str, disk: DiskReport) {
        if let Some(session) = self.state.lock().sessions.get_mut(instance) {
            session.disk = Some(disk);
        }
    }

    /// An edge answers an eviction.
    pub(crate) fn evicted(&self, instance: &str, names: &[NarFileName]) {
        let mut state = self.state.lock();
        let sizes = names.iter().map(|name| state.placements.evicted(instance, *name));
        // What an edge says is not checked: it must not overflow.
        let bytes = sizes.fold(0, u64::saturating_add);
        if let Some(session) = state.sessions.get_mut(instance) {
            // Until the edge reports anew: nothing is evicted twice for the same want.
            if let Some(disk) = &mut session.disk {
                let freed = bytes.saturating_add(NARINFO_BYTES * names.len() as u64);
                disk.used = disk.used.saturating_sub(freed);
                disk.free = disk.free.saturating_add(freed);
            }
            session.evicted.send_modify(|evicted| {
                evicted.answers += 1;
                evicted.files += names.len() as u64;
                evicted.bytes = evicted.bytes.saturating_add(bytes);
            });
        }
    }

    /// The attached edges that have said how full their disk is.
    pub(crate) fn disks(&self) -> Vec<(String, DiskReport)> {
        let state = self.state.lock();
        let disks = state.sessions.iter();
        let mut disks: Vec<_> = disks.filter_map(|(i, session)| Some((i.clone(), session.disk?))).collect();
        disks.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        disks
    }

    /// What must leave an edge's store to free `missing` bytes.
    pub(crate) fn plan(&self, instance: &str, missing: u64) -> Plan {
        let state = self.state.lock();
        let now = now();
        let candidates = state.placements.held_by(instance).map(|(name, held)| Candidate {
            name,
            bytes: held.disk_bytes.saturating_add(NARINFO_BYTES),
            accessed: held.accessed,
            in_flight: state.leases.is_taken(name, now),
            uploaded: false,
        });
        plan::plan(candidates, missing)
    }

    /// Tells an edge to remove files. Returns what it has removed before, and where its answer will be counted;
    /// `None` where it is gone or does not keep up.
    pub(crate) fn evict(
        &self,
        instance: &str,
        eviction: Eviction,
    ) -> Option<(Evicted, watch::Receiver<Evicted>)> {
        let state = self.state.lock();
        let session = state.sessions.get(instance)?;
        let before = *session.evicted.borrow();
        session.directives.try_send(Ok(Directive::Evict(eviction))).ok()?;
        Some((before, session.evicted.subscribe()))
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

    /// How many turns are taken, those that ran out and were not yet forgotten included.
    pub(crate) fn leases(&self) -> usize {
        self.state.lock().leases.len()
    }

    /// How many edges are attached.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().sessions.len()
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
