//! Control: the use cases of [`ControlPlane`] over index, policy and sessions.
//!
//! Each use case that changes something has its own file; here are the short ones and what they share.
//! Absent on purpose: sockets and the process (see [`crate::serve`]), and any NAR body.

mod adoption;
mod arrivals;
mod attach;
mod backup;
mod commit;
mod doubt;
mod errand;
mod leaving;
mod locate;
mod lost;
mod made;
mod pinning;
mod prefetch;
mod proof;
mod publication;
mod purge;
pub(crate) mod removal;
mod scrub;
mod standing;
mod sweep;
mod takeover;
mod tokens;
mod upload;
mod verify;

#[cfg(test)]
mod tests;

pub use removal::Removed;

use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ncps_nix::{NarFileName, NarInfo, PublicKey, SecretKey, StorePathHash};
use ncps_proto::admin::{EventKind, EvictionOrder, Setting};
use ncps_proto::{
    Bearer, Code, Commit, ControlPlane, Directives, DurableEdges, EdgeSettings, Errand, Error, Heard,
    Location, Lookup, ObjectNote, Publication, Reports, Result, Token, Turn, Upload, Victim, Warrants,
    Writer,
};
use ncps_runtime::clock::{Clock, Pace};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use adoption::Adoption;

use crate::admission::Admission;
use crate::db::Db;
use crate::eviction::job::{Evicting, Evictor};
use crate::eviction::{EvictionReport, Schedule};
use crate::index::{Index, Known};
use crate::journal::{Journal, Note};
use crate::keys::KeyPlace;
use crate::metrics::{ControlMetrics, Published};
use crate::pins::Pins;
use crate::popular::Popular;
use crate::publish::Policy;
use crate::record::file_of;
use crate::refusals::Refusals;
use crate::roster::Roster;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::tokens::Tokens;
use crate::totals::Tally;
use crate::warrants::Warrants as Issued;
use arrivals::Arrivals;
use backup::Copies;
use removal::Remover;
use scrub::Scrubber;
pub use scrub::Scrubbing;

/// How often the memory of turns and edges that are over is returned.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// When edges scrub what they store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrubs {
    /// `None`: only on demand.
    pub schedule: Option<Schedule>,
    /// Bytes per second, of each edge; `None`: as fast as disks are.
    pub rate: Option<NonZeroU64>,
}

/// What control is made of.
pub struct Parts<K> {
    /// The open database.
    pub db: Db,
    /// The signing key; `None` where narinfos are not signed.
    pub key: Option<SecretKey>,
    /// What edges are configured with. Its index id and public keys are filled in from the database and the
    /// key; its trusted keys are control's own, too.
    pub settings: EdgeSettings,
    /// The register of the same database.
    pub tokens: Tokens,
    /// What of clients is admitted.
    pub admission: Admission,
    /// For how long an absence is believed, give or take 10 %.
    pub negative_ttl: Duration,
    /// When eviction runs, also without need.
    pub eviction_schedule: Option<Schedule>,
    /// When stored files are compared with their names, and how fast.
    pub scrubs: Scrubs,
    /// The time of day, for what is written down.
    pub clock: Arc<dyn Clock>,
    /// Where the key lies, and what signed before it.
    pub key_place: KeyPlace,
    /// What the configuration says, to be shown.
    pub shown: Vec<Setting>,
    /// What is counted.
    pub metrics: Arc<ControlMetrics>,
    /// Let go of when the database is closed: its lock.
    pub keep: K,
}

/// The control plane.
pub struct Control {
    /// For what goes on in the background.
    me: Weak<Control>,
    pub(crate) index: Arc<Index>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) popular: Arc<Popular>,
    /// Where the key lies; held while it is replaced.
    pub(crate) key_place: tokio::sync::Mutex<KeyPlace>,
    pub(crate) shown: Vec<Setting>,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    /// Those of the configuration, beside the register's.
    configured: Vec<Token>,
    tokens: Arc<Tokens>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) refusals: Arc<Refusals>,
    remover: Remover,
    warrants: Arc<Mutex<Issued>>,
    /// One purge at a time.
    purging: tokio::sync::Mutex<()>,
    evictor: Evictor,
    scrubber: Scrubber,
    scrubs: Scrubs,
    arrivals: Arrivals,
    copies: Copies,
    /// One path at a time is verified: an edge does one job of a kind.
    verifying: tokio::sync::Mutex<()>,
    pub(crate) clock: Arc<dyn Clock>,
    started: Instant,
    pub(crate) tasks: Tasks,
    metrics: Arc<ControlMetrics>,
}

impl Control {
    /// Starts the control plane. Its tasks run in the background of `tasks`: when the hard token fires,
    /// sessions end, what waits is written and the database is closed.
    pub fn start<K: Send + 'static>(parts: Parts<K>, tasks: &Tasks) -> Arc<Control> {
        let Parts {
            db,
            key,
            mut settings,
            tokens,
            negative_ttl,
            eviction_schedule,
            scrubs,
            admission,
            clock,
            key_place,
            shown,
            metrics,
            keep,
        } = parts;
        let tally = Arc::new(Tally::new(db.counted_at_open()));
        let journal = Arc::new(Journal::new(db.clone(), Arc::clone(&clock)));
        let written = Arc::clone(&journal);
        let rows = db.clone();
        let fleet_secret = db.fleet_secret().clone();
        let roster = Arc::new(Roster::new(db.clone()));
        let refusals = Refusals::new(Arc::clone(&metrics.refused), Arc::clone(&clock));
        let index =
            Index::start(db, negative_ttl, Arc::clone(&clock), tasks, Arc::clone(&metrics), written, keep);
        let index = Arc::new(index);
        let pins = Arc::new(Pins::new(rows, Arc::clone(&index), Arc::clone(&journal)));
        settings.index_id = index.id().to_owned();
        settings.fleet_secret = Some(fleet_secret);
        let former = key_place.former.iter().map(|former| former.key.clone());
        settings.public_keys = key.iter().map(SecretKey::public).chain(former).collect();
        let (configured, register) = (settings.tokens, Arc::new(tokens));
        settings.tokens = tokens::in_force(&configured, &register);
        let policy = Policy::of(&settings, key, key_place.former.clone(), admission);
        let sessions = Arc::new(Sessions::new(new_run()));
        metrics.watch(&index, &sessions, &pins);
        metrics.watch_limit(settings.max_size, &sessions);
        metrics.watch_away(&roster, &sessions);
        let remover =
            Remover { index: Arc::clone(&index), sessions: Arc::clone(&sessions), clock: Arc::clone(&clock) };
        let upkeep = housekeeping(Arc::clone(&clock), tasks.life().hard());
        tasks.spawn_critical_background("control-housekeeping", upkeep);
        let ends = Arc::clone(&register).watch(Arc::clone(&clock), tasks.life().hard());
        tasks.spawn_critical_background("token-expiry", ends);
        let warrants = Arc::default();
        let over = Expiry {
            pins: Arc::clone(&pins),
            remover: remover.clone(),
            journal: Arc::clone(&journal),
            warrants: Arc::clone(&warrants),
        };
        let expiry = over.watch(Arc::clone(&clock), tasks.life().hard());
        tasks.spawn_critical_background("control-expiry", expiry);
        let kept =
            keep_roster(Arc::clone(&roster), Arc::clone(&sessions), Arc::clone(&clock), tasks.life().hard());
        tasks.spawn_critical_background("control-roster", kept);
        let evictor = Evictor::start(
            Arc::clone(&sessions),
            Arc::clone(&pins),
            &settings,
            eviction_schedule,
            Arc::clone(&clock),
            Arc::clone(&metrics),
            tasks,
        );
        let settings = Settings::new(settings);
        let (arrivals, arrived) = Arrivals::channel();
        let control = Arc::new_cyclic(|me| Control {
            me: Weak::clone(me),
            index,
            journal,
            tally,
            popular: Arc::default(),
            key_place: tokio::sync::Mutex::new(key_place),
            shown,
            policy,
            settings,
            configured,
            tokens: register,
            sessions,
            pins,
            roster,
            refusals,
            remover,
            warrants,
            purging: tokio::sync::Mutex::default(),
            evictor,
            scrubber: Scrubber::default(),
            scrubs,
            arrivals,
            copies: Copies::default(),
            verifying: tokio::sync::Mutex::default(),
            clock,
            started: Instant::now(),
            tasks: tasks.clone(),
            metrics,
        });
        control.meet(arrived, tasks);
        if let Some(schedule) = control.scrubs.schedule.clone() {
            control.start_scrubs(schedule, tasks);
        }
        control.start_sweep(tasks);
        control.start_dropping(tasks);
        control
    }

    fn this(&self) -> Result<Arc<Control>> {
        self.me.upgrade().ok_or_else(|| Error::new(Code::Unavailable, "control is stopping"))
    }

    /// What edges are configured with now.
    pub fn settings(&self) -> Arc<EdgeSettings> {
        self.settings.get()
    }

    /// Changes what edges are configured with: those that are attached hear it at once, others when they attach. It
    /// is kept nowhere; what has to outlive the process is put in force at each start.
    ///
    /// What control itself took from the settings at its start stays as it was: the trusted keys, and the limits by
    /// which it evicts.
    pub fn change_settings(&self, change: impl FnOnce(&mut EdgeSettings)) {
        self.settings.change(change);
    }

    /// The key that narinfos are signed with.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.policy.key().map(|key| key.public())
    }

    /// Waits until everything that was said so far is in the database.
    pub async fn flushed(&self) {
        self.index.flushed().await;
        self.journal.flushed().await;
    }

    /// Ends every session; edges attach again where they find a control.
    pub fn cut_sessions(&self) {
        self.sessions.cut_all();
    }

    /// How many edges are attached.
    pub fn edges(&self) -> usize {
        self.sessions.count()
    }

    /// The URLs of attached edges that are believed to hold a file.
    pub fn holders(&self, name: NarFileName) -> Vec<String> {
        self.sessions.holders(name)
    }

    /// Evicts now, after a run that may be under way; of a dry run: says what would go.
    ///
    /// # Errors
    /// [`Code::Absent`] where no attached edge has the name; [`Code::Unavailable`] where control is stopping.
    pub async fn evict(&self, order: EvictionOrder) -> Result<EvictionReport> {
        self.evictor.run(order).await
    }

    /// The same for who wants to hear how far it is.
    pub(crate) async fn begin_eviction(&self, order: EvictionOrder) -> Result<Evicting> {
        self.evictor.begin(order).await
    }

    /// What the last eviction did.
    pub fn last_eviction(&self) -> Option<EvictionReport> {
        self.evictor.last()
    }

    /// What happened, and where what happens is noted.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    #[cfg(test)]
    pub(crate) fn remover(&self) -> &Remover {
        &self.remover
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// A stored narinfo as it is served: signed by the key that signs now, too, after a rotation.
    async fn renewed(&self, narinfo: &NarInfo) -> Result<NarInfo> {
        if self.policy.renewed(narinfo).is_none() {
            return Ok(narinfo.clone());
        }
        let hash = narinfo.store_path.hash();
        let _turn = self.index.lock_narinfos([hash]).await;
        // It may have been replaced before the turn came.
        let stored = self.index.narinfo(hash).await?;
        let stored = stored.as_deref().unwrap_or(narinfo);
        let Some(renewed) = self.policy.renewed(stored) else { return Ok(stored.clone()) };
        self.index.put_narinfo(Arc::new(renewed.clone()));
        Ok(renewed)
    }

    fn counted(&self, published: Result<NarInfo>) -> Result<NarInfo> {
        published.inspect_err(|error| {
            let refused = error.code().is_callers();
            self.metrics.publications.inc(if refused { Published::Refused } else { Published::Failed });
        })
    }

    /// See [`standing::weigh`].
    async fn weigh(&self, names: impl IntoIterator<Item = NarFileName>) {
        standing::weigh(&self.index, &self.sessions, names).await;
    }

    /// Tells every edge that narinfos changed or went.
    fn invalidate(&self, hashes: &[StorePathHash]) {
        if !hashes.is_empty() {
            self.sessions.invalidate(hashes);
        }
    }
}

/// Tells this process from the one before.
fn new_run() -> String {
    let mut random = [0; 16];
    // Without randomness nobody is remembered: edges say everything after each break.
    let is_random = getrandom::fill(&mut random).is_ok();
    if is_random { data_encoding::HEXLOWER.encode(&random) } else { String::new() }
}

async fn housekeeping(clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    let mut pace = Pace::of(&*clock);
    loop {
        tokio::select! {
            _ = ticks.tick() => say_if_set(&mut pace, &*clock),
            () = stop.cancelled() => return,
        }
    }
}

/// What ends by itself: pins, turns, warrants, removals of long ago, and what edges held that are away for long.
struct Expiry {
    pins: Arc<Pins>,
    remover: Remover,
    journal: Arc<Journal>,
    warrants: Arc<Mutex<Issued>>,
}

impl Expiry {
    async fn watch(self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.pins.expire(clock.now()).await {
                tracing::warn!(error = error.story(), "pins can't be ended");
            }
            self.warrants.lock().expire(Instant::now());
            self.remover.forget().await;
            self.give_up_what_is_away().await;
        }
    }

    /// What nobody else holds and nobody could give again is no longer promised. It may come back with its edge.
    async fn give_up_what_is_away(&self) {
        let Remover { index, sessions, .. } = &self.remover;
        let why =
            Note::new(EventKind::Retracted, "its NAR was an upload, at an edge that is away for an hour");
        for (instance, names) in sessions.expire() {
            let told = lost::Told { index, sessions, journal: &self.journal };
            let left = lost::Left { instance: &instance, names: &names, for_room: false };
            let gone = lost::left(told, left, &why).await;
            tracing::info!(
                instance,
                files = names.len(),
                lost = gone.files.len(),
                "an edge is away for an hour"
            );
        }
    }
}

/// Notes which edges are there, and forgets those that were not for long.
async fn keep_roster(
    roster: Arc<Roster>,
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let attached = sessions.named(None);
        roster.seen(attached.iter().map(|(name, _)| &**name), clock.now());
        roster.forget(clock.now());
        roster.save().await;
    }
}

/// Nothing depends on it but the order of evictions and schedules, which follow; but somebody should know.
fn say_if_set(pace: &mut Pace, clock: &dyn Clock) {
    match pace.leap(clock) {
        Some(seconds @ 0..) => tracing::warn!(seconds, "the clock was set forward, or the machine slept"),
        Some(seconds) => tracing::warn!(seconds, "the clock was set back"),
        None => {}
    }
}

#[async_trait]
impl ControlPlane for Control {
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup> {
        Ok(match self.index.lookup(hash).await? {
            Known::NarInfo(narinfo) => Lookup::Known(self.renewed(&narinfo).await?),
            Known::Absent(left) => Lookup::Absent(left),
            Known::Nothing => Lookup::Unknown,
        })
    }

    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo> {
        self.counted(self.publish(publication).await)
    }

    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration> {
        let _turn = self.index.lock_narinfos([hash]).await;
        if self.index.narinfo(hash).await?.is_some() {
            // Somebody published it meanwhile: known paths stay known, there is nothing to believe.
            return Ok(Duration::ZERO);
        }
        Ok(self.index.put_absent(hash, heard))
    }

    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()> {
        self.index.admit().await?;
        let turn = self.index.lock_narinfos([hash]).await;
        let Some(narinfo) = self.index.narinfo(hash).await? else { return Ok(()) };
        let named = file_of(&narinfo);
        if named != nar && named != self.index.resolve(nar).await? {
            return Ok(());
        }
        if self.index.file(named).await?.is_some_and(|file| file.uploaded) && self.may_be_away(named) {
            let why = format!("{named} was uploaded, and who may hold it can't be reached");
            return Err(Error::new(Code::Unavailable, why));
        }
        tracing::info!(path = %narinfo.store_path, %nar, "no source has this path any more");
        self.index.remove_narinfo(hash);
        self.index.put_absent(hash, Heard::All);
        self.journal.note(Note::new(EventKind::Retracted, "no source has it any more").path(hash).nar(named));
        self.invalidate(&[hash]);
        drop(turn);
        self.weigh([named]).await;
        Ok(())
    }

    async fn locate(&self, instance: &str, name: NarFileName) -> Result<Option<Location>> {
        self.location(instance, name).await
    }

    async fn begin_fetch(&self, instance: &str, name: NarFileName, failed: &[String]) -> Result<Turn> {
        if !self.sessions.may_begin(instance, name) {
            return Err(Error::new(Code::Unavailable, "an edge that is to leave gets no turns"));
        }
        Ok(self.sessions.begin(instance, name, failed))
    }

    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()> {
        self.sessions.end(instance, name);
        Ok(())
    }

    async fn commit_nar(&self, instance: &str, commit: Commit) -> Result<Vec<NarInfo>> {
        let uploaded = commit.uploaded;
        let narinfos = self.commit(instance, commit).await?;
        if uploaded {
            self.index.durable().await?;
        }
        Ok(narinfos)
    }

    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo> {
        self.counted(self.take_upload(upload).await)
    }

    async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool> {
        self.delete_path(hash, &writer).await
    }

    async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<Vec<Victim>> {
        self.delete_file(name, &writer).await
    }

    async fn note_object(&self, note: ObjectNote) -> Result<()> {
        self.note_of_object(note).await
    }

    async fn warrant(&self, errand: Errand, writer: Writer) -> Result<Warrants> {
        self.warrant_errand(errand, &writer).await
    }

    async fn redeem(&self, bearer: Bearer, errand: Errand) -> Result<()> {
        self.redeem_warrant(&bearer, &errand)
    }

    async fn doubt_placement(&self, instance: &str, peer: &str, name: NarFileName) -> Result<()> {
        self.doubt(instance, peer, name)
    }

    async fn durable_edges(&self, instance: &str) -> Result<DurableEdges> {
        let keepers = self.sessions.keepers(instance);
        let urls = keepers.into_iter().map(|keeper| keeper.url).collect();
        Ok(DurableEdges { urls, away: self.is_keeper_away() })
    }

    async fn attach(&self, reports: Reports) -> Result<Directives> {
        self.attach_edge(reports).await
    }
}
