//! What control gives this edge to do beside its work: in the background, one job of a kind at a time, and no longer
//! than the session lasts.
//!
//! ```text
//! Directive::Job ─→ SessionJobs ─→ scrub, verify, list, prefetch ─→ EdgeReport::Job: progress, findings, the end
//! ```
//!
//! Knows how a job begins, what it may say and how it ends. Absent on purpose: when jobs run, and what is made of
//! what they say (control's).

mod check;
mod list;
mod pace;
mod prefetch;
mod reconcile;
mod scrub;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ncps_proto::{EdgeReport, Job, JobKind, JobReport, JobSaid, Said};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::live::Current;
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::store::LocalStore;
use crate::transfer::Engine;

/// What jobs work on.
pub struct Workshop {
    pub store: Arc<LocalStore>,
    pub engine: Arc<Engine>,
    pub lookups: Arc<Lookups>,
    pub current: Arc<Current>,
    pub tasks: Tasks,
    pub metrics: Arc<EdgeMetrics>,
    /// Narinfo files and NAR files agree, or are being made to.
    pub reconciled: AtomicBool,
}

/// The jobs of one session with control. Dropped, they end.
pub struct SessionJobs {
    workshop: Arc<Workshop>,
    running: Arc<Mutex<HashMap<u64, (JobKind, CancellationToken)>>>,
    /// Weak: the stream of reports has to end when who speaks has said all.
    say: mpsc::WeakSender<Said>,
    over: CancellationToken,
    _guard: DropGuard,
}

impl SessionJobs {
    /// None yet.
    pub fn new(workshop: Arc<Workshop>, say: mpsc::WeakSender<Said>) -> SessionJobs {
        let over = workshop.tasks.life().hard().child_token();
        let _guard = over.clone().drop_guard();
        SessionJobs { workshop, running: Arc::default(), say, over, _guard }
    }

    /// Begins a job, unless one of its kind runs already.
    pub fn begin(&self, id: u64, job: Job) {
        let Some(say) = self.say.upgrade() else { return };
        let stop = self.over.child_token();
        let (kind, teller) = (job.kind(), Teller { id, say });
        let busy = {
            let mut running = self.running.lock();
            let busy = running.values().any(|(other, _)| *other == kind);
            if !busy {
                running.insert(id, (kind, stop.clone()));
            }
            busy
        };
        let listed = Listed { running: Arc::clone(&self.running), id };
        let workshop = Arc::clone(&self.workshop);
        self.workshop.tasks.spawn_background("job", async move {
            let work = async {
                let ended = if busy { Err(refused()) } else { workshop.run(job, &teller, &stop).await };
                drop(listed);
                teller.say(JobSaid::Ended(ended)).await;
            };
            stop.run_until_cancelled(work).await;
        });
    }

    /// Nobody listens to it any more.
    pub fn end(&self, id: u64) {
        if let Some((_, stop)) = self.running.lock().get(&id) {
            stop.cancel();
        }
    }
}

fn refused() -> String {
    "a job of this kind runs already".to_owned()
}

/// The entry of a job that runs, until it does no longer.
struct Listed {
    running: Arc<Mutex<HashMap<u64, (JobKind, CancellationToken)>>>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

/// What a job tells control through.
struct Teller {
    id: u64,
    say: mpsc::Sender<Said>,
}

impl Teller {
    /// Waits for room in the stream. Where the session is over the job is about to end.
    async fn say(&self, said: JobSaid) {
        self.say.send(EdgeReport::Job(JobReport { id: self.id, said }).into()).await.ok();
    }
}

impl Workshop {
    async fn run(
        self: &Arc<Self>,
        job: Job,
        teller: &Teller,
        stop: &CancellationToken,
    ) -> std::result::Result<(), String> {
        match job {
            Job::Scrub(scrub) => self.scrub(scrub, teller, stop).await,
            Job::Verify(names) => self.verify(names, teller, stop).await,
            Job::ListNarinfos => self.list_narinfos(teller).await,
            Job::Prefetch(prefetch) => self.prefetch(prefetch, teller).await,
        }
    }
}
