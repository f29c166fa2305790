//! The store on a local file system. All of it is blocking: callers on the runtime use `spawn_blocking`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ncps_nix::{CacheInfo, MAX_NARINFO_BYTES, NarFileName, NarInfo, STORE_DIR, StorePathHash};
use ncps_proto::HeldNar;
use ncps_runtime::fault::{self, Point};

use super::Spool;
use super::ledger::{Ledger, NARINFO_BYTES, SPARE, Used, disk_bytes};
use super::quarantine::{Fault, Quarantine};
use super::unhurried::Unhurried;

/// Directories of a Nix binary cache. Nix makes them when it opens one, and so can't open a cache of another
/// user in which one is missing.
const DIRECTORIES: [&str; 5] = ["nar", "log", "realisations", "build-trace-v2", "debuginfo"];

/// A NAR file of the store, open. It stays readable after its eviction.
#[derive(Debug)]
pub struct StoredNar {
    pub file: Arc<File>,
    /// In bytes.
    pub size: u64,
}

/// What became of a file that was to be committed.
#[derive(Debug)]
pub enum Committed {
    /// It is a NAR file of the store.
    Kept(HeldNar),
    /// It would take the store past its limit. It needs so many bytes: its narinfo and what is to stay spare included.
    NoRoom { spool: Spool, needs: u64 },
}

/// The file system below the store, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub total: u64,
    /// For programs without privileges.
    pub free: u64,
}

/// `<data>/store` and `<data>/spool`.
#[derive(Debug)]
pub struct LocalStore {
    store: PathBuf,
    spool: PathBuf,
    quarantine: Quarantine,
    ledger: Ledger,
    next_spool: AtomicU64,
    opens: AtomicU64,
    held: Held,
}

/// How many NAR files there are and their bytes: counted when they are listed, and kept up since.
#[derive(Debug, Default)]
struct Held {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Held {
    fn set(&self, held: &[HeldNar]) {
        self.files.store(held.len() as u64, Ordering::Relaxed);
        self.bytes.store(held.iter().map(|nar| nar.file_size).sum(), Ordering::Relaxed);
    }

    fn change(&self, files: impl Fn(u64) -> u64, bytes: impl Fn(u64) -> u64) {
        let change = |number: &AtomicU64, by: &dyn Fn(u64) -> u64| {
            number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(by(n))).ok();
        };
        change(&self.files, &files);
        change(&self.bytes, &bytes);
    }
}

impl LocalStore {
    /// Makes the directories and empties the spool. The caller holds the lock of the data path.
    pub fn open_at(data: &Path, priority: u32) -> io::Result<LocalStore> {
        let (store, spool) = (data.join("store"), data.join("spool"));
        make_dir(&store, 0o755)?;
        for directory in DIRECTORIES {
            make_dir(&store.join(directory), 0o755)?;
        }
        empty_dir(&spool)?;
        let this = LocalStore {
            store,
            spool,
            quarantine: Quarantine::of(data),
            ledger: Ledger::default(),
            next_spool: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            held: Held::default(),
        };
        let info = CacheInfo { store_dir: STORE_DIR.to_owned(), want_mass_query: true, priority };
        std::fs::rename(this.written(info.render().as_bytes())?, this.store.join("nix-cache-info"))?;
        Ok(this)
    }

    /// Opens a NAR file. The answer to "is it here".
    pub fn open(&self, name: NarFileName) -> io::Result<Option<StoredNar>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        let Some(file) = present(File::open(self.nar_path(name)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some(StoredNar { file: Arc::new(file), size }))
    }

    /// Opens a NAR file to be read from end to end, without pushing what others read out of memory.
    pub(crate) fn open_unhurried(&self, name: NarFileName) -> io::Result<Option<Unhurried>> {
        present(Unhurried::open(&self.nar_path(name)))
    }

    /// A spool file with `size` bytes reserved, where the size is known.
    pub fn begin(&self, size: Option<u64>) -> io::Result<Spool> {
        Spool::create(self.spool_path("part"), size)
    }

    /// A spool that is a file of another cache, by hard link. To be proven and committed like any other, and never
    /// written to.
    ///
    /// # Errors
    /// Where it can't be linked: on another file system, say.
    pub fn begin_linked(&self, source: &Path) -> io::Result<Spool> {
        Spool::link(self.spool_path("part"), source)
    }

    /// The most that NAR files, narinfos and their directories may take on the disk, in bytes.
    pub(crate) fn limit_to(&self, limit: Option<u64>) {
        self.ledger.set_limit(limit);
    }

    /// Makes a proven spool file the NAR file `name`: durable before it is visible. Only if it fits within the
    /// limit; `fits` is called then, before anybody sees that it is there.
    pub fn commit(&self, mut spool: Spool, name: NarFileName, fits: impl FnOnce()) -> io::Result<Committed> {
        spool.seal()?;
        fault::point(Point::NarSealed);
        let metadata = spool.file().metadata()?;
        let (file_size, disk_bytes) = (metadata.len(), disk_bytes(&metadata));
        let needs = disk_bytes + NARINFO_BYTES;
        let target = self.nar_path(name);
        let mut used = self.ledger.open(|| self.count())?;
        let former = present(fs::metadata(&target))?;
        let replaced = former.as_ref().map_or(0, |former| self::disk_bytes(former) + NARINFO_BYTES);
        if !self.ledger.has_room(used.bytes().saturating_sub(replaced), needs) {
            return Ok(Committed::NoRoom { spool, needs: needs + SPARE });
        }
        fits();
        spool.commit_to(&target)?;
        fault::point(Point::NarRenamed);
        if let Some(former) = &former {
            used.remove_nar(self::disk_bytes(former));
        }
        used.add_nar(disk_bytes);
        used.directories = self.directories()?;
        let (new, gone) = (u64::from(former.is_none()), former.map_or(0, |former| former.len()));
        self.held.change(|n| n + new, |n| (n + file_size).saturating_sub(gone));
        drop(used);
        sync_parent(&target)?;
        Ok(Committed::Kept(HeldNar { name, file_size, disk_bytes }))
    }

    /// Removes a NAR file. Removing the absent is fine.
    pub fn remove(&self, name: NarFileName) -> io::Result<()> {
        let path = self.nar_path(name);
        let mut used = self.ledger.open(|| self.count())?;
        let Some(metadata) = present(fs::metadata(&path))? else { return Ok(()) };
        present(fs::remove_file(path))?;
        used.remove_nar(disk_bytes(&metadata));
        self.held.change(|n| n.saturating_sub(1), |n| n.saturating_sub(metadata.len()));
        Ok(())
    }

    /// Moves a NAR file out of the store, as long as it is still the one that was `seen`. False where it is not. Who
    /// reads it goes on.
    pub(crate) fn quarantine(
        &self,
        name: NarFileName,
        seen: &fs::Metadata,
        fault: Fault,
    ) -> io::Result<bool> {
        let (path, place) = (self.nar_path(name), self.quarantine.place(name, fault)?);
        let mut used = self.ledger.open(|| self.count())?;
        let found = present(fs::metadata(&path))?;
        let Some(found) = found.filter(|found| (found.ino(), found.dev()) == (seen.ino(), seen.dev())) else {
            return Ok(false);
        };
        fs::rename(&path, place)?;
        used.remove_nar(disk_bytes(&found));
        self.held.change(|n| n.saturating_sub(1), |n| n.saturating_sub(found.len()));
        drop(used);
        sync_parent(&path)?;
        self.quarantine.prune(SystemTime::now())?;
        Ok(true)
    }

    /// What lies in quarantine.
    pub(crate) fn quarantined(&self) -> io::Result<Vec<NarFileName>> {
        self.quarantine.list()
    }

    /// Bytes on disk that NAR files, narinfos and their directories take, and what `meanwhile` says while that can't
    /// change.
    pub fn used_and<T>(&self, meanwhile: impl FnOnce() -> T) -> io::Result<(u64, T)> {
        let used = self.ledger.open(|| self.count())?;
        Ok((used.bytes(), meanwhile()))
    }

    /// How full the file system is.
    pub fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.store)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }

    fn count(&self) -> io::Result<Used> {
        let mut used = Used::default();
        used.directories = self.directories()?;
        self.list()?.iter().for_each(|held| used.add_nar(held.disk_bytes));
        for entry in fs::read_dir(&self.store)? {
            used.narinfos +=
                u64::from(Path::new(&entry?.file_name()).extension().is_some_and(|e| e == "narinfo"));
        }
        Ok(used)
    }

    /// Bytes on disk that directories take, but for those that objects make for themselves.
    fn directories(&self) -> io::Result<u64> {
        let ours = DIRECTORIES.iter().map(|name| self.store.join(name));
        let all = ours.chain([self.store.clone(), self.spool.clone()]);
        all.map(|path| fs::metadata(path).map(|metadata| disk_bytes(&metadata))).sum()
    }

    /// Every NAR file. Files of other names are none of ours and are passed over.
    pub fn list(&self) -> io::Result<Vec<HeldNar>> {
        let mut held = Vec::new();
        for entry in fs::read_dir(self.store.join("nar"))? {
            let entry = entry?;
            let name = entry.file_name().to_str().and_then(|n| NarFileName::parse(n).ok());
            // A file may go while its directory is read.
            if let Some(name) = name
                && let Some(metadata) = present(entry.metadata())?
            {
                let (file_size, disk_bytes) = (metadata.len(), disk_bytes(&metadata));
                held.push(HeldNar { name, file_size, disk_bytes });
            }
        }
        self.held.set(&held);
        Ok(held)
    }

    /// One NAR file, if it is here.
    pub fn held_file(&self, name: NarFileName) -> io::Result<Option<HeldNar>> {
        let metadata = present(fs::metadata(self.nar_path(name)))?;
        let held = |metadata: fs::Metadata| (metadata.len(), disk_bytes(&metadata));
        Ok(metadata.map(held).map(|(file_size, disk_bytes)| HeldNar { name, file_size, disk_bytes }))
    }

    /// How many NAR files there are, and their bytes, without looking: as of the last list, and what came
    /// and went since.
    pub fn held(&self) -> (u64, u64) {
        (self.held.files.load(Ordering::Relaxed), self.held.bytes.load(Ordering::Relaxed))
    }

    /// Writes a narinfo beside the NAR file that it names, atomically; not where that file is not here, nor where
    /// another narinfo took the room that comes with that file. Whoever removes the NAR file removes the narinfo
    /// after it, so that none stays behind whichever comes first.
    pub fn put_narinfo(&self, narinfo: &NarInfo, names: NarFileName) -> io::Result<()> {
        if !self.nar_path(names).try_exists()? {
            return Ok(());
        }
        let hash = narinfo.store_path.hash();
        let target = self.store.join(narinfo_file(hash));
        let Some(writing) = self.ledger.narinfo(!target.try_exists()?, || self.count())? else {
            return Ok(());
        };
        let partial = self.written(narinfo.render().as_bytes())?;
        let mut used = self.ledger.open(|| self.count())?;
        let is_new = !target.try_exists()?;
        fs::rename(partial, target)?;
        used.narinfos += u64::from(is_new);
        used.directories = self.directories()?;
        drop(used);
        drop(writing);
        fault::point(Point::NarinfoStored);
        // It may have been evicted meanwhile.
        if self.nar_path(names).try_exists()? { Ok(()) } else { self.remove_narinfo(hash) }
    }

    /// The narinfo as it was last written. Read only while control is away.
    pub fn narinfo(&self, hash: StorePathHash) -> io::Result<Option<Vec<u8>>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        let Some(file) = present(File::open(self.store.join(narinfo_file(hash))))? else { return Ok(None) };
        let mut text = Vec::new();
        // Whoever put a larger one there: it is none, and is not read to its end.
        file.take(MAX_NARINFO_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok(Some(text))
    }

    /// The store paths that have a narinfo file.
    pub(crate) fn narinfos(&self) -> io::Result<Vec<StorePathHash>> {
        let mut hashes = Vec::new();
        for entry in fs::read_dir(&self.store)? {
            let name = entry?.file_name();
            let hash = name.to_str().and_then(|name| name.strip_suffix(".narinfo"));
            hashes.extend(hash.and_then(|hash| StorePathHash::parse(hash).ok()));
        }
        Ok(hashes)
    }

    /// Removes a narinfo. Removing the absent is fine.
    pub fn remove_narinfo(&self, hash: StorePathHash) -> io::Result<()> {
        let mut used = self.ledger.open(|| self.count())?;
        if present(fs::remove_file(self.store.join(narinfo_file(hash))))?.is_some() {
            used.narinfos = used.narinfos.saturating_sub(1);
        }
        Ok(())
    }

    /// How often the disk was asked for a file. A warm narinfo asks never.
    pub fn opens(&self) -> u64 {
        self.opens.load(Ordering::Relaxed)
    }

    /// Spool files that exist right now.
    pub fn spool_files(&self) -> io::Result<usize> {
        Ok(fs::read_dir(&self.spool)?.count())
    }

    fn nar_path(&self, name: NarFileName) -> PathBuf {
        self.store.join("nar").join(name.file_name())
    }

    /// Small files come into being whole: written beside, then renamed by the caller.
    fn written(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let partial = self.spool_path("small");
        write_beside(&partial, bytes, 0o644)?;
        Ok(partial)
    }

    /// A path in the spool that nobody else has.
    pub(super) fn spool_path(&self, extension: &str) -> PathBuf {
        let number = self.next_spool.fetch_add(1, Ordering::Relaxed);
        self.spool.join(format!("{number}.{extension}"))
    }

    /// `<data>/store`.
    pub(super) fn root(&self) -> &Path {
        &self.store
    }
}

/// A small file before it is renamed to where it is seen.
pub(super) fn write_beside(partial: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(partial)?;
    let mut fill = || {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    // A full disk must not be filled further by what is of no use.
    fill().inspect_err(|_| drop(fs::remove_file(partial)))
}

fn narinfo_file(hash: StorePathHash) -> String {
    format!("{hash}.narinfo")
}

/// Absence as `None`, every other trouble as an error.
pub(super) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory and its parents; `mode` is set whatever the umask says.
pub(super) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A directory of ours alone, with nothing in it.
fn empty_dir(path: &Path) -> io::Result<()> {
    make_dir(path, 0o700)?;
    for entry in fs::read_dir(path)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Makes a rename durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::{Compression, FileHash, Sha256Hash};
    use std::os::unix::fs::FileExt;

    fn name(n: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[n])), compression: Compression::Xz }
    }

    fn store() -> (tempfile::TempDir, LocalStore) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = LocalStore::open_at(dir.path(), 10).expect("opened");
        (dir, store)
    }

    fn keep(store: &LocalStore, spool: Spool, name: NarFileName) -> HeldNar {
        match store.commit(spool, name, || {}).expect("committed") {
            Committed::Kept(held) => held,
            Committed::NoRoom { .. } => panic!("there is no limit"),
        }
    }

    fn used(store: &LocalStore) -> u64 {
        store.used_and(|| ()).expect("counted").0
    }

    fn spool_of(store: &LocalStore, bytes: usize) -> Spool {
        let spool = store.begin(Some(bytes as u64 * 2)).expect("begun");
        spool.file().write_all_at(&vec![7; bytes], 0).expect("written");
        spool
    }

    #[test]
    fn the_ledger_agrees_with_a_count() {
        let (dir, store) = store();
        for n in 0..3 {
            keep(&store, spool_of(&store, 10_000 * usize::from(n + 1)), name(n));
        }
        keep(&store, spool_of(&store, 90_000), name(2));
        store.remove(name(0)).expect("removed");
        store.remove(name(9)).expect("removing the absent is fine");
        store.remove_narinfo(StorePathHash::from_bytes([1; 20])).expect("removing the absent is fine");
        let taken = used(&store);
        let again = || used(&LocalStore::open_at(dir.path(), 10).expect("opened again"));
        assert_eq!(taken, again());
        let nars = store.list().expect("listed").iter().map(|held| held.disk_bytes).sum::<u64>();
        assert_eq!(taken, nars + 2 * NARINFO_BYTES + store.directories().expect("looked at"));
        assert!((110_000..160_000).contains(&nars), "what was reserved and not needed is given back: {nars}");
        for n in 0..2 {
            fs::write(dir.path().join(format!("store/{n}.narinfo")), b"x").expect("written");
            assert_eq!(again(), taken, "NAR files count with their narinfos");
        }
        fs::write(dir.path().join("store/2.narinfo"), b"x").expect("written");
        assert_eq!(again(), taken + NARINFO_BYTES);
    }

    /// A narinfo of the `n`-th store path, that names the NAR file `name`.
    fn narinfo(n: u8, name: NarFileName) -> NarInfo {
        let path = StorePathHash::from_bytes([n; 20]);
        let text = format!(
            "StorePath: /nix/store/{path}-x\nURL: nar/{}\nCompression: xz\nNarHash: sha256:{}\nNarSize: 8\n",
            name.file_name(),
            name.hash.0.nix32(),
        );
        NarInfo::parse(text.as_bytes()).expect("it parses")
    }

    fn narinfos(store: &LocalStore) -> usize {
        store.narinfos().expect("listed").len()
    }

    #[test]
    fn a_narinfo_has_its_room_from_the_commit_on_and_another_only_within_the_limit() {
        let (_dir, store) = store();
        keep(&store, spool_of(&store, 20_000), name(1));
        let taken = used(&store);
        store.limit_to(Some(taken));
        store.put_narinfo(&narinfo(1, name(1)), name(1)).expect("written");
        store.put_narinfo(&narinfo(1, name(1)), name(1)).expect("written anew");
        store.put_narinfo(&narinfo(2, name(1)), name(1)).expect("passed over");
        assert_eq!((narinfos(&store), used(&store)), (1, taken));
        store.limit_to(Some(taken + NARINFO_BYTES + SPARE));
        store.put_narinfo(&narinfo(2, name(1)), name(1)).expect("written");
        assert_eq!((narinfos(&store), used(&store)), (2, taken + NARINFO_BYTES));
        for n in 1..3 {
            store.remove_narinfo(StorePathHash::from_bytes([n; 20])).expect("removed");
        }
        assert_eq!(used(&store), taken);
    }

    #[test]
    fn past_the_limit_nothing_is_committed() {
        let (_dir, store) = store();
        let held = keep(&store, spool_of(&store, 20_000), name(1));
        let (taken, needs) = (used(&store), held.disk_bytes + NARINFO_BYTES + SPARE);
        store.limit_to(Some(taken + needs - 1));
        let refused = store.commit(spool_of(&store, 20_000), name(2), || panic!("it does not fit"));
        let Committed::NoRoom { spool, needs: said } = refused.expect("no trouble") else {
            panic!("its narinfo needs room, too")
        };
        assert_eq!((said, used(&store)), (needs, taken));
        store.limit_to(Some(taken + needs));
        let kept = store.commit(spool, name(2), || {}).expect("no trouble");
        assert!(matches!(kept, Committed::Kept(_)));
    }

    #[test]
    fn a_commit_makes_it_visible_whole() {
        let (_dir, store) = store();
        let spool = store.begin(Some(4)).expect("begun");
        spool.file().write_all_at(b"abcd", 0).expect("written");
        assert!(store.open(name(1)).expect("asked").is_none());
        keep(&store, spool, name(1));
        let stored = store.open(name(1)).expect("asked").expect("there");
        assert_eq!(stored.size, 4, "reserved bytes are not content");
        assert_eq!(store.held(), (1, 4), "counted without looking");
        let held = store.list().expect("listed");
        assert_eq!((held.len(), held[0].name, held[0].file_size), (1, name(1), 4));
        assert_eq!(store.spool_files().expect("listed"), 0);
    }

    #[test]
    fn an_open_file_survives_its_removal() {
        let (_dir, store) = store();
        let spool = store.begin(None).expect("begun");
        spool.file().write_all_at(b"abcd", 0).expect("written");
        keep(&store, spool, name(1));
        let stored = store.open(name(1)).expect("asked").expect("there");
        store.remove(name(1)).expect("removed");
        store.remove(name(1)).expect("removing the absent is fine");
        assert_eq!(store.held(), (0, 0));
        let mut bytes = [0; 4];
        stored.file.read_exact_at(&mut bytes, 0).expect("still readable");
        assert_eq!(&bytes, b"abcd");
    }

    #[test]
    fn a_dropped_spool_leaves_nothing_and_a_start_empties_the_rest() {
        let (dir, store) = store();
        drop(store.begin(Some(10)).expect("begun"));
        assert_eq!(store.spool_files().expect("listed"), 0);
        fs::write(dir.path().join("spool/17.part"), b"left by a killed process").expect("written");
        let store = LocalStore::open_at(dir.path(), 10).expect("opened again");
        assert_eq!(store.spool_files().expect("listed"), 0);
    }

    #[test]
    fn foreign_files_are_passed_over() {
        let (dir, store) = store();
        fs::write(dir.path().join("store/nar/notes.txt"), b"mine").expect("written");
        assert_eq!(store.list().expect("listed"), vec![]);
    }

    #[test]
    fn it_is_readable_for_other_users() {
        let (dir, _store) = store();
        for path in ["store", "store/nar", "store/log", "store/realisations", "store/build-trace-v2"] {
            let mode = fs::metadata(dir.path().join(path)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o755, "{path}");
        }
    }
}
