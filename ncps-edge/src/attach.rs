//! The edge's end of the attach stream: it says who we are and what we hold, then what we serve; it hears the
//! configuration and what to forget. After a break everything is said again from the start.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ncps_proto::{
    Code, ControlPlane, Directive, EdgeReport, EdgeSettings, Error, Eviction, HeldNar, Hello, Result,
};
use ncps_runtime::lifecycle::ReadyLatch;
use ncps_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::jobs::{SessionJobs, Workshop};
use crate::live::{Current, Live};
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::room::Room;
use crate::state::StateFile;
use crate::store::{LocalStore, blocking};
use crate::totals::totals;
use crate::transfer::Engine;

/// Files in one page of the inventory.
const PAGE: usize = 10_000;
/// Reports that may wait for the stream.
const WAITING: usize = 16;
const REPORT_EVERY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All that a session touches.
pub struct Attachment {
    pub control: Arc<dyn ControlPlane>,
    pub hello: Hello,
    pub store: Arc<LocalStore>,
    pub engine: Arc<Engine>,
    pub lookups: Arc<Lookups>,
    pub current: Arc<Current>,
    pub accesses: Arc<AccessLog>,
    pub room: Arc<Room>,
    pub state: StateFile,
    pub workshop: Arc<Workshop>,
    pub tasks: Tasks,
    pub metrics: Arc<EdgeMetrics>,
    /// Of this process, for what it counts.
    pub run: String,
}

/// Keeps a session with control until the process stops. `ready` is released with the first configuration.
pub async fn run(attachment: Attachment, mut ready: Option<ReadyLatch>) {
    let stop = attachment.tasks.life().hard();
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let broken = tokio::select! {
            broken = session(&attachment, &mut ready, &mut pause) => broken,
            () = a_moment_after(&stop) => return,
        };
        if stop.is_cancelled() {
            return;
        }
        attachment.metrics.attached.set((), 0);
        tracing::warn!(error = broken.story(), retry_in = ?pause, "not attached to control");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(jittered(pause)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One session; returns why it broke.
async fn session(attachment: &Attachment, ready: &mut Option<ReadyLatch>, pause: &mut Duration) -> Error {
    let (reports, rx) = mpsc::channel(WAITING);
    let jobs = SessionJobs::new(Arc::clone(&attachment.workshop), reports.downgrade());
    let listen = async {
        let mut directives = attachment.control.attach(ReceiverStream::new(rx).boxed()).await?;
        let ended = || Error::new(Code::Unavailable, "control ended the session");
        match directives.next().await.ok_or_else(ended)?? {
            Directive::Configure(settings) => attachment.begin(*settings, ready)?,
            _ => return Err(Error::new(Code::Invalid, "control has to say the configuration first")),
        }
        *pause = FIRST_PAUSE;
        while let Some(directive) = directives.next().await {
            attachment.obey(directive?, &jobs)?;
        }
        Err(ended())
    };
    let mut listen = std::pin::pin!(listen);
    let ended: Result<()> = tokio::select! {
        ended = &mut listen => ended,
        said = attachment.speak(reports) => match said {
            // The last words are on their way: control ends the session when it has heard them.
            Ok(()) => listen.await,
            // The stream breaks with the session, which knows why.
            Err(error) => tokio::time::timeout(LAST_WORDS, listen).await.unwrap_or(Err(error)),
        },
    };
    attachment.room.set_attached(false);
    ended.err().unwrap_or_else(|| Error::internal("a session ended without a reason"))
}

/// Long enough after the stop for the last words to be heard.
async fn a_moment_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, and no harm.
    getrandom::fill(&mut byte).ok();
    pause.mul_f64(0.5 + f64::from(byte[0]) / 255.0)
}

impl Attachment {
    /// Says everything from the start, then what is served; ends well only when the process stops.
    async fn speak(&self, reports: mpsc::Sender<EdgeReport>) -> Result<()> {
        let say = |report| async { reports.send(report).await.map_err(|_| broken()) };
        say(EdgeReport::Hello(Hello { index: self.state.index(), ..self.hello.clone() })).await?;
        // What comes into the store from here on is said again after the inventory, which may lack it.
        self.engine.news().take();
        for report in inventory(self.held().await?) {
            say(report).await?;
        }
        let stop = self.tasks.life().hard();
        let mut reports_due = tokio::time::interval(REPORT_EVERY);
        loop {
            let all_is_due = tokio::select! {
                () = self.engine.news().some() => false,
                () = self.current.upstream_back() => {
                    if let Err(broken) = say(EdgeReport::UpstreamBack).await {
                        self.current.is_back();
                        return Err(broken);
                    }
                    false
                }
                () = self.room.report_due() => true,
                () = self.accesses.due() => true,
                _ = reports_due.tick() => true,
                () = stop.cancelled() => true,
            };
            for news in self.engine.news().take() {
                say(news).await?;
            }
            if !all_is_due {
                continue;
            }
            self.engine.announce_pending().await;
            let accesses = self.accesses.take();
            if !accesses.is_empty() {
                say(EdgeReport::Accesses(accesses)).await?;
            }
            // After the accesses: what was just read is not evicted for it.
            match self.room.report().await {
                Ok(disk) => say(EdgeReport::Disk(disk)).await?,
                Err(error) => tracing::warn!(%error, "it can't be said how full the disk is"),
            }
            say(EdgeReport::Totals(totals(&self.run, &self.metrics, &self.current))).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn held(&self) -> Result<Vec<HeldNar>> {
        let store = Arc::clone(&self.store);
        let held = blocking(move || store.list()).await;
        held.map_err(|e| Error::internal("list the store").because(e))
    }

    /// A session begins with its first configuration.
    fn begin(&self, settings: EdgeSettings, ready: &mut Option<ReadyLatch>) -> Result<()> {
        let (index, upstreams) = (settings.index_id.clone(), settings.upstreams.len());
        if self.state.is_foreign(&index) {
            tracing::error!(
                index,
                own = self.state.index(),
                "control has another index than the one that this edge belongs to: nothing is removed for it until \
                 ncps-cli index rebuild"
            );
        } else {
            self.workshop.reconcile_once();
        }
        self.meet(settings)?;
        self.metrics.attached.set((), 1);
        tracing::info!(index, upstreams, "attached to control");
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn("announce", async move { engine.announce_pending().await });
        self.room.set_attached(true);
        if let Some(latch) = ready.take() {
            latch.release();
        }
        Ok(())
    }

    /// What is near from before stays of use, where it is of the same index and signed with the same keys.
    fn meet(&self, settings: EdgeSettings) -> Result<()> {
        let (index, keys) = (settings.index_id.clone(), settings.public_keys.clone());
        let before = self.configure(settings)?;
        let before = before.as_ref().map(|before| (&before.settings.index_id, &before.settings.public_keys));
        let is_coming = |name| self.engine.is_running(name);
        self.lookups.attached(before != Some((&index, &keys)), is_coming);
        Ok(())
    }

    fn obey(&self, directive: Directive, jobs: &SessionJobs) -> Result<()> {
        match directive {
            Directive::Configure(settings) => self.reconfigure(*settings)?,
            Directive::Evict(eviction) => self.evict(eviction),
            Directive::Job { id, job } => jobs.begin(id, job),
            Directive::EndJob(id) => jobs.end(id),
            Directive::Remove(removal) if self.is_foreign() => self.engine.removed_none(removal.number),
            Directive::Remove(removal) => {
                // Here already: what follows may be about paths that came back.
                self.lookups.near.invalidate(&removal.store_paths);
                let engine = Arc::clone(&self.engine);
                self.tasks.spawn("removal", async move { engine.remove(removal).await });
            }
            Directive::AcceptIndex(index) => self.accept(index),
            Directive::Invalidate(hashes) => {
                self.lookups.outdate(&hashes);
                let lookups = Arc::clone(&self.lookups);
                let foreign = self.is_foreign();
                self.tasks.spawn("refresh narinfos", async move {
                    for hash in hashes {
                        if let Err(error) = lookups.refresh(hash, !foreign).await {
                            tracing::warn!(%hash, error = error.story(), "the narinfo in the store is behind");
                        }
                    }
                });
            }
        }
        Ok(())
    }

    /// Whether control has another index than the one that this edge belongs to.
    fn is_foreign(&self) -> bool {
        self.current.get().is_ok_and(|live| self.state.is_foreign(&live.settings.index_id))
    }

    fn accept(&self, index: String) {
        let (state, workshop) = (self.state.clone(), Arc::clone(&self.workshop));
        self.tasks.spawn_blocking("accept index", move || match state.accept(&index) {
            Ok(()) => {
                tracing::warn!(
                    index,
                    "this edge belongs to this index from now on, as an administrator said"
                );
                workshop.reconcile_once();
            }
            Err(error) => tracing::error!(index, %error, "it can't be kept which index this edge belongs to"),
        });
    }

    fn evict(&self, Eviction { victims, settles, number }: Eviction) {
        if !victims.is_empty() && self.is_foreign() {
            tracing::warn!(files = victims.len(), "nothing is removed for another index than our own");
            self.engine.removed_none(number);
        } else if !victims.is_empty() {
            let engine = Arc::clone(&self.engine);
            self.tasks.spawn("eviction", async move { engine.evict(number, victims).await });
        }
        if let Some(number) = settles {
            self.room.settled(number);
        }
    }

    /// Another configuration within a session, in which every invalidation is heard: what is near stays, since what
    /// is known of a path does not depend on the configuration. Except for our keys: what is near is signed by those
    /// before, and clients that know the new one alone would refuse it.
    fn reconfigure(&self, settings: EdgeSettings) -> Result<()> {
        let keys = settings.public_keys.clone();
        let before = self.configure(settings)?;
        if before.is_none_or(|before| before.settings.public_keys != keys) {
            self.lookups.near.clear();
        }
        tracing::info!("configured anew");
        Ok(())
    }

    /// Puts a configuration in force and keeps it. Returns the one before.
    fn configure(&self, settings: EdgeSettings) -> Result<Option<Arc<Live>>> {
        let before = self.current.apply(settings)?;
        let (state, current) = (self.state.clone(), Arc::clone(&self.current));
        self.tasks.spawn_blocking("save state", move || {
            let newest = || Some(current.get().ok()?.settings.clone());
            if let Err(error) = state.save_settings(newest) {
                tracing::warn!(%error, "the configuration can't be kept: a start without control won't be ready");
            }
        });
        Ok(before)
    }
}

fn broken() -> Error {
    Error::new(Code::Unavailable, "the stream of reports broke")
}

/// The inventory in pages; an empty one is said, too.
fn inventory(held: Vec<HeldNar>) -> Vec<EdgeReport> {
    let pages = held.len().div_ceil(PAGE).max(1);
    let page = |n: usize| {
        let held = held.iter().skip(n * PAGE).take(PAGE).copied().collect();
        EdgeReport::Inventory { held, last: n + 1 == pages }
    };
    (0..pages).map(page).collect()
}
