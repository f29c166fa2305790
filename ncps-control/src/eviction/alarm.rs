//! Rings at the times of a schedule. The scheduler waits for one time after the other, as a job that runs once;
//! which time that is, [`Schedule`] says: the scheduler's own cron keeps a zone as a fixed offset, which is wrong
//! after the change to summer time, and its jobs of an interval may stop for good.
//!
//! Once a minute the time is computed anew, so that a clock that is set back counts. Absent: what runs.

use std::sync::Arc;
use std::time::Duration;

use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::tasks::Tasks;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::schedule::Schedule;

/// After this the clock is looked at again.
const LOOK: Duration = Duration::from_secs(60);

/// Rings `bell` whenever it is time, until the process stops. One ring is kept for who is busy.
pub(crate) fn start(schedule: Schedule, clock: Arc<dyn Clock>, bell: Arc<Notify>, tasks: &Tasks) {
    let alarm = Alarm { turns: Turns { since: clock.now(), schedule }, clock, bell };
    let stop = tasks.life().soft();
    let scheduler = tasks.spawn_blocking("scheduler", move || alarm.ring(&stop));
    tasks.spawn_critical_background("schedule", async move {
        if let Ok(Err(error)) = scheduler.await {
            tracing::error!(%error, "the scheduler has failed");
        }
    });
}

struct Alarm {
    turns: Turns,
    clock: Arc<dyn Clock>,
    bell: Arc<Notify>,
}

impl Alarm {
    /// In a runtime of its own: whatever the scheduler spawned goes with it, which its own shutdown leaves behind.
    fn ring(self, stop: &CancellationToken) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(runtime.block_on(stop.run_until_cancelled(self.rounds())).unwrap_or(Ok(()))?)
    }

    async fn rounds(mut self) -> Result<(), JobSchedulerError> {
        let (scheduler, due) = (JobScheduler::new().await?, Arc::new(Notify::new()));
        scheduler.start().await?;
        let mut armed: Option<(UnixTime, Job)> = None;
        loop {
            let next = self.turns.next(self.clock.now());
            if armed.as_ref().map(|(at, _)| *at) != next {
                armed = self.arm(&scheduler, armed, next, &due).await?;
            }
            tokio::select! {
                () = due.notified() => {
                    // A job that ran is removed by the scheduler.
                    armed = None;
                    self.turns.taken(self.clock.now());
                    self.bell.notify_one();
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Another time instead of the one that was waited for.
    async fn arm(
        &self,
        scheduler: &JobScheduler,
        former: Option<(UnixTime, Job)>,
        next: Option<UnixTime>,
        due: &Arc<Notify>,
    ) -> Result<Option<(UnixTime, Job)>, JobSchedulerError> {
        if let Some((_, former)) = former {
            scheduler.remove(&former.guid()).await?;
        }
        let Some(at) = next else { return Ok(None) };
        let due = Arc::clone(due);
        let job = Job::new_one_shot(at.since(self.clock.now()), move |_, _| due.notify_one())?;
        scheduler.add(job.clone()).await?;
        Ok(Some((at, job)))
    }
}

/// Which time is next, given when the one before was.
struct Turns {
    schedule: Schedule,
    /// The next time comes after this one: that of the last ring.
    since: UnixTime,
}

impl Turns {
    /// May have passed already. Where the clock was set back, times that were there before come again.
    fn next(&mut self, now: UnixTime) -> Option<UnixTime> {
        self.since = self.since.min(now);
        self.schedule.after(self.since)
    }

    fn taken(&mut self, now: UnixTime) {
        self.since = now;
    }
}

#[cfg(test)]
#[path = "alarm_tests.rs"]
mod tests;
