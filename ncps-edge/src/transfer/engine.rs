//! What every transfer shares: the registry of those that run, the limits, and the way to store and control.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::{Code, ControlPlane, Error, Result, trace};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use super::awaited::Awaited;
use super::commit::PendingCommits;
use super::distrust::Distrust;
use super::download::disk_trouble;
use super::encoded::Encodings;
use super::evict::{Commits, Removals};
use super::fetch;
use super::made::Unmakeable;
use super::plan::{PeerFile, Plan, Source, Wanted};
use super::progress::Transfer;
use super::reader::Reader;
use crate::attach::News;
use crate::live::{Current, Live};
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::room::Room;
use crate::store::{LocalStore, Spool, StoredNar, blocking};
use crate::transcode::Queue;
use crate::upstream::Upstreams;

/// Spool bytes are counted in these, since a semaphore counts in 32 bits.
const SPOOL_UNIT: u64 = 1 << 20;
/// How long a reader waits to be served without a spool.
const PASS_PATIENCE: Duration = Duration::from_secs(30);
/// What a file of unknown size counts as.
const UNKNOWN_SIZE: u64 = 1 << 30;

/// What an engine is made of.
pub struct Parts {
    pub store: Arc<LocalStore>,
    pub room: Arc<Room>,
    pub control: Arc<dyn ControlPlane>,
    pub lookups: Arc<Lookups>,
    pub current: Arc<Current>,
    pub tasks: Tasks,
    /// Who we are to control.
    pub instance: String,
    pub metrics: Arc<EdgeMetrics>,
}

/// All running transfers of an edge.
pub struct Engine {
    parts: Parts,
    running: Mutex<HashMap<NarFileName, Arc<Transfer>>>,
    limits: OnceCell<Limits>,
    distrust: Distrust,
    pending: PendingCommits,
    news: News,
    commits: Commits,
    awaited: Awaited,
    unmakeable: Unmakeable,
    transcodes: Queue,
    removals: Removals,
    encodings: Encodings,
    counters: Counters,
    /// A transfer left the registry.
    left: Notify,
    /// A session with control begins.
    attached: Notify,
}

/// Made from the first configuration; a changed limit counts from the next start.
struct Limits {
    downloads: Arc<Semaphore>,
    /// Readers that are served without a spool.
    passes: Arc<Semaphore>,
    decoders: Arc<Semaphore>,
    spool: Arc<Semaphore>,
    spool_units: u32,
    decoder_slots: usize,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    wrong_bytes: AtomicU64,
    passed: AtomicU64,
}

impl Counters {
    pub(super) fn wrong_bytes(&self) {
        self.wrong_bytes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// Readers served without a spool.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Files whose bytes proved wrong.
    pub fn wrong(&self) -> u64 {
        self.wrong_bytes.load(Ordering::Relaxed)
    }
}

impl Engine {
    pub fn new(parts: Parts) -> Arc<Engine> {
        Arc::new(Engine {
            parts,
            running: Mutex::default(),
            limits: OnceCell::new(),
            distrust: Distrust::default(),
            pending: PendingCommits::default(),
            news: News::default(),
            commits: Commits::default(),
            awaited: Awaited::default(),
            unmakeable: Unmakeable::default(),
            transcodes: Queue::default(),
            removals: Removals::default(),
            encodings: Encodings::default(),
            counters: Counters::default(),
            left: Notify::new(),
            attached: Notify::new(),
        })
    }

    /// A reader of the running transfer of a file; where none runs, one is started.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where too many wait already. [`Code::Absent`] to a cache from which it is being read.
    pub fn join(self: &Arc<Self>, wanted: &Wanted) -> Result<Reader> {
        let name = wanted.name;
        let live = self.live()?;
        let most = live.settings.max_downloads as usize + live.settings.max_waiting_downloads as usize;
        let mut running = self.running.lock();
        if let Some(transfer) = running.get(&name) {
            if transfer.reads_from(|upstream| live.upstreams.waits(upstream, &wanted.via)) {
                return Err(Error::new(Code::Absent, "who asks is whom it is being read from"));
            }
            self.parts.metrics.coalesced.inc(());
            transfer.link.iter().for_each(trace::Link::follow);
            return Ok(Reader::new(Arc::clone(self), Arc::clone(transfer), true));
        }
        if running.len() >= most {
            return Err(Error::new(Code::Overloaded, format!("{most} NAR files are being fetched already")));
        }
        let span = info_span!(target: trace::TARGET, parent: None, "transfer", nar = %name, otel.status_code = Empty);
        trace::join(&span);
        let link = trace::Link::to(&span);
        let (cautious, began) = (self.distrust.covers_file(name), self.removals.epoch());
        let transfer = Arc::new(Transfer::new(wanted.clone(), cautious, link, began));
        running.insert(name, Arc::clone(&transfer));
        drop(running);
        self.parts.metrics.started.inc(());
        let reader = Reader::new(Arc::clone(self), Arc::clone(&transfer), false);
        self.parts.tasks.spawn("transfer", fetch::run(Arc::clone(self), transfer).instrument(span));
        Ok(reader)
    }

    /// A reader of the transfer of `name`, if one runs.
    pub fn peek(self: &Arc<Self>, name: NarFileName) -> Option<Reader> {
        let running = self.running.lock().get(&name).cloned();
        running.map(|transfer| Reader::new(Arc::clone(self), transfer, true))
    }

    /// A reader for another edge of the transfer of a file, if one runs that does not read from an edge itself: one hop
    /// is the most. None for a request that came through where it is read from.
    pub(crate) fn lend(self: &Arc<Self>, wanted: &Wanted) -> Option<Reader> {
        let transfer = self.running.lock().get(&wanted.name).cloned()?;
        let upstreams = &self.live().ok()?.upstreams;
        let waits = transfer.reads_from(|upstream| upstreams.waits(upstream, &wanted.via));
        (!waits && !transfer.follows() && transfer.stands_in().is_none())
            .then(|| Reader::lent(Arc::clone(self), transfer))
    }

    /// From here on no running transfer keeps these.
    pub(super) fn note_removal(&self, names: &[NarFileName]) {
        let running = self.running.lock();
        self.removals.note(names, running.values().map(|transfer| transfer.began).min());
    }

    pub(crate) fn is_running(&self, name: NarFileName) -> bool {
        self.running.lock().contains_key(&name)
    }

    /// Told when a session with control begins.
    pub(crate) fn attached(&self) -> &Notify {
        &self.attached
    }

    /// How many transfers run or wait.
    pub fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// Takes a transfer off the list; another one of its name stays.
    pub(super) fn leave(&self, transfer: &Arc<Transfer>) {
        let mut running = self.running.lock();
        if running.get(&transfer.name).is_some_and(|listed| Arc::ptr_eq(listed, transfer)) {
            running.remove(&transfer.name);
        }
        drop(running);
        self.left.notify_waiters();
    }

    /// Waits until no transfer of a file runs.
    pub(super) async fn at_rest(&self, name: NarFileName) {
        loop {
            let left = self.left.notified();
            if !self.is_running(name) {
                return;
            }
            left.await;
        }
    }

    /// The stored file, if it is here.
    pub async fn stored(&self, name: NarFileName) -> Result<Option<StoredNar>> {
        let store = Arc::clone(&self.parts.store);
        let opened = blocking(move || store.open(name)).await;
        opened.map_err(|e| disk_trouble("open a NAR file", e))
    }

    /// What is known of a name, as a list of sources. Control being away is no failure: the name itself says
    /// what the bytes must be.
    pub(super) async fn plan(&self, wanted: &Wanted, upstreams: &Arc<Upstreams>) -> Plan {
        match self.locate(wanted.name).await {
            Ok(Some(location)) => self.unmakeable.noted(Plan::known(location, wanted, upstreams)),
            Ok(None) => Plan::unknown(wanted, upstreams, false),
            Err(error) => {
                tracing::warn!(nar = %wanted.name, error = error.story(), "control can't say where a NAR is");
                match self.parts.lookups.location_without_control(wanted.name) {
                    Some(location) => Plan { control_away: true, ..Plan::known(location, wanted, upstreams) },
                    None => Plan::unknown(wanted, upstreams, true),
                }
            }
        }
    }

    /// Tells control that a peer did not give what it is said to hold. Nothing waits for it.
    pub(super) fn doubt_placement(self: &Arc<Self>, peer: &PeerFile) {
        let (engine, peer) = (Arc::clone(self), peer.clone());
        self.parts.tasks.spawn("doubt about a peer", async move {
            let told = engine.control().doubt_placement(engine.instance(), &peer.url, peer.name).await;
            if let Err(error) = told {
                tracing::debug!(nar = %peer.name, peer = peer.url, error = error.story(), "control can't be told of a doubt");
            }
        });
    }

    /// Whether what a peer gave is kept, too.
    pub(super) fn keeps_peer_copies(&self) -> bool {
        self.live().is_ok_and(|live| live.settings.keep_peer_copies)
    }

    /// A spool file, where the disk has room for one and takes it.
    pub(crate) async fn begin_spool(&self, size: Option<u64>) -> io::Result<Spool> {
        if !self.parts.room.for_spool(size.unwrap_or(0)).await? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let store = Arc::clone(&self.parts.store);
        blocking(move || store.begin(size)).await
    }

    /// The right to serve one reader without a spool.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where too many are served so for long.
    pub(super) async fn pass_slot(&self) -> Result<OwnedSemaphorePermit> {
        let passes = Arc::clone(&self.limits().await.passes);
        let slot = tokio::time::timeout(PASS_PATIENCE, passes.acquire_owned()).await;
        let crowded = || Error::new(Code::Overloaded, "too many are served without a spool already");
        slot.map_err(|_| crowded())?.map_err(|_| crowded())
    }

    pub(super) async fn download_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.limits().await.downloads).acquire_owned().await.ok()
    }

    /// Room for `size` bytes of spool. A file larger than all the room gets all of it, alone.
    pub(super) async fn reserve_spool(&self, size: Option<u64>) -> OwnedSemaphorePermit {
        let limits = self.limits().await;
        let units = size.unwrap_or(UNKNOWN_SIZE).div_ceil(SPOOL_UNIT);
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(limits.spool_units);
        let room = Arc::clone(&limits.spool).acquire_many_owned(units).await;
        room.expect("the spool semaphore is never closed")
    }

    /// The most that a file of unknown size may take.
    pub(super) fn max_spool(&self) -> u64 {
        self.live().map_or(UNKNOWN_SIZE, |live| live.settings.max_spool_bytes)
    }

    pub(super) fn decoders(&self) -> Arc<Semaphore> {
        match self.limits.get() {
            Some(limits) => Arc::clone(&limits.decoders),
            None => Arc::new(Semaphore::new(1)),
        }
    }

    async fn limits(&self) -> &Limits {
        let make = || async {
            let settings = self.live().map(|live| live.settings.clone()).ok();
            let count = |f: fn(&ncps_proto::EdgeSettings) -> u32| settings.as_ref().map_or(1, f).max(1);
            let units = settings.as_ref().map_or(1, |s| s.max_spool_bytes / SPOOL_UNIT).max(1);
            let spool_units = u32::try_from(units).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
            Limits {
                downloads: Arc::new(Semaphore::new(count(|s| s.max_downloads) as usize)),
                passes: Arc::new(Semaphore::new(count(|s| s.max_downloads) as usize)),
                decoders: Arc::new(Semaphore::new(count(|s| s.max_decoders) as usize)),
                spool: Arc::new(Semaphore::new(spool_units as usize)),
                spool_units,
                decoder_slots: count(|s| s.max_decoders) as usize,
            }
        };
        self.limits.get_or_init(make).await
    }

    pub(super) fn distrust(&self, source: &Source) {
        match source {
            Source::Origin(origin) | Source::ByName(origin) => self.distrust.origin(origin),
            Source::Peer(peer) | Source::Running(peer) => self.distrust.peer(peer),
            Source::Stored(_) => {}
        }
    }

    pub(super) fn distrusts(&self, source: &Source) -> bool {
        match source {
            Source::Origin(origin) | Source::ByName(origin) => self.distrust.covers_origin(origin),
            Source::Peer(peer) | Source::Running(peer) => self.distrust.covers_peer(peer),
            Source::Stored(_) => false,
        }
    }

    /// From now on, and for a while, this file is fetched with caution.
    pub(super) fn distrust_file(&self, name: NarFileName) {
        self.distrust.file(name);
    }

    /// Decoders that keep a core busy right now.
    pub fn decoders_busy(&self) -> u64 {
        let busy = |limits: &Limits| limits.decoder_slots - limits.decoders.available_permits();
        self.limits.get().map_or(0, busy) as u64
    }

    /// Bytes of disk that running downloads reserve.
    pub fn spool_reserved(&self) -> u64 {
        let units = |limits: &Limits| limits.spool_units as usize - limits.spool.available_permits();
        self.limits.get().map_or(0, units) as u64 * SPOOL_UNIT
    }

    pub(super) fn metrics(&self) -> &EdgeMetrics {
        &self.parts.metrics
    }

    pub(super) fn live(&self) -> Result<Arc<Live>> {
        self.parts.current.get()
    }

    pub(super) fn store(&self) -> &Arc<LocalStore> {
        &self.parts.store
    }

    pub(super) fn room(&self) -> &Room {
        &self.parts.room
    }

    pub(super) fn encodings(&self) -> &Encodings {
        &self.encodings
    }

    pub(super) fn unmakeable(&self) -> &Unmakeable {
        &self.unmakeable
    }

    /// Stored files that are to be looked at for transcoding.
    pub(crate) fn transcodes(&self) -> &Queue {
        &self.transcodes
    }

    pub(super) fn commits(&self) -> &Commits {
        &self.commits
    }

    pub(super) fn awaited(&self) -> &Awaited {
        &self.awaited
    }

    pub(super) fn removals(&self) -> &Removals {
        &self.removals
    }

    pub(crate) fn control(&self) -> &Arc<dyn ControlPlane> {
        &self.parts.control
    }

    pub(crate) fn lookups(&self) -> &Arc<Lookups> {
        &self.parts.lookups
    }

    pub(crate) fn instance(&self) -> &str {
        &self.parts.instance
    }

    /// Commits that control must still be told.
    pub fn pending(&self) -> &PendingCommits {
        &self.pending
    }

    /// What the session with control must still say.
    pub fn news(&self) -> &News {
        &self.news
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    pub(super) fn stopped(&self) -> CancellationToken {
        self.parts.tasks.life().hard()
    }
}
