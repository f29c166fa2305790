//! The eviction job: one run at a time, in small steps, whenever an edge passes a limit, on a schedule, and on
//! demand. It plans over what the edge holds, tells it what to remove step by step, and waits for each answer.
//!
//! Knows what triggers a run and what its report says. Absent: which files go (see [`super::plan`]) and removing
//! them, which is the edge's.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::{Code, DiskReport, EdgeSettings, Error, Eviction, Result, Victim};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::label;
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::alarm;
use super::plan::Budget;
use super::schedule::Schedule;
use crate::index::Index;
use crate::metrics::ControlMetrics;
use crate::sessions::Sessions;

/// Files in one step: removed within a moment, and named in one message.
const STEP: usize = 64;
/// How long an edge may take to remove them.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
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

/// What a run did on one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeEviction {
    pub instance: String,
    /// Bytes that had to be freed.
    pub missing: u64,
    /// NAR files that were removed.
    pub files: u64,
    /// What they took on the disk.
    pub bytes: u64,
    /// Bytes that could not be planned for: all that is left is in flight. 0 where the budget was met.
    pub shortfall: u64,
}

/// The job, as control holds it.
pub(crate) struct Evictor {
    demands: mpsc::Sender<oneshot::Sender<EvictionReport>>,
    pressure: Pressure,
    last: Arc<Mutex<Option<EvictionReport>>>,
}

/// Where an edge's disk report makes the job run.
#[derive(Clone)]
pub(crate) struct Pressure {
    budget: Budget,
    passed: Arc<Notify>,
}

impl Pressure {
    /// Runs the job if a limit is passed.
    pub(crate) fn consider(&self, disk: &DiskReport) {
        if self.is_due(disk) {
            self.passed.notify_one();
        }
    }

    /// Also where nothing is missing, but somebody waits to be told so.
    fn is_due(&self, disk: &DiskReport) -> bool {
        disk.wanted > 0 || self.budget.missing(disk) > 0
    }
}

impl Evictor {
    /// Starts the job in the background of `tasks`.
    pub(crate) fn start(
        sessions: Arc<Sessions>,
        index: Arc<Index>,
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
            index,
            pressure: pressure.clone(),
            bell,
            clock,
            metrics,
            last: Arc::clone(&last),
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

    /// Runs it and waits for its end.
    pub(crate) async fn run(&self) -> Result<EvictionReport> {
        let (answer, report) = oneshot::channel();
        let stopping = || Error::new(Code::Unavailable, "control is stopping");
        self.demands.send(answer).await.map_err(|_| stopping())?;
        report.await.map_err(|_| stopping())
    }
}

struct Job {
    sessions: Arc<Sessions>,
    index: Arc<Index>,
    pressure: Pressure,
    /// Rings on schedule.
    bell: Arc<Notify>,
    clock: Arc<dyn Clock>,
    metrics: Arc<ControlMetrics>,
    last: Arc<Mutex<Option<EvictionReport>>>,
}

impl Job {
    async fn work(&self, mut asked: mpsc::Receiver<oneshot::Sender<EvictionReport>>) {
        loop {
            tokio::select! {
                () = self.pressure.passed.notified() => {
                    self.run(Trigger::Pressure).await;
                }
                Some(answer) = asked.recv() => {
                    // Who asked may have left.
                    answer.send(self.run(Trigger::Demand).await).ok();
                }
                () = self.bell.notified() => {
                    self.run(Trigger::Schedule).await;
                }
            }
        }
    }

    async fn run(&self, trigger: Trigger) -> EvictionReport {
        let (began, started) = (self.clock.now(), Instant::now());
        let mut edges = Vec::new();
        for (instance, disk) in self.sessions.disks() {
            if self.pressure.is_due(&disk) {
                edges.push(self.relieve(instance, disk).await);
            }
        }
        let report = EvictionReport { trigger, began, ended: self.clock.now(), edges };
        self.metrics.evicted(&report, started.elapsed());
        *self.last.lock() = Some(report.clone());
        report
    }

    /// Brings one edge back within its limits.
    async fn relieve(&self, instance: String, disk: DiskReport) -> EdgeEviction {
        let missing = self.pressure.budget.missing(&disk);
        let plan = self.sessions.plan(&instance, missing);
        let mut done = EdgeEviction { instance, missing, files: 0, bytes: 0, shortfall: plan.shortfall };
        for names in plan.victims.chunks(STEP) {
            if let Err(error) = self.step(names, &mut done).await {
                tracing::warn!(edge = done.instance, error = error.story(), "an eviction is broken off");
                break;
            }
        }
        if disk.wanted > 0 {
            let over = Eviction { victims: Vec::new(), settles: Some(disk.number) };
            self.sessions.evict(&done.instance, over);
        }
        say(&done);
        done
    }

    async fn step(&self, names: &[NarFileName], done: &mut EdgeEviction) -> Result<()> {
        let mut victims = Vec::with_capacity(names.len());
        for name in names {
            let naming = self.index.naming(*name).await?;
            let narinfos = naming.iter().map(|narinfo| narinfo.store_path.hash()).collect();
            victims.push(Victim { name: *name, narinfos });
        }
        let gone = || Error::new(Code::Unavailable, "the edge is gone or does not keep up");
        let eviction = Eviction { victims, settles: None };
        let (before, mut answers) = self.sessions.evict(&done.instance, eviction).ok_or_else(gone)?;
        let answered = answers.wait_for(|now| now.answers > before.answers);
        let answered = tokio::time::timeout(STEP_TIMEOUT, answered).await;
        let after = *answered.map_err(|_| gone())?.map_err(|_| gone())?;
        done.files += after.files - before.files;
        done.bytes += after.bytes - before.bytes;
        Ok(())
    }
}

fn say(done: &EdgeEviction) {
    let EdgeEviction { instance, missing, files, bytes, shortfall } = done;
    if *files > 0 {
        tracing::info!(edge = instance, files, bytes, missing, "evicted");
    }
    if *shortfall > 0 {
        tracing::debug!(edge = instance, missing, shortfall, "nothing more can be evicted");
    }
}
