//! The store on a local file system. All of it is blocking: callers on the runtime use `spawn_blocking`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ncps_nix::{CacheInfo, NarFileName, NarInfo, STORE_DIR, StorePathHash};
use ncps_proto::HeldNar;

use super::Spool;

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

/// `<data>/store` and `<data>/spool`.
#[derive(Debug)]
pub struct LocalStore {
    store: PathBuf,
    spool: PathBuf,
    next_spool: AtomicU64,
    narinfo_writes: AtomicU64,
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
            next_spool: AtomicU64::new(0),
            narinfo_writes: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            held: Held::default(),
        };
        let info = CacheInfo { store_dir: STORE_DIR.to_owned(), want_mass_query: true, priority };
        this.write("nix-cache-info", info.render().as_bytes())?;
        Ok(this)
    }

    /// Opens a NAR file. The answer to "is it here".
    pub fn open(&self, name: NarFileName) -> io::Result<Option<StoredNar>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        let Some(file) = present(File::open(self.nar_path(name)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some(StoredNar { file: Arc::new(file), size }))
    }

    /// A spool file with `size` bytes reserved, where the size is known.
    pub fn begin(&self, size: Option<u64>) -> io::Result<Spool> {
        Spool::create(self.spool_path("part"), size)
    }

    /// Makes a proven spool file the NAR file `name`: durable before it is visible. Repeatable.
    pub fn commit(&self, spool: Spool, name: NarFileName) -> io::Result<()> {
        let (path, size) = (self.nar_path(name), spool.file().metadata()?.len());
        let replaced = present(fs::metadata(&path))?.map(|file| file.len());
        spool.commit_to(&path)?;
        let new_files = u64::from(replaced.is_none());
        self.held.change(|n| n + new_files, |n| (n + size).saturating_sub(replaced.unwrap_or(0)));
        Ok(())
    }

    /// Removes a NAR file. Removing the absent is fine.
    pub fn remove(&self, name: NarFileName) -> io::Result<()> {
        let path = self.nar_path(name);
        let size = present(fs::metadata(&path))?.map_or(0, |file| file.len());
        if present(fs::remove_file(path))?.is_some() {
            self.held.change(|n| n.saturating_sub(1), |n| n.saturating_sub(size));
        }
        Ok(())
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
                held.push(HeldNar { name, file_size: metadata.len() });
            }
        }
        self.held.set(&held);
        Ok(held)
    }

    /// How many NAR files there are, and their bytes, without looking: as of the last list, and what came
    /// and went since.
    pub fn held(&self) -> (u64, u64) {
        (self.held.files.load(Ordering::Relaxed), self.held.bytes.load(Ordering::Relaxed))
    }

    /// Bytes that can still be written to this disk.
    pub fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.store)?;
        Ok(disk.f_bavail * disk.f_frsize)
    }

    /// Writes a narinfo beside its NAR file, atomically.
    pub fn put_narinfo(&self, narinfo: &NarInfo) -> io::Result<()> {
        self.narinfo_writes.fetch_add(1, Ordering::Relaxed);
        self.write(&narinfo_file(narinfo.store_path.hash()), narinfo.render().as_bytes())
    }

    /// The narinfo as it was last written. Read only while control is away.
    pub fn narinfo(&self, hash: StorePathHash) -> io::Result<Option<Vec<u8>>> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        present(fs::read(self.store.join(narinfo_file(hash))))
    }

    /// Removes a narinfo. Removing the absent is fine.
    pub fn remove_narinfo(&self, hash: StorePathHash) -> io::Result<()> {
        present(fs::remove_file(self.store.join(narinfo_file(hash)))).map(|_| ())
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

    /// Small files come into being whole: written beside, then renamed.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_whole(&self.spool_path("small"), &self.store.join(name), bytes)
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

/// A file, readable for everybody, that is never seen half written.
pub(super) fn write_whole(partial: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(partial)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_data()).and_then(|()| fs::rename(partial, target));
    if written.is_err() {
        // What is left there is removed at the next start at the latest.
        fs::remove_file(partial).ok();
    }
    written
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

    #[test]
    fn a_commit_makes_it_visible_whole() {
        let (_dir, store) = store();
        let spool = store.begin(Some(4)).expect("begun");
        spool.file().write_all_at(b"abcd", 0).expect("written");
        assert!(store.open(name(1)).expect("asked").is_none());
        store.commit(spool, name(1)).expect("committed");
        let stored = store.open(name(1)).expect("asked").expect("there");
        assert_eq!(stored.size, 4, "reserved bytes are not content");
        assert_eq!(store.held(), (1, 4), "counted without looking");
        assert_eq!(store.list().expect("listed"), vec![HeldNar { name: name(1), file_size: 4 }]);
        assert_eq!(store.spool_files().expect("listed"), 0);
    }

    #[test]
    fn an_open_file_survives_its_removal() {
        let (_dir, store) = store();
        let spool = store.begin(None).expect("begun");
        spool.file().write_all_at(b"abcd", 0).expect("written");
        store.commit(spool, name(1)).expect("committed");
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
