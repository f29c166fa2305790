//! Room on the disk: whether a download may be spooled and kept. Where there is none, control is asked for an
//! eviction, and waited for, but not long: a file that can't be kept is served all the same.
//!
//! Knows the limits and how full the disk is. Absent on purpose: which files go (control's), and removing them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::{DiskReport, EdgeSettings, HeldNar, MinFree};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;

use crate::live::Current;
use crate::store::{Committed, LocalStore, Spool, blocking};

/// How long a finished download waits until it can be kept; its readers have it already.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits before its first byte: somebody waits for it.
const PATIENCE_BEFORE: Duration = Duration::from_secs(2);

/// What control said and did about room.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    /// Evictions done.
    steps: u64,
    /// Disk reports up to this number bring nothing more.
    settled: u64,
}

/// The edge's disk as its limits see it.
pub struct Room {
    store: Arc<LocalStore>,
    current: Arc<Current>,
    /// This edge's own limit, which counts instead of the one that control says.
    capacity: Option<u64>,
    attached: AtomicBool,
    /// Bytes that wait for room.
    wanted: Arc<AtomicU64>,
    /// Disk reports so far.
    reports: AtomicU64,
    due: Notify,
    answers: watch::Sender<Answers>,
    /// One finished file at a time waits for its room, so that a burst of them does not empty the store.
    door: Mutex<()>,
    /// The same for uploads, which wait for no file that can be fetched again.
    upload_door: Mutex<()>,
}

/// Who gave a file that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Giver {
    /// An upstream: its readers have it, and can have it again.
    Upstream,
    /// A client, who is refused where it can't be kept.
    Client,
}

impl Room {
    pub fn new(store: Arc<LocalStore>, current: Arc<Current>, capacity: Option<u64>) -> Arc<Room> {
        Arc::new(Room {
            store,
            current,
            capacity,
            attached: AtomicBool::new(false),
            wanted: Arc::default(),
            reports: AtomicU64::new(0),
            due: Notify::new(),
            answers: watch::Sender::default(),
            door: Mutex::new(()),
            upload_door: Mutex::new(()),
        })
    }

    /// Makes a proven file one of the store, where it fits, or can be made to. `None` where it is not kept.
    pub(crate) async fn keep(
        &self,
        spool: Spool,
        name: NarFileName,
        giver: Giver,
    ) -> io::Result<Option<HeldNar>> {
        let limit = self.capacity.or_else(|| self.settings(|s| s.max_size).flatten());
        self.store.limit_to(limit);
        let (spool, needs) = match self.commit(spool, name, || {}).await? {
            Committed::Kept(held) => return Ok(Some(held)),
            Committed::NoRoom { spool, needs } => (spool, needs),
        };
        if limit.is_some_and(|limit| needs > limit) {
            tracing::warn!(nar = %name, bytes = needs, limit, "a NAR is larger than the whole store may be: not kept");
            return Ok(None);
        }
        let kept = self.keep_when_there_is_room(spool, name, needs, giver);
        tokio::time::timeout(PATIENCE, kept).await.unwrap_or(Ok(None))
    }

    async fn keep_when_there_is_room(
        &self,
        mut spool: Spool,
        name: NarFileName,
        needs: u64,
        giver: Giver,
    ) -> io::Result<Option<HeldNar>> {
        let door = if giver == Giver::Client { &self.upload_door } else { &self.door };
        let _door = door.lock().await;
        let mut demand = self.demand(needs);
        loop {
            let was_over = demand.is_over();
            // Never is a file both there and wanted: for that others would be evicted.
            let bytes = demand.bytes.clone();
            match self.commit(spool, name, move || bytes.take_back()).await? {
                Committed::Kept(held) => return Ok(Some(held)),
                Committed::NoRoom { spool: again, .. } if was_over => {
                    if giver == Giver::Upstream || !demand.was_taken_away() {
                        return Ok(None);
                    }
                    drop(demand);
                    (spool, demand) = (again, self.demand(needs));
                }
                Committed::NoRoom { spool: again, .. } => spool = again,
            }
            demand.answered().await;
        }
    }

    async fn commit(
        &self,
        spool: Spool,
        name: NarFileName,
        fits: impl FnOnce() + Send + 'static,
    ) -> io::Result<Committed> {
        let store = Arc::clone(&self.store);
        blocking(move || store.commit(spool, name, fits)).await
    }

    /// Whether `size` bytes may be spooled without using up the free space that is to be left.
    pub(crate) async fn for_spool(&self, size: u64) -> io::Result<bool> {
        if self.has_free(size).await? {
            return Ok(true);
        }
        let mut demand = self.demand(size);
        let deadline = Instant::now() + PATIENCE_BEFORE;
        loop {
            let was_over = demand.is_over() || Instant::now() >= deadline;
            if self.has_free(size).await? {
                return Ok(true);
            }
            if was_over {
                return Ok(false);
            }
            tokio::time::timeout_at(deadline, demand.answered()).await.ok();
        }
    }

    async fn has_free(&self, size: u64) -> io::Result<bool> {
        let min_free = self.settings(|s| s.min_free).unwrap_or(MinFree::NOTHING);
        let store = Arc::clone(&self.store);
        let space = blocking(move || store.space()).await?;
        Ok(space.free >= min_free.of(space.total).saturating_add(size))
    }

    fn demand(&self, bytes: u64) -> Demand<'_> {
        let bytes = Wanted::add(&self.wanted, bytes);
        // Every report that is numbered from now on has these bytes in it.
        let after = self.reports.load(Ordering::SeqCst);
        let answers = self.answers.subscribe();
        let steps = answers.borrow().steps;
        let demand = Demand { room: self, bytes, after, steps, answers };
        self.due.notify_one();
        demand
    }

    /// How full the disk is, for control.
    pub(crate) async fn report(&self) -> io::Result<DiskReport> {
        let number = self.reports.fetch_add(1, Ordering::SeqCst) + 1;
        let (store, wanted) = (Arc::clone(&self.store), Arc::clone(&self.wanted));
        let look = move || Ok((store.used_and(|| wanted.load(Ordering::SeqCst))?, store.space()?));
        let ((used, wanted), space) = blocking(look).await?;
        Ok(DiskReport { number, total: space.total, free: space.free, used, wanted })
    }

    /// Waits until a report should not wait for its time.
    pub(crate) async fn report_due(&self) {
        self.due.notified().await;
    }

    /// Whether anybody can be asked for room. Who waits is told.
    pub(crate) fn set_attached(&self, attached: bool) {
        self.attached.store(attached, Ordering::SeqCst);
        self.answers.send_modify(|_| {});
    }

    /// A step of an eviction is over: who waits may go on. Where `some` files went, control should know at once how
    /// full the disk is now; where none could be removed, it would only say the same again.
    pub(crate) fn evicted(&self, some: bool) {
        self.answers.send_modify(|answers| answers.steps += 1);
        if some {
            self.due.notify_one();
        }
    }

    /// Nothing more will be removed because of the reports up to `number`.
    pub(crate) fn settled(&self, number: u64) {
        self.answers.send_modify(|answers| answers.settled = answers.settled.max(number));
    }

    fn settings<T>(&self, of: impl FnOnce(&EdgeSettings) -> T) -> Option<T> {
        self.current.get().ok().map(|live| of(&live.settings))
    }
}

/// Bytes that were added to the sum of all that are wanted, until they are taken back.
#[derive(Clone)]
struct Wanted {
    sum: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Wanted {
    fn add(sum: &Arc<AtomicU64>, bytes: u64) -> Wanted {
        sum.fetch_add(bytes, Ordering::SeqCst);
        Wanted { sum: Arc::clone(sum), bytes: Arc::new(AtomicU64::new(bytes)) }
    }

    /// Repeatable.
    fn take_back(&self) {
        self.sum.fetch_sub(self.bytes.swap(0, Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Bytes that are wanted as long as this lives.
struct Demand<'r> {
    room: &'r Room,
    bytes: Wanted,
    after: u64,
    /// Evictions that were done before it.
    steps: u64,
    answers: watch::Receiver<Answers>,
}

impl Demand<'_> {
    /// Whether waiting is of no use any more.
    fn is_over(&self) -> bool {
        !self.room.attached.load(Ordering::SeqCst) || self.answers.borrow().settled > self.after
    }

    /// Whether room was made since, which others were quicker to take.
    fn was_taken_away(&self) -> bool {
        self.room.attached.load(Ordering::SeqCst) && self.answers.borrow().steps > self.steps
    }

    /// Waits until something has changed.
    async fn answered(&mut self) {
        // The sender lives as long as the room.
        self.answers.changed().await.ok();
    }
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        self.bytes.take_back();
    }
}
