//! The scrub: every attached edge compares what it stores with its names, on schedule and on demand, one scrub at a
//! time. What edges find is counted here, believed, and reported.
//!
//! Absent: reading and healing, which is the edge's.

use std::num::NonZeroU64;
use std::sync::Arc;

use futures::future::join_all;
use ncps_nix::NarFileName;
use ncps_proto::{Checked, Code, Error, Job, JobProgress, JobSaid, Result, Scrub, Verdict};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::Control;
use crate::eviction::{Schedule, Trigger, alarm};

/// Files that a report names; the others are counted.
const NAMED: usize = 1000;

/// What a scrub is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRequest {
    /// The edges of this name; `None`: all.
    pub edge: Option<String>,
    /// Bytes per second, of each edge.
    pub rate: Option<NonZeroU64>,
    /// Decodes, too.
    pub deep: bool,
}

/// What a scrub did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubReport {
    pub trigger: Trigger,
    pub began: UnixTime,
    pub ended: UnixTime,
    pub edges: Vec<EdgeScrub>,
}

/// What it did on one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeScrub {
    /// Its name, and its instance.
    pub edge: String,
    pub instance: String,
    /// What was read.
    pub progress: JobProgress,
    /// Files that were wrong or could not be read.
    pub wrong: u64,
    /// How many of them, and of those from scrubs before, are right again; that no source has; and that can't be had now.
    pub healed: u64,
    pub lost: u64,
    pub unhealed: u64,
    /// The first of them, as they were found and as they ended.
    pub files: Vec<ScrubbedFile>,
    /// Why it ended early, where it did.
    pub failure: Option<String>,
}

/// A file that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubbedFile {
    pub name: NarFileName,
    pub verdict: Verdict,
    pub reason: String,
}

impl ScrubReport {
    /// Whether everything was looked at, and is right now.
    pub fn is_sound(&self) -> bool {
        self.edges.iter().all(|edge| edge.failure.is_none() && edge.lost + edge.unhealed == 0)
    }
}

/// A scrub on its way.
#[derive(Debug)]
pub struct Scrubbing {
    /// The sum over all edges.
    pub progress: watch::Receiver<JobProgress>,
    /// Fails where control stops.
    pub report: oneshot::Receiver<ScrubReport>,
}

/// What control remembers of scrubs.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    running: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<Option<ScrubReport>>,
}

impl Control {
    /// Begins a scrub in the background. It goes on when nobody waits for it.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where one runs; [`Code::Invalid`] where no attached edge is meant.
    pub fn scrub(self: &Arc<Self>, request: ScrubRequest) -> Result<Scrubbing> {
        self.begin_scrub(request, Trigger::Demand)
    }

    /// What the last scrub did.
    pub fn last_scrub(&self) -> Option<ScrubReport> {
        self.scrubber.last.lock().clone()
    }

    /// Scrubs on schedule.
    pub(super) fn start_scrubs(
        self: &Arc<Self>,
        schedule: Schedule,
        rate: Option<NonZeroU64>,
        tasks: &Tasks,
    ) {
        let bell = Arc::<Notify>::default();
        alarm::start(schedule, Arc::clone(&self.clock), Arc::clone(&bell), tasks);
        let (control, stop) = (Arc::clone(self), tasks.life().hard());
        tasks.spawn_critical_background("scrub-schedule", async move {
            let rounds = async {
                loop {
                    bell.notified().await;
                    let request = ScrubRequest { rate, ..ScrubRequest::default() };
                    if let Err(error) = control.begin_scrub(request, Trigger::Schedule) {
                        tracing::info!(error = error.story(), "no scrub now");
                    }
                }
            };
            stop.run_until_cancelled(rounds).await
        });
    }

    fn begin_scrub(self: &Arc<Self>, request: ScrubRequest, trigger: Trigger) -> Result<Scrubbing> {
        let busy = |_| Error::new(Code::Overloaded, "a scrub runs already");
        let turn = Arc::clone(&self.scrubber.running).try_lock_owned().map_err(busy)?;
        let edges = self.sessions.named(request.edge.as_deref());
        if edges.is_empty() {
            let which =
                request.edge.map_or("no edge is attached".to_owned(), |e| format!("no edge {e} is attached"));
            return Err(Error::new(Code::Invalid, which));
        }
        let (tell, progress) = watch::channel(JobProgress::default());
        let (done, report) = oneshot::channel();
        let (control, stop) = (Arc::clone(self), self.tasks.life().hard());
        self.tasks.spawn_background("scrub", async move {
            let scrub = stop.run_until_cancelled(control.run_scrub(request, trigger, edges, &tell)).await;
            drop(turn);
            if let Some(report) = scrub {
                *control.scrubber.last.lock() = Some(report.clone());
                // Who asked may have left.
                done.send(report).ok();
            }
        });
        Ok(Scrubbing { progress, report })
    }

    async fn run_scrub(
        &self,
        request: ScrubRequest,
        trigger: Trigger,
        edges: Vec<(String, String)>,
        tell: &watch::Sender<JobProgress>,
    ) -> ScrubReport {
        let began = self.clock.now();
        let sums = Mutex::new(vec![JobProgress::default(); edges.len()]);
        let scrubs = edges.into_iter().enumerate().map(|(place, (edge, instance))| {
            let (request, sums) = (&request, &sums);
            async move {
                let scrub = EdgeScrub { edge, instance, ..EdgeScrub::default() };
                let say = |progress| {
                    let mut sums = sums.lock();
                    sums[place] = progress;
                    tell.send_replace(sum(&sums));
                };
                self.scrub_edge(scrub, request, say).await
            }
        });
        let edges = join_all(scrubs).await;
        let report = ScrubReport { trigger, began, ended: self.clock.now(), edges };
        for edge in &report.edges {
            say(edge);
        }
        report
    }

    async fn scrub_edge(
        &self,
        mut scrub: EdgeScrub,
        request: &ScrubRequest,
        tell: impl Fn(JobProgress),
    ) -> EdgeScrub {
        let job = Scrub { files: Vec::new(), rate: request.rate, deep: request.deep };
        if let Err(error) = self.hear_scrub(&mut scrub, job, tell).await {
            scrub.failure = Some(error.story());
        }
        scrub
    }

    async fn hear_scrub(&self, scrub: &mut EdgeScrub, job: Scrub, tell: impl Fn(JobProgress)) -> Result<()> {
        let mut run = self.sessions.begin_job(&scrub.instance, Job::Scrub(job))?;
        while let Some(said) = run.next().await? {
            match said {
                JobSaid::Progress(progress) => {
                    scrub.progress = progress;
                    tell(progress);
                }
                JobSaid::Checked(checked) => self.hear_checked(scrub, checked).await?,
                JobSaid::Narinfos(_) | JobSaid::Prefetched(_) | JobSaid::Ended(_) => {}
            }
        }
        Ok(())
    }

    /// Has an edge look at these files, which are suspected.
    pub(super) async fn scrub_suspects(&self, instance: &str, files: Vec<NarFileName>) -> Result<()> {
        let mut scrub = EdgeScrub { instance: instance.to_owned(), ..EdgeScrub::default() };
        self.hear_scrub(&mut scrub, Scrub { files, ..Scrub::default() }, |_| {}).await?;
        say(&scrub);
        Ok(())
    }

    async fn hear_checked(&self, scrub: &mut EdgeScrub, checked: Checked) -> Result<()> {
        let Checked { name, verdict, nar, file_size, reason } = checked;
        match verdict {
            Verdict::Right => {
                if let Some(nar) = nar {
                    self.proven(name, file_size, nar).await?;
                }
                return Ok(());
            }
            Verdict::Missing => return Ok(()),
            Verdict::Wrong | Verdict::Unreadable => {
                scrub.wrong += 1;
                self.sessions.lost(&scrub.instance, name);
            }
            Verdict::Healed => scrub.healed += 1,
            Verdict::Lost => {
                scrub.lost += 1;
                self.is_lost(name).await?;
            }
            Verdict::Unhealed => scrub.unhealed += 1,
        }
        tracing::info!(edge = scrub.edge, nar = %name, ?verdict, reason, "scrubbed");
        if scrub.files.len() < NAMED {
            scrub.files.push(ScrubbedFile { name, verdict, reason });
        }
        Ok(())
    }
}

fn sum(all: &[JobProgress]) -> JobProgress {
    all.iter().fold(JobProgress::default(), |sum, one| JobProgress {
        files: sum.files.saturating_add(one.files),
        bytes: sum.bytes.saturating_add(one.bytes),
        all_files: sum.all_files.saturating_add(one.all_files),
        all_bytes: sum.all_bytes.saturating_add(one.all_bytes),
    })
}

fn say(scrub: &EdgeScrub) {
    let EdgeScrub { edge, progress, wrong, healed, lost, unhealed, failure, .. } = scrub;
    let (files, bytes) = (progress.files, progress.bytes);
    match failure {
        Some(failure) => tracing::warn!(edge, files, bytes, wrong, failure, "a scrub ended early"),
        None if lost + unhealed > 0 => {
            tracing::error!(
                edge,
                files,
                bytes,
                wrong,
                healed,
                lost,
                unhealed,
                "a scrub found what can't be healed"
            );
        }
        None => tracing::info!(edge, files, bytes, wrong, healed, "scrubbed"),
    }
}
