//! The eviction job: one run at a time, in small steps, whenever an edge passes a limit, on a schedule, and on
//! demand. It plans over what the edge holds, tells it what to remove step by step, and waits for each answer.
//!
//! Knows what triggers a run and what its report says. Absent: which files go (see [`super::plan`]) and removing
//! them, which is the edge's.

use std::sync::Arc;
use std::time::Duration;

use ncps_proto::admin::{EdgeEviction, EvictionOrder, Goal, Planned};
use ncps_proto::{Code, DiskReport, EdgeSettings, Error, JobProgress, Result, Victim};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::label;
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::alarm;
use super::plan::{Budget, Candidate, Plan};
use super::schedule::Schedule;
use crate::index::Index;
use crate::metrics::ControlMetrics;
use crate::pins::Pins;
use crate::sessions::{Answered, Disk, Sessions, Spare};

/// Files in one step: removed within a moment, and named in one message.
const STEP: usize = 64;
/// How long an edge may take to remove them.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is said that pins leave no room.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// Demands that may wait for a run.
const DEMANDS: usize = 16;

label! {
    /// What made eviction run.
    pub enum Trigger in "trigger" {
        /// An edge passed a limit, or a file waits for room.
        Pressure = "pressure",
        /// `--cache-lru-schedule`.
        Schedule = "schedule",
        /// Somebody asked for it.
        Demand = "demand",
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionReport {
    pub trigger: Trigger,
    pub began: UnixTime,
    pub ended: UnixTime,
    /// The attached edges that had something to free.
    pub edges: Vec<EdgeEviction>,
}

/// The job, as control holds it.
pub(crate) struct Evictor {
    demands: mpsc::Sender<Demand>,
    pressure: Pressure,
    last: Arc<Mutex<Option<EvictionReport>>>,
}

/// Somebody who waits for a run.
struct Demand {
    order: EvictionOrder,
    tell: watch::Sender<JobProgress>,
    answer: oneshot::Sender<Result<EvictionReport>>,
}

/// A run that somebody waits for. It goes on when nobody does.
#[derive(Debug)]
pub(crate) struct Evicting {
    /// What is gone of all edges, and how much is to go.
    pub(crate) progress: watch::Receiver<JobProgress>,
    /// Fails where control stops.
    pub(crate) report: oneshot::Receiver<Result<EvictionReport>>,
}

/// Where an edge's disk report makes the job run.
#[derive(Clone)]
pub(crate) struct Pressure {
    budget: Budget,
    passed: Arc<Notify>,
}

impl Pressure {
    /// Runs the job if a limit is passed.
    pub(crate) fn consider(&self, disk: &DiskReport, capacity: Option<u64>) {
        if self.is_due(disk, capacity) {
            self.passed.notify_one();
        }
    }

    /// Also where nothing is missing, but somebody waits to be told so.
    fn is_due(&self, disk: &DiskReport, capacity: Option<u64>) -> bool {
        disk.wanted > 0 || self.missing(disk, capacity) > 0
    }

    fn missing(&self, disk: &DiskReport, capacity: Option<u64>) -> u64 {
        self.budget.with(capacity).missing(disk)
    }
}

impl Evictor {
    /// Starts the job in the background of `tasks`.
    pub(crate) fn start(
        sessions: Arc<Sessions>,
        pins: Arc<Pins>,
        settings: &EdgeSettings,
        schedule: Option<Schedule>,
        clock: Arc<dyn Clock>,
        metrics: Arc<ControlMetrics>,
        tasks: &Tasks,
    ) -> Evictor {
        let (demands, asked) = mpsc::channel(DEMANDS);
        let budget = Budget { limit: settings.max_size, min_free: settings.min_free };
        let pressure = Pressure { budget, passed: Arc::default() };
        let last = Arc::default();
        let stop = tasks.life().hard();
        let bell = Arc::default();
        if let Some(schedule) = schedule {
            alarm::start(schedule, Arc::clone(&clock), Arc::clone(&bell), tasks);
        }
        let job = Job {
            sessions,
            index: Arc::clone(pins.index()),
            pins,
            pressure: pressure.clone(),
            bell,
            clock,
            metrics,
            last: Arc::clone(&last),
            said: Mutex::default(),
        };
        tasks.spawn_critical_background("eviction", async move {
            tokio::select! {
                () = job.work(asked) => {}
                () = stop.cancelled() => {}
            }
        });
        Evictor { demands, pressure, last }
    }

    pub(crate) fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    pub(crate) fn last(&self) -> Option<EvictionReport> {
        self.last.lock().clone()
    }

    /// Has it run as soon as no other run is under way.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where control is stopping.
    pub(crate) async fn begin(&self, order: EvictionOrder) -> Result<Evicting> {
        let (tell, progress) = watch::channel(JobProgress::default());
        let (answer, report) = oneshot::channel();
        self.demands.send(Demand { order, tell, answer }).await.map_err(|_| stopping())?;
        Ok(Evicting { progress, report })
    }

    /// Runs it and waits for its end.
    ///
    /// # Errors
    /// [`Code::Absent`] where no attached edge has this name; [`Code::Unavailable`] where control is stopping.
    pub(crate) async fn run(&self, order: EvictionOrder) -> Result<EvictionReport> {
        let Evicting { report, .. } = self.begin(order).await?;
        report.await.map_err(|_| stopping())?
    }
}

struct Job {
    sessions: Arc<Sessions>,
    index: Arc<Index>,
    pins: Arc<Pins>,
    pressure: Pressure,
    /// Rings on schedule.
    bell: Arc<Notify>,
    clock: Arc<dyn Clock>,
    metrics: Arc<ControlMetrics>,
    last: Arc<Mutex<Option<EvictionReport>>>,
    /// When it was said last that pins leave too little room.
    said: Mutex<Option<Instant>>,
}

impl Job {
    async fn work(&self, mut asked: mpsc::Receiver<Demand>) {
        loop {
            tokio::select! {
                () = self.pressure.passed.notified() => self.run_unasked(Trigger::Pressure).await,
                Some(Demand { order, tell, answer }) = asked.recv() => {
                    // Who asked may have left.
                    answer.send(self.run(Trigger::Demand, &order, &tell).await).ok();
                }
                () = self.bell.notified() => self.run_unasked(Trigger::Schedule).await,
            }
        }
    }

    async fn run_unasked(&self, trigger: Trigger) {
        let (tell, _) = watch::channel(JobProgress::default());
        if let Err(error) = self.run(trigger, &EvictionOrder::default(), &tell).await {
            tracing::error!(error = error.story(), "nothing can be evicted");
        }
    }

    async fn run(
        &self,
        trigger: Trigger,
        order: &EvictionOrder,
        tell: &watch::Sender<JobProgress>,
    ) -> Result<EvictionReport> {
        let (began, started) = (self.clock.now(), Instant::now());
        self.pins.expire(began).await?;
        let mut edges: Vec<EdgeEviction> = Vec::new();
        let disks = self.disks(order)?;
        let all_bytes = disks.iter().map(|disk| self.missing(order.goal, disk)).sum();
        for disk in disks {
            let missing = self.missing(order.goal, &disk);
            if order.dry_run {
                edges.push(self.foresee(disk, missing).await?);
            } else {
                let before = JobProgress { all_bytes, ..gone(&edges) };
                edges.push(self.relieve(disk, missing, |done| tell.send_replace(with(before, done))).await);
            }
        }
        let report = EvictionReport { trigger, began, ended: self.clock.now(), edges };
        if !order.dry_run {
            self.metrics.evicted(&report, started.elapsed());
            *self.last.lock() = Some(report.clone());
        }
        Ok(report)
    }

    /// The edges that have something to free.
    fn disks(&self, order: &EvictionOrder) -> Result<Vec<Disk>> {
        let mut disks = self.sessions.disks();
        if let Some(edge) = &order.edge {
            let names: Vec<_> = disks.iter().map(|disk| disk.edge.clone()).collect();
            disks.retain(|disk| disk.edge == *edge);
            if disks.is_empty() {
                return Err(unknown_edge(edge, &names));
            }
        }
        disks.retain(|disk| match order.goal {
            Goal::Limits => self.pressure.is_due(&disk.report, disk.capacity),
            Goal::To(_) | Goal::Free(_) => self.missing(order.goal, disk) > 0,
        });
        Ok(disks)
    }

    fn missing(&self, goal: Goal, Disk { report, capacity, .. }: &Disk) -> u64 {
        match goal {
            Goal::Limits => self.pressure.missing(report, *capacity),
            Goal::To(bytes) => report.used.saturating_sub(bytes),
            Goal::Free(bytes) => bytes.min(report.used),
        }
    }

    /// What must go. What pins protect is known.
    async fn plan(&self, instance: &str, missing: u64) -> Result<Plan> {
        self.pins.settled().await?;
        let closures = self.index.closures();
        Ok(self.sessions.plan(instance, missing, self.clock.now(), |name| closures.protects_file(name)))
    }

    /// What would be done on one edge.
    async fn foresee(&self, disk: Disk, missing: u64) -> Result<EdgeEviction> {
        let plan = self.plan(&disk.instance, missing).await?;
        let mut foreseen = begun(disk, missing, &plan);
        foreseen.files = plan.victims.len() as u64;
        foreseen.bytes = plan.bytes;
        for victim in &plan.victims {
            let naming = self.index.naming(victim.name).await?;
            foreseen.plan.push(Planned {
                name: victim.name,
                bytes: victim.bytes,
                paths: naming.iter().map(|narinfo| narinfo.store_path.clone()).collect(),
                last_access: Some(victim.accessed.at.0).filter(|at| *at > 0),
                uploaded: victim.uploaded,
            });
        }
        Ok(foreseen)
    }

    /// Brings one edge back within its limits.
    async fn relieve<T>(
        &self,
        disk: Disk,
        missing: u64,
        so_far: impl Fn(&EdgeEviction) -> T,
    ) -> EdgeEviction {
        let report = disk.report;
        let plan = self.plan(&disk.instance, missing).await.unwrap_or_else(|error| {
            tracing::error!(error = error.story(), "what is pinned is not known: nothing is evicted");
            Plan { shortfall: missing, ..Plan::default() }
        });
        let mut done = begun(disk, missing, &plan);
        so_far(&done);
        for victims in plan.victims.chunks(STEP) {
            if let Err(error) = self.step(victims, &mut done).await {
                tracing::warn!(edge = done.edge, error = error.story(), "an eviction is broken off");
                break;
            }
            so_far(&done);
        }
        if report.wanted > 0 {
            self.sessions.settle(&done.instance, report.number);
        }
        self.say(&done);
        done
    }

    async fn step(&self, planned: &[Candidate], done: &mut EdgeEviction) -> Result<()> {
        let beside = self.index.paths_beside(planned.iter().map(|victim| victim.name).collect()).await?;
        let told = |(Candidate { name, uploaded, spare, .. }, narinfos): (&Candidate, _)| {
            (Victim { name: *name, narinfos }, spare.then_some(Spare { uploaded: *uploaded }))
        };
        let victims = planned.iter().zip(beside).map(told).collect();
        let gone = || Error::new(Code::Unavailable, "the edge is gone or does not keep up");
        let answered = self.tell(&done.instance, victims).await?.ok_or_else(gone)?;
        let answered = tokio::time::timeout(STEP_TIMEOUT, answered).await;
        let answer = answered.map_err(|_| gone())?.map_err(|_| gone())?;
        done.files += answer.names.len() as u64;
        done.bytes += answer.bytes;
        Ok(())
    }

    /// What was pinned since it was planned stays.
    async fn tell(
        &self,
        instance: &str,
        mut victims: Vec<(Victim, Option<Spare>)>,
    ) -> Result<Option<Answered>> {
        self.pins.settled().await?;
        let closures = self.index.closures();
        victims.retain(|(victim, _)| !closures.protects_file(victim.name));
        Ok(self.sessions.evict(instance, victims))
    }

    fn say(&self, done: &EdgeEviction) {
        let EdgeEviction { edge, missing, files, bytes, shortfall, pinned, .. } = done;
        if *files > 0 {
            tracing::info!(edge, files, bytes, missing, "evicted");
        }
        if *shortfall > 0 && *pinned > 0 {
            self.say_that_pins_leave_no_room(done);
        } else if *shortfall > 0 {
            tracing::debug!(edge, missing, shortfall, "nothing more can be evicted");
        }
    }

    /// Not again with every file that finds no room.
    fn say_that_pins_leave_no_room(&self, EdgeEviction { edge, shortfall, pinned, .. }: &EdgeEviction) {
        let mut said = self.said.lock();
        if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(
                edge,
                pinned,
                shortfall,
                "pins leave less room than the limits ask for: what does not fit is served and not kept"
            );
        }
    }
}

fn begun(disk: Disk, missing: u64, plan: &Plan) -> EdgeEviction {
    EdgeEviction {
        edge: disk.edge,
        instance: disk.instance,
        missing,
        shortfall: plan.shortfall,
        pinned: plan.pinned,
        ..EdgeEviction::default()
    }
}

/// What of these is gone.
fn gone(edges: &[EdgeEviction]) -> JobProgress {
    edges.iter().fold(JobProgress::default(), with)
}

fn with(before: JobProgress, EdgeEviction { files, bytes, .. }: &EdgeEviction) -> JobProgress {
    JobProgress { files: before.files + files, bytes: before.bytes + bytes, ..before }
}

fn stopping() -> Error {
    Error::new(Code::Unavailable, "control is stopping")
}

fn unknown_edge(edge: &str, attached: &[String]) -> Error {
    let attached = if attached.is_empty() { "none".to_owned() } else { attached.join(", ") };
    Error::new(Code::Absent, format!("no edge {edge} is attached; attached: {attached}"))
}
