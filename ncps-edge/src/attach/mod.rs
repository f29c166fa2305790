//! The edge's end of the attach stream: a shell around [`Dialogue`], which decides what is said and what a directive
//! means. Here are the stream, the store, the timers and the pauses between sessions, and what is done about directives.

mod changes;
pub mod dialogue;
mod news;
mod pause;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{
    Code, ControlPlane, EdgeReport, EdgeSettings, Error, HeldNar, Hello, REMEMBERED, Result, Said, Told,
    Victim,
};
use ncps_runtime::clock::Clock;
use ncps_runtime::lifecycle::ReadyLatch;
use ncps_runtime::tasks::Tasks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::changes::Change;
pub use self::dialogue::{Dialogue, Ticket};
use self::dialogue::{Effect, Next};
pub use self::news::News;
pub use self::pause::{Pause, reports_due};
use crate::access::AccessLog;
use crate::complaints::Complaints;
use crate::drain::Drain;
use crate::jobs::{SessionJobs, Workshop};
use crate::live::{Current, Live};
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::remote::NOBODYS;
use crate::room::Room;
use crate::state::StateFile;
use crate::store::{LocalStore, blocking};
use crate::totals::totals;
use crate::transfer::Engine;

/// Reports that may wait for the stream.
const WAITING: usize = 16;
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All that a session touches.
pub struct Attachment {
    pub control: Arc<dyn ControlPlane>,
    pub hello: Hello,
    pub store: Arc<LocalStore>,
    pub engine: Arc<Engine>,
    pub drain: Arc<Drain>,
    pub lookups: Arc<Lookups>,
    pub current: Arc<Current>,
    pub accesses: Arc<AccessLog>,
    pub room: Arc<Room>,
    pub state: StateFile,
    pub workshop: Arc<Workshop>,
    pub tasks: Tasks,
    pub metrics: Arc<EdgeMetrics>,
    pub clock: Arc<dyn Clock>,
    /// Of this process, for what it counts.
    pub run: String,
}

/// Keeps a session with control until the process stops. `ready` is released with the first configuration.
pub async fn run(attachment: Attachment, mut ready: Option<ReadyLatch>) {
    let stop = attachment.tasks.life().hard();
    let (mut pause, mut complaints) = (Pause::default(), Complaints::default());
    while !stop.is_cancelled() {
        attachment.drop_what_is_too_old().await;
        let broken = tokio::select! {
            broken = session(&attachment, &mut ready, &mut pause) => broken,
            () = a_moment_after(&stop) => return,
        };
        if stop.is_cancelled() {
            return;
        }
        attachment.metrics.attached.set((), 0);
        // The first try, or there was a session since.
        if pause.is_first() {
            complaints.settled();
        }
        complaints.of(&broken, pause.next());
        tokio::select! {
            () = stop.cancelled() => {}
            () = pause.wait() => {}
        }
    }
}

/// One session; returns why it broke.
async fn session(attachment: &Attachment, ready: &mut Option<ReadyLatch>, pause: &mut Pause) -> Error {
    let (reports, rx) = mpsc::channel(WAITING);
    let jobs = SessionJobs::new(Arc::clone(&attachment.workshop), reports.downgrade());
    let hello = attachment.hello().await;
    let listen = async {
        let reports = futures::stream::iter([hello]).chain(ReceiverStream::new(rx)).boxed();
        let mut directives = attachment.control.attach(reports).await?;
        while let Some(told) = directives.next().await {
            attachment.hear(told?, &jobs, ready, pause)?;
        }
        Err(Error::new(Code::Unavailable, "control ended the session"))
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
    attachment.news().end();
    attachment.room.set_attached(false);
    ended.err().unwrap_or_else(|| Error::internal("a session ended without a reason"))
}

/// Long enough after the stop for the last words to be heard.
async fn a_moment_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

impl Attachment {
    fn news(&self) -> &News {
        self.engine.news()
    }

    /// What is said first, when nothing goes on any more that a former session ordered: control counts on what it hears
    /// from here on.
    async fn hello(&self) -> Said {
        self.news().idle().await;
        self.news().begin(Hello { index: self.state.index(), ..self.hello.clone() })
    }

    /// Says what is to be said; ends well only when the process stops and everything was said.
    async fn speak(&self, reports: mpsc::Sender<Said>) -> Result<()> {
        let stop = self.tasks.life().hard();
        let mut due = reports_due();
        let mut last_words = false;
        loop {
            while let Some(next) = self.news().next().map_err(broken)? {
                self.say(next, &reports).await?;
            }
            if last_words && self.news().has_said_all() {
                return Ok(());
            }
            tokio::select! {
                () = self.news().some() => continue,
                () = self.current.upstream_back() => {
                    self.news().upstream_is_back();
                    continue;
                }
                () = self.room.report_due() => {}
                () = self.accesses.due() => {}
                _ = due.tick() => {}
                () = stop.cancelled(), if !last_words => last_words = true,
            }
            self.engine.announce_pending().await;
            self.news().all_is_due();
        }
    }

    async fn say(&self, next: Next, reports: &mpsc::Sender<Said>) -> Result<()> {
        let said = match next {
            Next::List => return self.held().await.map(|held| self.news().listed(held)),
            Next::Say(said) => said,
            Next::Look { number, change } => {
                let held = self.look(&change).await?;
                match self.news().look(number, change, |name| held.get(&name).copied()) {
                    Some(said) => said,
                    None => return Ok(()),
                }
            }
            Next::Drained => self.news().says(EdgeReport::Drained),
            Next::UpstreamBack => self.news().says(EdgeReport::UpstreamBack),
            Next::Accesses => match self.accesses.take() {
                accesses if accesses.is_empty() => return Ok(()),
                accesses => self.news().says(EdgeReport::Accesses(accesses)),
            },
            Next::Disk => match self.room.report().await {
                Ok(disk) => self.news().says(EdgeReport::Disk(disk)),
                Err(error) => {
                    tracing::warn!(%error, "it can't be said how full the disk is");
                    return Ok(());
                }
            },
            Next::Totals => {
                self.note_heard();
                self.news().says(EdgeReport::Totals(totals(&self.run, &self.metrics, &self.current)))
            }
        };
        reports.send(said).await.map_err(|unsaid| {
            if unsaid.0.report == EdgeReport::UpstreamBack {
                self.current.is_back();
            }
            broken("the stream of reports broke")
        })
    }

    /// What the store has of the files of a change.
    async fn look(&self, change: &Change) -> Result<HashMap<NarFileName, HeldNar>> {
        let (store, names) = (Arc::clone(&self.store), change.names());
        let look = move |name| Ok(store.held_file(name)?.map(|held| (name, held)));
        let held = blocking(move || names.into_iter().map(look).filter_map(io::Result::transpose).collect());
        held.await.map_err(|e| Error::internal("look at a file of the store").because(e))
    }

    /// For how long nobody was heard is known to the hour, also after a restart.
    fn note_heard(&self) {
        let (state, now) = (self.state.clone(), self.clock.now());
        if state.is_heard(now) {
            return;
        }
        self.tasks.spawn_blocking("save state", move || {
            if let Err(error) = state.note_heard(now) {
                tracing::warn!(%error, "it can't be kept when control was heard");
            }
        });
    }

    /// Control remembers only for so long what was removed. Who was away for longer is told nothing of it, and what its
    /// narinfo files vouch for could come back by it. They go when control is there again: until then they are all that
    /// there is.
    async fn drop_what_is_too_old(&self) {
        let is_too_old = |heard| self.clock.now().since(heard) >= REMEMBERED;
        if !self.state.heard().is_some_and(is_too_old) || self.control.narinfo(NOBODYS).await.is_err() {
            return;
        }
        tracing::warn!(
            "control was not heard for 90 days: the narinfo files of the store go, control gives them anew"
        );
        self.lookups.near.clear();
        let store = Arc::clone(&self.store);
        let dropped =
            blocking(move || store.narinfos()?.into_iter().try_for_each(|hash| store.remove_narinfo(hash)));
        match dropped.await {
            Ok(()) => self.workshop.reconciled.store(false, Ordering::SeqCst),
            Err(error) => tracing::error!(%error, "old narinfo files can't be removed"),
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
        let foreign = self.state.is_foreign(&index);
        self.news().belongs(!foreign);
        if foreign {
            tracing::error!(
                index,
                own = self.state.index(),
                "control has another index than the one that this edge belongs to: nothing is removed for it until \
                 ncps-cli index rebuild"
            );
        } else {
            self.workshop.reconcile_once();
        }
        self.current.set_foreign(foreign);
        self.note_heard();
        self.meet(settings)?;
        self.metrics.attached.set((), 1);
        tracing::info!(index, upstreams, "attached to control");
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn("announce", async move { engine.announce_pending().await });
        self.room.set_attached(true);
        self.engine.attached().notify_waiters();
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

    fn hear(
        &self,
        told: Told,
        jobs: &SessionJobs,
        ready: &mut Option<ReadyLatch>,
        pause: &mut Pause,
    ) -> Result<()> {
        match self.news().hear(told).map_err(broken)? {
            Some(Effect::Begin { settings, behind }) => {
                self.begin(*settings, ready)?;
                pause.over();
                self.refresh(behind);
                Ok(())
            }
            Some(effect) => self.obey(effect, jobs),
            None => Ok(()),
        }
    }

    fn obey(&self, effect: Effect, jobs: &SessionJobs) -> Result<()> {
        match effect {
            Effect::Begin { .. } => {}
            Effect::Configure(settings) => self.reconfigure(*settings)?,
            Effect::Evict { ticket, victims } => self.evict(ticket, victims),
            Effect::Settled(report) => self.room.settled(report),
            Effect::Refused(files) => {
                tracing::warn!(files, "nothing is removed for another index than our own");
                self.room.evicted(false);
            }
            Effect::Job { id, job } => jobs.begin(id, job),
            Effect::EndJob(id) => jobs.end(id),
            Effect::Remove { ticket, store_paths, nars } => {
                // Here already: what follows may be about paths that came back.
                self.lookups.outdate(&store_paths);
                let engine = Arc::clone(&self.engine);
                self.tasks.spawn("removal", async move { engine.remove(ticket, store_paths, nars).await });
            }
            Effect::Accept(index) => self.accept(index),
            Effect::Forget(paths) => {
                self.lookups.outdate(&paths);
                self.refresh(paths);
            }
            Effect::Outdate { ticket, store_paths } => {
                self.lookups.outdate(&store_paths);
                self.news().done(ticket, Vec::new());
                self.refresh(store_paths);
            }
            Effect::Drain(leaves) => self.leave(leaves),
        }
        Ok(())
    }

    /// The edge is to leave, or stays after all. Control hears when what ran has ended.
    fn leave(&self, leaves: bool) {
        let change = self.drain.set(leaves);
        if !leaves {
            return tracing::info!("this edge stays, as an administrator said");
        }
        tracing::info!("this edge is to leave, as an administrator said: it finishes what runs");
        let (drain, engine) = (Arc::clone(&self.drain), Arc::clone(&self.engine));
        let stop = self.tasks.life().hard();
        self.tasks.spawn_background("drain", async move {
            let runs = || engine.running() > 0 || !engine.pending().is_empty();
            if stop.run_until_cancelled(drain.idle(change, runs)).await == Some(true) {
                engine.news().is_drained();
            }
        });
    }

    /// Makes narinfos of the store agree with control. Those of which that fails are named again in the next session.
    fn refresh(&self, paths: Vec<StorePathHash>) {
        if paths.is_empty() {
            return;
        }
        let (lookups, engine) = (Arc::clone(&self.lookups), Arc::clone(&self.engine));
        let foreign = self.is_foreign();
        self.tasks.spawn("refresh narinfos", async move {
            for hash in paths {
                match lookups.refresh(hash, !foreign).await {
                    Ok(_) => engine.news().agrees(hash),
                    Err(error) => {
                        tracing::warn!(%hash, error = error.story(), "the narinfo in the store is behind");
                    }
                }
            }
        });
    }

    /// Whether control has another index than the one that this edge belongs to.
    fn is_foreign(&self) -> bool {
        self.current.get().is_ok_and(|live| self.state.is_foreign(&live.settings.index_id))
    }

    fn accept(&self, index: String) {
        let (state, workshop) = (self.state.clone(), Arc::clone(&self.workshop));
        let engine = Arc::clone(&self.engine);
        let current = Arc::clone(&self.current);
        self.tasks.spawn_blocking("accept index", move || match state.accept(&index) {
            Ok(()) => {
                current.set_foreign(false);
                tracing::warn!(
                    index,
                    "this edge belongs to this index from now on, as an administrator said"
                );
                engine.news().belongs(true);
                workshop.reconcile_once();
            }
            Err(error) => tracing::error!(index, %error, "it can't be kept which index this edge belongs to"),
        });
    }

    fn evict(&self, ticket: Ticket, victims: Vec<Victim>) {
        let engine = Arc::clone(&self.engine);
        self.tasks.spawn("eviction", async move { engine.evict(ticket, victims).await });
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

fn broken(why: impl ToString) -> Error {
    Error::new(Code::Unavailable, why.to_string())
}
