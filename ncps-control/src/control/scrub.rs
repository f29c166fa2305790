//! The scrub: every attached edge compares what it stores with its names, on schedule and on demand, one scrub at a
//! time. What edges find is counted here, believed, and reported.
//!
//! Absent: reading and healing, which is the edge's.

use std::num::NonZeroU64;
use std::sync::Arc;

use futures::future::join_all;
use ncps_nix::NarFileName;
use ncps_proto::admin::{EdgeScrub, EventKind, ScrubOrder};
use ncps_proto::{Checked, Code, Error, Job, JobProgress, JobSaid, Result, Scrub, Verdict};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::Control;
use crate::eviction::{Schedule, alarm};
use crate::journal::Note;

/// Files that a report names; the others are counted.
const NAMED: usize = 1000;

/// A scrub on its way.
#[derive(Debug)]
pub struct Scrubbing {
    /// The sum over all edges.
    pub progress: watch::Receiver<JobProgress>,
    /// Fails where control stops.
    pub report: oneshot::Receiver<Vec<EdgeScrub>>,
}

/// One scrub at a time.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    running: Arc<tokio::sync::Mutex<()>>,
}

impl Control {
    /// Begins a scrub in the background. It goes on when nobody waits for it.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where one runs; [`Code::Invalid`] where no attached edge is meant.
    pub fn begin_scrub(&self, order: ScrubOrder) -> Result<Scrubbing> {
        let busy = |_| Error::new(Code::Overloaded, "a scrub runs already");
        let turn = Arc::clone(&self.scrubber.running).try_lock_owned().map_err(busy)?;
        let edges = self.sessions.named(order.edge.as_deref());
        if edges.is_empty() {
            let which =
                order.edge.map_or("no edge is attached".to_owned(), |e| format!("no edge {e} is attached"));
            return Err(Error::new(Code::Invalid, which));
        }
        let job = Scrub {
            files: Vec::new(),
            rate: order.rate.map_or(self.scrubs.rate, NonZeroU64::new),
            deep: order.deep,
        };
        let (tell, progress) = watch::channel(JobProgress::default());
        let (done, report) = oneshot::channel();
        let (control, stop) = (self.this()?, self.tasks.life().hard());
        self.tasks.spawn_background("scrub", async move {
            let scrub = stop.run_until_cancelled(control.run_scrub(&job, edges, &tell)).await;
            drop(turn);
            if let Some(report) = scrub {
                // Who asked may have left.
                done.send(report).ok();
            }
        });
        Ok(Scrubbing { progress, report })
    }

    /// Scrubs on schedule.
    pub(super) fn start_scrubs(self: &Arc<Self>, schedule: Schedule, tasks: &Tasks) {
        let bell = Arc::<Notify>::default();
        alarm::start(schedule, Arc::clone(&self.clock), Arc::clone(&bell), tasks);
        let (control, stop) = (Arc::clone(self), tasks.life().hard());
        tasks.spawn_critical_background("scrub-schedule", async move {
            let rounds = async {
                loop {
                    bell.notified().await;
                    if let Err(error) = control.begin_scrub(ScrubOrder::default()) {
                        tracing::info!(error = error.story(), "no scrub now");
                    }
                }
            };
            stop.run_until_cancelled(rounds).await
        });
    }

    async fn run_scrub(
        &self,
        job: &Scrub,
        edges: Vec<(String, String)>,
        tell: &watch::Sender<JobProgress>,
    ) -> Vec<EdgeScrub> {
        let sums = Mutex::new(vec![JobProgress::default(); edges.len()]);
        let scrubs = edges.into_iter().enumerate().map(|(place, (edge, instance))| {
            let sums = &sums;
            async move {
                let mut scrub = EdgeScrub { edge, instance, ..EdgeScrub::default() };
                let say = |progress| {
                    let mut sums = sums.lock();
                    sums[place] = progress;
                    tell.send_replace(sum(&sums));
                };
                if let Err(error) = self.hear_scrub(&mut scrub, job.clone(), say).await {
                    scrub.failure = Some(error.story());
                }
                scrub
            }
        });
        let scrubs = join_all(scrubs).await;
        scrubs.iter().for_each(say);
        scrubs
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
        self.hear_scrub(&mut scrub, Scrub { files, rate: self.scrubs.rate, deep: false }, |_| {}).await?;
        say(&scrub);
        Ok(())
    }

    async fn hear_checked(&self, scrub: &mut EdgeScrub, checked: Checked) -> Result<()> {
        let (name, verdict, reason) = (checked.name, checked.verdict, &checked.reason);
        match verdict {
            Verdict::Right => {
                self.sessions.is_right(&scrub.instance, name);
                if let Some(nar) = checked.nar {
                    self.proven(name, checked.file_size, nar).await?;
                }
                return Ok(());
            }
            Verdict::Missing => {
                self.hear_missing(&scrub.instance, name).await;
                return Ok(());
            }
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
        self.note_checked(&scrub.instance, &checked);
        if scrub.files.len() < NAMED {
            scrub.files.push(checked);
        }
        Ok(())
    }
}

impl Control {
    fn note_checked(&self, instance: &str, Checked { name, verdict, reason, .. }: &Checked) {
        let (kind, what) = match verdict {
            Verdict::Wrong => (EventKind::Corrupt, "other bytes than its name says"),
            Verdict::Unreadable => (EventKind::Corrupt, "the disk does not give its bytes"),
            Verdict::Healed => (EventKind::Healed, "fetched again"),
            Verdict::Lost => (EventKind::Quarantined, "no source has it any more"),
            Verdict::Unhealed => (EventKind::Quarantined, "it can't be fetched now"),
            Verdict::Right | Verdict::Missing => return,
        };
        let edge = self.sessions.name_of(instance).unwrap_or_else(|| instance.to_owned());
        let detail = format!("on edge {edge}: {what}{}{reason}", if reason.is_empty() { "" } else { ", " });
        self.journal.note(Note::new(kind, detail).nar(*name));
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
