//! The attached edges, as the rest of control knows them: a shell around [`Fleet`], which decides everything. It gives
//! the machine the time, keeps what can't be in it (who waits for an answer, who listens to a job, whom to wake), and
//! carries out its actions.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::admin::{EdgeState, EdgeStats};
use ncps_proto::{
    Code, Directive, DiskReport, Error, HeldNar, Hello, Job, JobReport, Peer, Result, Told, Totals, Turn,
    Victim, Welcome,
};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::eviction::plan::Plan;
use crate::fleet::{Action, Fleet, SessionId};
pub(crate) use crate::fleet::{Alone, Disk, Gone, Keeper, Spare};
use crate::jobs::{JobRun, SessionJobs};
use crate::record::Standing;
use crate::refusals::Reason;

/// What a session needs beside its state.
#[derive(Debug, Default)]
struct Line {
    cut: CancellationToken,
    jobs: SessionJobs,
    /// It has said all that it holds.
    counted: watch::Sender<bool>,
    /// Who waits for its next directive.
    waker: Option<Waker>,
}

/// An edge's answer to an eviction or a removal. Who waits hears it with [`Settled::tell`].
#[derive(Debug)]
pub(crate) struct Settled {
    /// It was to make room.
    pub(crate) for_room: bool,
    gone: Gone,
    answer: Option<oneshot::Sender<Gone>>,
}

impl Settled {
    pub(crate) fn tell(self) {
        // Who asked may have left.
        self.answer.and_then(|answer| answer.send(self.gone).ok());
    }
}

/// The answer to an eviction or a removal, which never comes where the session ends first.
pub(crate) type Answered = oneshot::Receiver<Gone>;

#[derive(Debug, Default)]
struct State {
    fleet: Fleet,
    /// Of each session of the fleet.
    lines: HashMap<SessionId, Line>,
    /// Who waits for the answer to an order.
    waiting: HashMap<u64, oneshot::Sender<Gone>>,
}

impl State {
    fn carry_out(&mut self) {
        for action in self.fleet.actions() {
            match action {
                Action::Wake(id) => self.wake(id),
                Action::End(id) => {
                    // Whoever listens or waits hears that it is gone.
                    if let Some(line) = self.lines.remove(&id) {
                        line.cut.cancel();
                        line.waker.into_iter().for_each(Waker::wake);
                    }
                }
                Action::Counted(id) => {
                    if let Some(line) = self.lines.get(&id) {
                        line.counted.send_replace(true);
                    }
                }
                Action::Unanswered(number) => drop(self.waiting.remove(&number)),
            }
        }
    }

    fn wake(&mut self, id: SessionId) {
        let waker = self.lines.get_mut(&id).and_then(|line| line.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }

    fn line_of(&mut self, instance: &str) -> Option<(SessionId, &mut Line)> {
        let id = self.fleet.session_of(instance)?;
        Some((id, self.lines.get_mut(&id)?))
    }

    fn order(&mut self, order: impl FnOnce(&mut Fleet) -> Option<u64>) -> Option<Answered> {
        let number = order(&mut self.fleet);
        let (answer, answered) = oneshot::channel();
        let told = number.map(|number| self.waiting.insert(number, answer));
        self.carry_out();
        told.map(|_| answered)
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
    pub(crate) id: SessionId,
    pub(crate) welcome: Welcome,
    pub(crate) directives: Directives,
    /// Fires when the session is over: taken over, too slow, or shutting down.
    pub(crate) cut: CancellationToken,
}

/// What one edge is told, until its session is over.
#[derive(Debug)]
pub(crate) struct Directives {
    sessions: Arc<Sessions>,
    id: SessionId,
}

impl Stream for Directives {
    type Item = Told;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        let mut state = self.sessions.state.lock();
        let next = state.fleet.next_told(self.id);
        match state.lines.get_mut(&self.id) {
            None => Poll::Ready(None),
            Some(_) if next.is_some() => Poll::Ready(next),
            Some(line) => {
                line.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Unavailable, "the edge is gone or does not keep up")
}

/// What only reads the state of the fleet.
impl Sessions {
    fn look<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        look(&self.state.lock().fleet)
    }

    /// See [`Fleet::never_met`].
    pub(crate) fn never_met(&self, instance: &str, held: &[HeldNar]) -> Vec<NarFileName> {
        self.look(|fleet| fleet.never_met(instance, held))
    }

    /// See [`Fleet::edges`].
    pub(crate) fn edges(&self) -> Vec<EdgeStats> {
        self.look(Fleet::edges)
    }

    /// See [`Fleet::disks`].
    pub(crate) fn disks(&self) -> Vec<Disk> {
        self.look(Fleet::disks)
    }

    /// See [`Fleet::plan`].
    pub(crate) fn plan(
        &self,
        instance: &str,
        missing: u64,
        today: UnixTime,
        is_pinned: impl Fn(NarFileName) -> bool,
    ) -> Plan {
        self.look(|fleet| fleet.plan(instance, missing, today, now(), is_pinned))
    }

    /// See [`Fleet::named`].
    pub(crate) fn named(&self, name: Option<&str>) -> Vec<(String, String)> {
        self.look(|fleet| fleet.named(name))
    }

    /// See [`Fleet::name_of`].
    pub(crate) fn name_of(&self, instance: &str) -> Option<String> {
        self.look(|fleet| fleet.name_of(instance))
    }

    /// See [`Fleet::index_of`].
    pub(crate) fn index_of(&self, instance: &str) -> Option<String> {
        self.look(|fleet| fleet.index_of(instance))
    }

    /// See [`Fleet::holds_file`].
    pub(crate) fn holds_file(&self, instance: &str, name: NarFileName) -> bool {
        self.look(|fleet| fleet.holds_file(instance, name))
    }

    /// See [`Fleet::holdings`].
    pub(crate) fn holdings(&self, instance: &str) -> Vec<NarFileName> {
        self.look(|fleet| fleet.holdings(instance))
    }

    /// See [`Fleet::is_held`].
    pub(crate) fn is_held(&self, name: NarFileName) -> bool {
        self.look(|fleet| fleet.is_held(name))
    }

    /// See [`Fleet::peers`].
    pub(crate) fn peers(&self, asker: &str, name: NarFileName) -> Vec<Peer> {
        self.look(|fleet| fleet.peers(asker, name))
    }

    /// See [`Fleet::holders`].
    pub(crate) fn holders(&self, name: NarFileName) -> Vec<String> {
        self.look(|fleet| fleet.holders(name))
    }

    /// See [`Fleet::holding`].
    pub(crate) fn holding(&self, name: NarFileName) -> Vec<String> {
        self.look(|fleet| fleet.holding(name))
    }

    /// See [`Fleet::holder_names`].
    pub(crate) fn holder_names(&self, name: NarFileName) -> Vec<String> {
        self.look(|fleet| fleet.holder_names(name))
    }

    /// See [`Fleet::is_leaving`].
    pub(crate) fn is_leaving(&self, instance: &str, name: NarFileName) -> bool {
        self.look(|fleet| fleet.is_leaving(instance, name))
    }

    /// See [`Fleet::is_lost`].
    pub(crate) fn is_lost(&self, instance: &str, name: NarFileName, for_room: bool) -> bool {
        self.look(|fleet| fleet.is_lost(instance, name, for_room))
    }

    /// See [`Fleet::is_remembered`].
    pub(crate) fn is_remembered(&self, name: NarFileName) -> bool {
        self.look(|fleet| fleet.is_remembered(name))
    }

    /// See [`Fleet::has`].
    pub(crate) fn has(&self, name: NarFileName, uploaded: bool) -> bool {
        self.look(|fleet| fleet.has(name, uploaded))
    }

    /// See [`Fleet::is_kept`].
    pub(crate) fn is_kept(&self, name: NarFileName) -> bool {
        self.look(|fleet| fleet.is_kept(name))
    }

    /// See [`Fleet::is_about_to_go`].
    pub(crate) fn is_about_to_go(&self, name: NarFileName) -> bool {
        self.look(|fleet| fleet.is_about_to_go(name))
    }

    /// See [`Fleet::keeps`].
    pub(crate) fn keeps(&self, instance: &str) -> bool {
        self.look(|fleet| fleet.keeps(instance))
    }

    /// See [`Fleet::resting`].
    pub(crate) fn resting(&self, instance: &str) -> Vec<Keeper> {
        self.look(|fleet| fleet.resting(instance))
    }

    /// See [`Fleet::keepers`].
    pub(crate) fn keepers(&self, instance: &str) -> Vec<Keeper> {
        self.look(|fleet| fleet.keepers(instance))
    }

    /// See [`Fleet::is_any_durable`].
    pub(crate) fn is_any_durable(&self) -> bool {
        self.look(Fleet::is_any_durable)
    }

    /// See [`Fleet::heir`].
    pub(crate) fn heir(&self, instance: &str) -> Option<String> {
        self.look(|fleet| fleet.heir(instance))
    }

    /// See [`Fleet::state_of`].
    pub(crate) fn state_of(&self, instance: &str) -> Option<EdgeState> {
        self.look(|fleet| fleet.state_of(instance))
    }

    /// See [`Fleet::may_begin`].
    pub(crate) fn may_begin(&self, instance: &str, name: NarFileName) -> bool {
        self.look(|fleet| fleet.may_begin(instance, name, now()))
    }

    /// See [`Fleet::remembered`].
    pub(crate) fn remembered(&self, name: &str) -> Option<String> {
        self.look(|fleet| fleet.remembered(name))
    }

    /// See [`Fleet::namesakes`].
    pub(crate) fn namesakes(&self, name: &str, instance: &str) -> Vec<String> {
        self.look(|fleet| fleet.namesakes(name, instance))
    }

    /// See [`Fleet::alone`].
    pub(crate) fn alone(&self, instance: &str) -> Vec<Alone> {
        self.look(|fleet| fleet.alone(instance))
    }

    /// See [`Fleet::turns`].
    pub(crate) fn turns(&self) -> Vec<(NarFileName, String)> {
        self.look(|fleet| fleet.turns(now()))
    }

    /// See [`Fleet::leases`].
    pub(crate) fn leases(&self) -> usize {
        self.look(Fleet::leases)
    }

    /// See [`Fleet::files`].
    pub(crate) fn placements(&self) -> usize {
        self.look(Fleet::files)
    }

    /// See [`Fleet::count`].
    pub(crate) fn count(&self) -> usize {
        self.look(Fleet::count)
    }
}

/// What happens.
impl Sessions {
    /// Those of a process.
    pub(crate) fn new(run: String) -> Sessions {
        Sessions { state: Mutex::new(State { fleet: Fleet::new(run), ..State::default() }) }
    }

    fn happens<T>(&self, event: impl FnOnce(&mut Fleet) -> T) -> T {
        let mut state = self.state.lock();
        let answer = event(&mut state.fleet);
        state.carry_out();
        answer
    }

    /// Opens a session. A former session of the same instance ends, and its turns go over to this one.
    ///
    /// # Errors
    /// See [`Fleet::room_for`].
    pub(crate) fn open(
        self: &Arc<Self>,
        hello: &Hello,
        at: UnixTime,
    ) -> std::result::Result<Opened, (Reason, Error)> {
        let mut state = self.state.lock();
        state.fleet.is_back_too_soon(hello, now())?;
        state.fleet.room_for(hello)?;
        let (id, welcome) = state.fleet.open(hello, at);
        let line = Line::default();
        let cut = line.cut.clone();
        state.lines.insert(id, line);
        state.carry_out();
        Ok(Opened { id, welcome, directives: Directives { sessions: Arc::clone(self), id }, cut })
    }

    /// See [`Fleet::has_heard`].
    pub(crate) fn has_heard(&self, id: SessionId, directive: u64) {
        self.happens(|fleet| fleet.has_heard(id, directive));
    }

    /// See [`Fleet::dealt_with`].
    pub(crate) fn dealt_with(&self, id: SessionId, report: u64) {
        self.happens(|fleet| fleet.dealt_with(id, report));
    }

    /// See [`Fleet::says_all`].
    pub(crate) fn says_all(&self, instance: &str) {
        self.happens(|fleet| fleet.says_all(instance));
    }

    /// See [`Fleet::removal`].
    pub(crate) fn removal(&self) -> Vec<(String, String)> {
        self.happens(Fleet::removal)
    }

    /// See [`Fleet::change`].
    pub(crate) fn change(&self, paths: &[StorePathHash]) -> Vec<(String, String)> {
        self.happens(|fleet| fleet.change(paths))
    }

    /// See [`Fleet::drained`].
    pub(crate) fn drained(&self, instance: &str) {
        self.happens(|fleet| fleet.drained(instance));
    }

    /// See [`Fleet::take_out`].
    pub(crate) fn take_out(&self, instance: &str) -> Vec<NarFileName> {
        self.happens(|fleet| fleet.take_out(instance, now()))
    }

    /// Tells an edge whether it is to leave.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone or does not keep up.
    pub(crate) fn drain(&self, instance: &str, leaves: bool) -> Result<()> {
        if self.happens(|fleet| fleet.drain(instance, leaves)) { Ok(()) } else { Err(gone()) }
    }

    /// See [`Fleet::close`].
    pub(crate) fn close(&self, id: SessionId) {
        self.happens(|fleet| fleet.close(id, now()));
    }

    /// See [`Fleet::close_all`].
    pub(crate) fn cut_all(&self) {
        self.happens(|fleet| fleet.close_all(now()));
    }

    /// See [`Fleet::cut`].
    pub(crate) fn cut(&self, instance: &str) {
        self.happens(|fleet| fleet.cut(instance, now()));
    }

    /// See [`Fleet::invalidate`].
    pub(crate) fn invalidate(&self, hashes: &[StorePathHash]) {
        for instance in self.happens(|fleet| fleet.invalidate(hashes, now())) {
            tracing::warn!(%instance, "edge does not keep up with invalidations, its session is cut");
        }
    }

    /// See [`Fleet::begin`].
    pub(crate) fn begin(&self, instance: &str, name: NarFileName, failed: &[String]) -> Turn {
        self.happens(|fleet| fleet.begin(instance, name, failed, now()))
    }

    /// See [`Fleet::doubt`].
    pub(crate) fn doubt(&self, url: &str, name: NarFileName) -> Option<String> {
        self.happens(|fleet| fleet.doubt(url, name, now()))
    }

    /// See [`Fleet::doubted`].
    pub(crate) fn doubted(&self, instance: &str, seen: &BTreeSet<NarFileName>) -> Vec<NarFileName> {
        self.happens(|fleet| fleet.doubted(instance, seen))
    }

    /// See [`Fleet::is_missing`].
    pub(crate) fn is_missing(&self, instance: &str, name: NarFileName) -> bool {
        self.happens(|fleet| fleet.is_missing(instance, name))
    }

    /// See [`Fleet::is_right`].
    pub(crate) fn is_right(&self, instance: &str, name: NarFileName) {
        self.happens(|fleet| fleet.is_right(instance, name));
    }

    /// See [`Fleet::end_turn`].
    pub(crate) fn end(&self, instance: &str, name: NarFileName) {
        self.happens(|fleet| fleet.end_turn(instance, name));
    }

    /// See [`Fleet::fits`].
    pub(crate) fn fits(&self, instance: &str, held: &[HeldNar]) -> Result<()> {
        self.happens(|fleet| fleet.fits(instance, held, now()))
    }

    /// See [`Fleet::holds`].
    pub(crate) fn holds(
        &self,
        id: SessionId,
        held: Vec<(HeldNar, UnixTime)>,
        last: bool,
    ) -> Vec<NarFileName> {
        self.happens(|fleet| fleet.holds(id, held, last))
    }

    /// See [`Fleet::committed`].
    pub(crate) fn committed(&self, id: SessionId, held: HeldNar, standing: Standing, at: UnixTime) {
        self.happens(|fleet| fleet.committed(id, held, standing, at));
    }

    /// See [`Fleet::announced`].
    pub(crate) fn announced(
        &self,
        instance: &str,
        name: NarFileName,
        file_size: u64,
        standing: Standing,
        at: UnixTime,
    ) {
        self.happens(|fleet| fleet.announced(instance, name, file_size, standing, at));
    }

    /// See [`Fleet::accessed`].
    pub(crate) fn accessed(&self, id: SessionId, name: NarFileName, at: UnixTime) -> bool {
        self.happens(|fleet| fleet.accessed(id, name, at))
    }

    /// See [`Fleet::stands`].
    pub(crate) fn stands(&self, name: NarFileName, standing: Standing) {
        self.happens(|fleet| fleet.stands(name, standing));
    }

    /// See [`Fleet::disk`].
    pub(crate) fn disk(&self, id: SessionId, disk: DiskReport) {
        self.happens(|fleet| fleet.disk(id, disk));
    }

    /// See [`Fleet::totals`].
    pub(crate) fn totals(&self, id: SessionId, totals: Totals) {
        self.happens(|fleet| fleet.totals(id, totals));
    }

    /// See [`Fleet::lost`].
    pub(crate) fn lost(&self, instance: &str, name: NarFileName) {
        self.happens(|fleet| fleet.lost(instance, name));
    }

    /// See [`Fleet::settle`].
    pub(crate) fn settle(&self, instance: &str, report: u64) {
        self.happens(|fleet| fleet.settle(instance, report));
    }

    /// See [`Fleet::expire`].
    pub(crate) fn expire(&self) -> Vec<(String, Vec<NarFileName>)> {
        self.happens(|fleet| fleet.expire(now()))
    }

    /// Tells an edge that it belongs to this index.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone or does not keep up.
    pub(crate) fn accept(&self, instance: &str, index: &str) -> Result<()> {
        if self.happens(|fleet| fleet.accept(instance, index)) { Ok(()) } else { Err(gone()) }
    }
}

/// What is waited for.
impl Sessions {
    /// Tells an edge to remove what of these may still go, to make room; see [`Fleet::going`] and [`Fleet::evict`].
    /// `None` where it is gone or does not keep up.
    pub(crate) fn evict(&self, instance: &str, victims: Vec<(Victim, Option<Spare>)>) -> Option<Answered> {
        let mut state = self.state.lock();
        let victims = state.fleet.going(instance, victims);
        if victims.is_empty() {
            return Some(answered_at_once());
        }
        state.order(|fleet| fleet.evict(instance, victims))
    }

    /// Tells an edge that narinfos changed; see [`Fleet::outdate`].
    pub(crate) fn outdate(&self, instance: &str, store_paths: Vec<StorePathHash>) -> Option<Answered> {
        self.state.lock().order(|fleet| fleet.outdate(instance, store_paths, now()))
    }

    /// Tells an edge that paths are out of the index; see [`Fleet::remove`].
    pub(crate) fn remove(
        &self,
        instance: &str,
        store_paths: Vec<StorePathHash>,
        nars: Vec<NarFileName>,
    ) -> Option<Answered> {
        self.state.lock().order(|fleet| fleet.remove(instance, store_paths, nars, now()))
    }

    /// An edge says what it removed. `None` where nobody waits for it.
    pub(crate) fn evicted(&self, id: SessionId, number: u64, names: Vec<NarFileName>) -> Option<Settled> {
        let mut state = self.state.lock();
        let settled = state.fleet.evicted(id, number, names);
        state.carry_out();
        let settled = settled?;
        let answer = state.waiting.remove(&settled.number);
        Some(Settled { for_room: settled.for_room, gone: settled.gone, answer })
    }

    /// Gives an attached edge a job.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone or does not keep up, [`Code::Overloaded`] where it has one of this kind.
    pub(crate) fn begin_job(&self, instance: &str, job: Job) -> Result<JobRun> {
        let mut state = self.state.lock();
        let (id, line) = state.line_of(instance).ok_or_else(gone)?;
        let over = line.jobs.called_off();
        let run = line.jobs.begin(&job)?;
        let directives = over.into_iter().map(Directive::EndJob).chain([Directive::Job { id: run.id, job }]);
        let all_told = directives.into_iter().all(|directive| state.fleet.tell(id, directive));
        state.carry_out();
        if all_told { Ok(run) } else { Err(gone()) }
    }

    /// An edge says something of a job. Waits where who listens does not keep up, and with it the session.
    pub(crate) async fn heard_of_job(&self, id: SessionId, report: JobReport) {
        let listener = self.state.lock().lines.get_mut(&id).and_then(|line| line.jobs.listener(&report));
        if let Some(listener) = listener {
            // Who listened may have left.
            listener.send(report.said).await.ok();
        }
    }

    /// Waits until an edge has said all that it holds.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it is gone.
    pub(crate) async fn counted(&self, instance: &str) -> Result<()> {
        let counted = self.state.lock().line_of(instance).map(|(_, line)| line.counted.subscribe());
        let gone = || Error::new(Code::Unavailable, "the edge is gone");
        counted.ok_or_else(gone)?.wait_for(|counted| *counted).await.map_err(|_| gone())?;
        Ok(())
    }
}

/// Of an edge that is told nothing.
fn answered_at_once() -> Answered {
    let (answer, answered) = oneshot::channel();
    answer.send(Gone::default()).ok();
    answered
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
