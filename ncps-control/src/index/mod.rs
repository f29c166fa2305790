//! The index: what is known, in memory first. What was put is seen by every later reader at once; its row
//! goes with the next batch, and nobody waits for that.
//!
//! Reads take no lock and wait for no write: what waits for its row is answered from memory, the rest by the
//! database. Absent on purpose: what may be put (see [`crate::control`]).

mod accesses;
mod locks;
mod negatives;
mod overlay;
mod pace;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{NarFileName, NarHash, NarInfo, StorePathHash};
use ncps_proto::admin::{Event, Sum};
use ncps_proto::{Code, Error, Heard, Result};
use ncps_runtime::clock::{Clock, UnixTime};
use ncps_runtime::tasks::Tasks;
use parking_lot::{Mutex, MutexGuard};

use crate::db::{Db, Listed, Met, Which};
use crate::journal::Journal;
use crate::metrics::ControlMetrics;
use crate::pins::closure::{Closures, Node};
use crate::record::{NarFile, PathUse, Standing};
use crate::totals::Counted;
pub(crate) use locks::Held;
use locks::Locks;
use negatives::Negatives;
use overlay::Overlay;
use pace::Pace;
pub(crate) use view::View;
use writer::Writer;

/// States that may wait for their rows; past it a use case that changes something waits, then is refused.
const MAX_WAITING: usize = 16_384;
/// How long it waits: below the deadline that edges set on their calls.
const ADMISSION: Duration = Duration::from_millis(400);
/// How long it may take until what a client was promised has its row.
const DURABLE: Duration = Duration::from_secs(5);
/// Accesses of files, and of narinfos, that may wait, at about 150 bytes each; past it samples are forgotten. Each waits
/// for 90 s at most, at the pace of [`pace`].
const MAX_ACCESSES: usize = 200_000;

/// Files of an inventory that are looked up at once, in a few milliseconds.
const MET_AT_ONCE: usize = 500;

/// What is known of one path.
pub(crate) enum Known {
    NarInfo(Arc<NarInfo>),
    /// For this long.
    Absent(Duration),
    Nothing,
}

/// The index in memory and on disk.
pub(crate) struct Index {
    overlay: Arc<Overlay>,
    negatives: Negatives,
    locks: Locks,
    /// Kept up with every narinfo that comes and goes.
    closures: Mutex<Closures>,
    db: Db,
    /// Whose turn it is to look up an inventory.
    meeting: tokio::sync::Mutex<()>,
    metrics: Arc<ControlMetrics>,
}

impl Index {
    /// Takes the database into use. Its writer runs in the background of `tasks` and closes the database
    /// when the hard token fires; what `keep` holds (locks) is let go after that.
    pub(crate) fn start<K: Send + 'static>(
        db: Db,
        negative_ttl: Duration,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
        metrics: Arc<ControlMetrics>,
        journal: Arc<Journal>,
        keep: K,
    ) -> Self {
        metrics.narinfos.set((), db.narinfos_at_open());
        let overlay = Arc::new(Overlay::default());
        let stop = tasks.life().hard();
        let writer = Writer {
            overlay: Arc::clone(&overlay),
            journal,
            db: db.clone(),
            clock,
            stop,
            metrics: Arc::clone(&metrics),
            pace: Mutex::new(Pace::new(tokio::time::Instant::now())),
        };
        tasks.spawn_critical_background("index-writer", async move {
            writer.run().await;
            drop(keep);
        });
        Self {
            overlay,
            negatives: Negatives::new(negative_ttl),
            locks: Locks::new(),
            closures: Mutex::default(),
            db,
            meeting: tokio::sync::Mutex::default(),
            metrics,
        }
    }

    /// The random name of this index.
    pub(crate) fn id(&self) -> &str {
        self.db.index_id()
    }

    /// The database, for what is in no memory.
    pub(crate) fn db(&self) -> &Db {
        &self.db
    }

    /// A consistent copy of all that has its row.
    pub(crate) async fn copy(&self) -> Result<std::fs::File> {
        Ok(self.db.copy().await?)
    }

    /// What is known of a path.
    pub(crate) async fn lookup(&self, hash: StorePathHash) -> Result<Known> {
        // What waits comes first: a publication ends an absence.
        if let Some(Some(narinfo)) = self.overlay.narinfo(hash) {
            return Ok(Known::NarInfo(narinfo));
        }
        if let Some(left) = self.negatives.get(hash) {
            return Ok(Known::Absent(left));
        }
        Ok(self.narinfo(hash).await?.map_or(Known::Nothing, Known::NarInfo))
    }

    /// Answers the questions of a use case, one after the other, on another thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        questions: impl FnOnce(&mut View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let overlay = Arc::clone(&self.overlay);
        self.db.read(move |rows| questions(&mut View::new(&overlay, rows))).await?
    }

    pub(crate) async fn narinfo(&self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>> {
        match self.overlay.narinfo(hash) {
            Some(waiting) => Ok(waiting),
            None => self.read(move |view| view.narinfo(hash)).await,
        }
    }

    pub(crate) async fn file(&self, name: NarFileName) -> Result<Option<Arc<NarFile>>> {
        match self.overlay.file(name) {
            Some(waiting) => Ok(waiting),
            None => self.read(move |view| view.file(name)).await,
        }
    }

    /// See [`View::resolve`].
    pub(crate) async fn resolve(&self, name: NarFileName) -> Result<NarFileName> {
        self.read(move |view| view.resolve(name)).await
    }

    /// See [`View::naming`].
    pub(crate) async fn naming(&self, name: NarFileName) -> Result<Vec<Arc<NarInfo>>> {
        self.read(move |view| view.naming(name)).await
    }

    /// See [`View::paths_beside`], of each of these: asked at once, so that they wait for one turn among lookups.
    pub(crate) async fn paths_beside(&self, names: Vec<NarFileName>) -> Result<Vec<Vec<StorePathHash>>> {
        self.read(move |view| names.into_iter().map(|name| view.paths_beside(name)).collect()).await
    }

    /// What would be lost with a stored file.
    pub(crate) async fn standing(&self, name: NarFileName) -> Result<Standing> {
        match self.file(name).await? {
            Some(file) if file.is_irreplaceable() => match self.naming(name).await?.is_empty() {
                true => Ok(Standing::Unnamed),
                false => Ok(Standing::Promised),
            },
            Some(file) if file.drop_at.is_some() && self.naming(name).await?.is_empty() => {
                Ok(Standing::Superseded)
            }
            _ => Ok(Standing::Replaceable),
        }
    }

    /// At most `limit` files that nobody needs to keep at `now`, as the database knows them.
    pub(crate) async fn to_drop(&self, now: UnixTime, limit: u32) -> Result<Vec<NarFileName>> {
        Ok(self.db.to_drop(now, limit).await?)
    }

    /// See [`View::files_of`].
    pub(crate) async fn files_of(&self, nar: NarHash) -> Result<Vec<(NarFileName, Arc<NarFile>)>> {
        self.read(move |view| view.files_of(nar)).await
    }

    /// The names of a NAR's files but this one.
    pub(crate) async fn others_of(&self, nar: NarHash, but: NarFileName) -> Result<Vec<NarFileName>> {
        let others = self.read(move |view| view.files_of_but(nar, Some(but))).await?;
        Ok(others.into_iter().map(|(name, _)| name).collect())
    }

    /// See [`View::met`]. A few at a time, so that inventories leave connections to those who look something up.
    pub(crate) async fn met(&self, names: &[NarFileName]) -> Result<HashMap<NarFileName, Met>> {
        let mut known = HashMap::with_capacity(names.len());
        for some in names.chunks(MET_AT_ONCE) {
            let (_turn, some) = (self.meeting.lock().await, some.to_vec());
            known.extend(self.read(move |view| view.met(&some)).await?);
        }
        Ok(known)
    }

    /// The newest events of these, oldest first. Those that wait for their rows are missing.
    pub(crate) async fn last_events(&self, last: u32, which: Which) -> Result<Vec<Event>> {
        Ok(self.db.last_events(last, which).await?)
    }

    /// The newest events about a path, oldest first.
    pub(crate) async fn events_of_path(&self, path: StorePathHash, last: u32) -> Result<Vec<Event>> {
        Ok(self.db.events_of_path(path, last).await?)
    }

    /// The newest events about a NAR file, oldest first.
    pub(crate) async fn events_of_nar(&self, nar: NarFileName, last: u32) -> Result<Vec<Event>> {
        Ok(self.db.events_of_nar(nar, last).await?)
    }

    /// At most `limit` paths after this one, in the order of their hashes. Those that wait for their rows are missing.
    pub(crate) async fn paths_after(&self, after: Option<StorePathHash>, limit: u32) -> Result<Vec<Listed>> {
        Ok(self.db.paths_after(after, limit).await?)
    }

    /// The same of what clients uploaded and no upstream is known to have.
    pub(crate) async fn uploads_after(
        &self,
        after: Option<StorePathHash>,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        Ok(self.db.uploads_after(after, limit).await?)
    }

    /// When a path was published and read, once it has a row.
    pub(crate) async fn listed(&self, hash: StorePathHash) -> Result<Option<Listed>> {
        Ok(self.db.listed(hash).await?)
    }

    /// How many narinfos and NAR files there are.
    pub(crate) async fn sums(&self) -> Result<(Sum, Sum)> {
        Ok((self.db.narinfo_sum().await?, self.db.nar_file_sum().await?))
    }

    /// Since when edges' totals are kept, in seconds since 1970.
    pub(crate) async fn counting_since(&self) -> Result<i64> {
        Ok(self.db.counting_since().await?)
    }

    /// Writes what an edge counted.
    pub(crate) async fn put_counted(&self, instance: &str, counted: &Counted) -> Result<()> {
        Ok(self.db.put_counted(instance, counted).await?)
    }

    /// Waits until there is room for a change. Before any lock is taken.
    pub(crate) async fn admit(&self) -> Result<()> {
        if self.overlay.waiting() < MAX_WAITING {
            return Ok(());
        }
        let room = self.wait_until(MAX_WAITING - 1);
        let refusal = |_| Error::new(Code::Overloaded, "too much waits to be written into the index");
        tokio::time::timeout(ADMISSION, room).await.map_err(refusal)
    }

    /// Waits until everything that was put has its row.
    pub(crate) async fn flushed(&self) {
        self.wait_until(0).await;
    }

    /// Waits until every row that was written is on the disk for good.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        Ok(self.db.checkpoint().await?)
    }

    async fn wait_until(&self, waiting: usize) {
        self.wait_while(|overlay| overlay.waiting() > waiting).await;
    }

    /// Waits until what was put so far has its row, for what a client is promised.
    pub(crate) async fn durable(&self) -> Result<()> {
        let mark = self.overlay.mark();
        let written = self.wait_while(|overlay| overlay.waits_for(mark));
        let late = |_| Error::new(Code::Unavailable, "the index could not be written in time");
        tokio::time::timeout(DURABLE, written).await.map_err(late)
    }

    async fn wait_while(&self, waits: impl Fn(&Overlay) -> bool) {
        loop {
            let written = self.overlay.written.notified();
            if !waits(&self.overlay) {
                return;
            }
            written.await;
        }
    }

    /// Turns with files; see the contract in `locks`.
    pub(crate) async fn lock_files(&self, names: impl IntoIterator<Item = NarFileName>) -> Held<'_> {
        self.locks.files(names).await
    }

    /// Turns with narinfos; see the contract in `locks`.
    pub(crate) async fn lock_narinfos(&self, hashes: impl IntoIterator<Item = StorePathHash>) -> Held<'_> {
        self.locks.narinfos(hashes).await
    }

    /// How many states wait for their rows.
    pub(crate) fn waiting(&self) -> usize {
        self.overlay.waiting()
    }

    /// How many accesses wait for their rows.
    pub(crate) fn accesses(&self) -> usize {
        self.overlay.accesses()
    }

    /// How many absences are in memory.
    pub(crate) fn absences(&self) -> usize {
        self.negatives.len()
    }

    /// Puts the narinfo of a path that had none.
    pub(crate) fn put_new_narinfo(&self, narinfo: Arc<NarInfo>) {
        self.metrics.narinfos.add((), 1);
        self.put_narinfo(narinfo);
    }

    /// Puts a narinfo, which ends its absence. Its file was put before.
    pub(crate) fn put_narinfo(&self, narinfo: Arc<NarInfo>) {
        let hash = narinfo.store_path.hash();
        self.overlay.put_narinfo(hash, Some(Arc::clone(&narinfo)));
        self.closures().put(hash, || Node::from(&*narinfo));
        self.negatives.remove(hash);
    }

    /// Takes a narinfo away, which was there.
    pub(crate) fn remove_narinfo(&self, hash: StorePathHash) {
        self.metrics.narinfos.add((), -1);
        self.overlay.put_narinfo(hash, None);
        self.closures().removed(hash);
    }

    /// Remembers that a path, which had this file, is about to be removed, for edges that are away.
    pub(crate) fn put_removal(&self, hash: StorePathHash, name: NarFileName) {
        self.overlay.put_removal(hash, name);
    }

    /// Paths in the order of their hashes, after this one, as the database knows them.
    pub(crate) async fn uses(&self, after: Option<StorePathHash>, limit: u32) -> Result<Vec<PathUse>> {
        let mut uses = self.db.uses(after, limit).await?;
        uses.iter_mut().for_each(|path_use| self.freshen(path_use));
        Ok(uses)
    }

    /// The same of one path.
    pub(crate) async fn use_of(&self, hash: StorePathHash) -> Result<Option<PathUse>> {
        let mut path_use = self.db.use_of(hash).await?;
        path_use.iter_mut().for_each(|path_use| self.freshen(path_use));
        Ok(path_use)
    }

    /// A row may not say yet that it was used.
    fn freshen(&self, PathUse { path, file, last_use }: &mut PathUse) {
        let waiting = [self.overlay.last_access(*file), self.overlay.last_serving(path.hash())];
        *last_use = waiting.into_iter().flatten().fold(*last_use, UnixTime::max);
    }

    /// Whether any removal is remembered in the database.
    pub(crate) async fn has_removals(&self) -> Result<bool> {
        Ok(self.db.has_removals().await?)
    }

    /// The removed paths that had this file, as the database knows them.
    pub(crate) async fn removals(&self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        Ok(self.db.removals(name).await?)
    }

    /// Forgets what was removed before `then`.
    pub(crate) async fn forget_removals(&self, then: UnixTime) -> Result<()> {
        Ok(self.db.forget_removals(then).await?)
    }

    /// Whether a path is believed absent.
    pub(crate) fn is_absent(&self, hash: StorePathHash) -> bool {
        self.negatives.get(hash).is_some()
    }

    /// Who asks for this path next has the upstreams asked.
    pub(crate) fn forget_absence(&self, hash: StorePathHash) {
        self.negatives.remove(hash);
    }

    /// Believes an absence; returns for how long.
    pub(crate) fn put_absent(&self, hash: StorePathHash, heard: Heard) -> Duration {
        self.metrics.absences.inc(());
        self.negatives.put(hash, heard)
    }

    /// Forgets the absences that not every upstream spoke for.
    pub(crate) fn forget_tentative_absences(&self) {
        self.negatives.forget_tentative();
    }

    pub(crate) fn put_file(&self, name: NarFileName, file: NarFile) {
        self.overlay.put_file(name, Some(Arc::new(file)));
    }

    /// Forgets a file and its origins; no narinfo names it any more.
    pub(crate) fn remove_file(&self, name: NarFileName) {
        self.overlay.put_file(name, None);
    }

    /// What pins protect, as far as it is known; see [`Index::settle_closures`].
    pub(crate) fn closures(&self) -> MutexGuard<'_, Closures> {
        self.closures.lock()
    }

    /// Answers what pins reach and is not known yet.
    pub(crate) async fn settle_closures(&self) -> Result<()> {
        loop {
            let Some((ticket, hash)) = self.closures().question() else { return Ok(()) };
            let narinfo = self.narinfo(hash).await?;
            self.closures().answer(ticket, narinfo.as_deref().map(Node::from));
        }
    }

    /// `None` takes the alias away.
    pub(crate) fn put_alias(&self, name: NarFileName, target: Option<NarFileName>) {
        self.overlay.put_alias(name, target);
    }

    pub(crate) fn accessed(&self, name: NarFileName, at: UnixTime) {
        self.overlay.accessed(name, at, MAX_ACCESSES);
    }

    pub(crate) fn served(&self, hash: StorePathHash, at: UnixTime) {
        self.overlay.served(hash, at, MAX_ACCESSES);
    }
}
