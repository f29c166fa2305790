//! Objects beside narinfos and NARs on the disk, at the places where Nix looks for them in a binary cache
//! directory. Their total size is bounded: past it the oldest go, those that clients uploaded last. All of it is
//! blocking.
//!
//! # Hidden contract
//! What a client uploaded is read-only on the disk (mode 0444): that is how it is known again after a restart.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ncps_nix::ObjectName;
use parking_lot::Mutex;

use super::local::{make_dir, present, sync_parent, write_beside};
use super::{LocalStore, Spool};

/// Directories of objects; listings lie beside the narinfos.
const DIRECTORIES: [&str; 4] = ["", "log", "debuginfo", "realisations"];
const TRACES: &str = "build-trace-v2";
/// The modes of what upstreams and clients brought, readable for everybody.
const FETCHED: u32 = 0o644;
const UPLOADED: u32 = 0o444;
/// A small file takes a block of the disk.
const BLOCK: u64 = 4096;

/// An object of the store, open.
#[derive(Debug)]
pub struct StoredObject {
    pub file: Arc<File>,
    /// In bytes.
    pub size: u64,
    /// Since it was written.
    pub age: Duration,
    /// By a client: no upstream has a say in it.
    pub uploaded: bool,
}

/// Who brings an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Upstream,
    Client,
}

/// What became of an object that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// All that may be kept is not enough for it.
    NoRoom,
}

/// The objects of a store.
#[derive(Debug)]
pub struct ObjectStore {
    local: Arc<LocalStore>,
    index: Mutex<Index>,
    /// Held while files come and go, so that one is never removed for the age of its predecessor.
    changes: Mutex<()>,
}

/// The order in which objects go: those that clients uploaded last.
type Rank = (bool, SystemTime);

/// What is there, by name and by age. Rebuilt from the disk at start.
#[derive(Debug, Default)]
struct Index {
    written: HashMap<ObjectName, Rank>,
    by_age: BTreeMap<(Rank, ObjectName), u64>,
    bytes: u64,
}

impl ObjectStore {
    /// Finds the objects of a store.
    pub fn open(local: Arc<LocalStore>) -> io::Result<ObjectStore> {
        let mut index = Index::default();
        for directory in DIRECTORIES {
            index.scan(local.root(), Path::new(directory))?;
        }
        for derivation in fs::read_dir(local.root().join(TRACES))? {
            index.scan(local.root(), &Path::new(TRACES).join(derivation?.file_name()))?;
        }
        Ok(ObjectStore { local, index: Mutex::new(index), changes: Mutex::default() })
    }

    /// Opens an object.
    pub fn get(&self, name: &ObjectName) -> io::Result<Option<StoredObject>> {
        let Some(file) = present(File::open(self.path(name)))? else { return Ok(None) };
        let metadata = file.metadata()?;
        // A clock that was set back makes a file young, at worst for as long as it was set back.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        let uploaded = is_uploaded(&metadata);
        Ok(Some(StoredObject { file: Arc::new(file), size: metadata.len(), age, uploaded }))
    }

    /// Writes an object whole, and lets the oldest go where all together exceed `budget` bytes. What exceeds it
    /// alone is not kept. What an upstream says never takes the place of what a client uploaded.
    pub fn put(&self, name: &ObjectName, bytes: &[u8], from: From, budget: u64) -> io::Result<Kept> {
        self.keep(name, bytes.len() as u64, from, budget, |path, mode| {
            let partial = self.local.spool_path("small");
            write_beside(&partial, bytes, mode)?;
            fs::rename(partial, path)
        })
    }

    /// The same for what was spooled.
    pub fn commit(
        &self,
        name: &ObjectName,
        mut spool: Spool,
        size: u64,
        from: From,
        budget: u64,
    ) -> io::Result<Kept> {
        spool.seal()?;
        self.keep(name, size, from, budget, |path, mode| {
            spool.file().set_permissions(fs::Permissions::from_mode(mode))?;
            spool.commit_to(path)?;
            sync_parent(path)
        })
    }

    /// Forgets an object that is gone upstream. What a client uploaded stays.
    pub fn forget(&self, name: &ObjectName) -> io::Result<()> {
        let _changes = self.changes.lock();
        if self.has_uploaded(name)? { Ok(()) } else { self.drop_file(name) }
    }

    /// Removes an object, whoever brought it. False where it is not there.
    pub fn remove(&self, name: &ObjectName) -> io::Result<bool> {
        let _changes = self.changes.lock();
        let there = self.path(name).try_exists()?;
        self.drop_file(name)?;
        Ok(there)
    }

    fn has_uploaded(&self, name: &ObjectName) -> io::Result<bool> {
        Ok(present(fs::metadata(self.path(name)))?.is_some_and(|metadata| is_uploaded(&metadata)))
    }

    fn drop_file(&self, name: &ObjectName) -> io::Result<()> {
        self.index.lock().forget(name);
        present(fs::remove_file(self.path(name)))?;
        if let ObjectName::BuildTrace { .. } = name {
            // Its directory goes with the last of its outputs; before that this fails, as it should.
            fs::remove_dir(self.path(name).with_file_name("")).ok();
        }
        Ok(())
    }

    /// What all objects take of the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.index.lock().bytes
    }

    fn keep(
        &self,
        name: &ObjectName,
        size: u64,
        from: From,
        budget: u64,
        write: impl FnOnce(&Path, u32) -> io::Result<()>,
    ) -> io::Result<Kept> {
        let _changes = self.changes.lock();
        let uploaded = from == From::Client;
        if !uploaded && self.has_uploaded(name)? {
            return Ok(Kept::Yes);
        }
        if on_disk(size) > budget {
            // Of what an upstream says anew the former version would be wrong; of an upload it stays.
            return if uploaded { Ok(Kept::NoRoom) } else { self.drop_file(name).map(|()| Kept::NoRoom) };
        }
        write(&self.made_path(name)?, if uploaded { UPLOADED } else { FETCHED })?;
        self.index.lock().note(name.clone(), (uploaded, SystemTime::now()), size);
        loop {
            let oldest = self.index.lock().oldest_beyond(budget);
            match oldest {
                Some(oldest) => self.drop_file(&oldest)?,
                None => return Ok(Kept::Yes),
            }
        }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.local.root().join(name.to_string())
    }

    fn made_path(&self, name: &ObjectName) -> io::Result<PathBuf> {
        let path = self.path(name);
        if let (ObjectName::BuildTrace { .. }, Some(directory)) = (name, path.parent()) {
            make_dir(directory, 0o755)?;
        }
        Ok(path)
    }
}

impl Index {
    /// Files of other names are none of ours and are passed over.
    fn scan(&mut self, root: &Path, directory: &Path) -> io::Result<()> {
        let path = root.join(directory);
        if !path.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = directory.join(entry.file_name());
            let name = name.to_str().and_then(|name| ObjectName::parse(name).ok());
            if let Some(name) = name
                && let Some(metadata) = present(entry.metadata())?
                && metadata.is_file()
            {
                self.note(name, (is_uploaded(&metadata), metadata.modified()?), metadata.len());
            }
        }
        Ok(())
    }

    fn note(&mut self, name: ObjectName, written: Rank, size: u64) {
        self.forget(&name);
        let size = on_disk(size);
        self.bytes += size;
        self.written.insert(name.clone(), written);
        self.by_age.insert((written, name), size);
    }

    fn forget(&mut self, name: &ObjectName) {
        if let Some((name, written)) = self.written.remove_entry(name) {
            self.bytes -= self.by_age.remove(&(written, name)).unwrap_or(0);
        }
    }

    fn oldest_beyond(&self, budget: u64) -> Option<ObjectName> {
        let ((_, oldest), _) = self.by_age.first_key_value()?;
        (self.bytes > budget).then(|| oldest.clone())
    }
}

fn is_uploaded(metadata: &fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o200 == 0
}

fn on_disk(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00000000000000000000000000000000";

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).expect("a name")
    }

    fn names() -> Vec<ObjectName> {
        let hex = "0123456789".repeat(4);
        [
            format!("{HASH}.ls"),
            format!("log/{HASH}-a+b?c=d.drv"),
            format!("debuginfo/{hex}"),
            format!("realisations/sha256:{}!out.doi", "a".repeat(64)),
            format!("build-trace-v2/{HASH}-a.drv/out.doi"),
        ]
        .map(|text| name(&text))
        .to_vec()
    }

    fn open(dir: &tempfile::TempDir) -> ObjectStore {
        let local = LocalStore::open_at(dir.path(), 10).expect("opened");
        ObjectStore::open(Arc::new(local)).expect("opened")
    }

    #[test]
    fn they_lie_where_nix_looks_and_are_found_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = open(&dir);
        for name in names() {
            store.put(&name, b"{}", From::Upstream, u64::MAX).expect("written");
            assert_eq!(fs::read(dir.path().join("store").join(name.to_string())).expect("there"), b"{}");
        }
        assert_eq!(store.bytes(), 5 * BLOCK);
        fs::write(dir.path().join("store/log/notes.txt"), b"mine").expect("written");
        let store = open(&dir);
        assert_eq!(store.bytes(), 5 * BLOCK, "found again, and nothing else");
        for name in names() {
            assert_eq!(store.get(&name).expect("asked").expect("there").size, 2);
            assert!(store.remove(&name).expect("removed"));
            assert!(store.get(&name).expect("asked").is_none());
            assert!(!store.remove(&name).expect("removing the absent is fine"));
        }
        assert_eq!(store.bytes(), 0);
        assert_eq!(fs::read_dir(dir.path().join("store").join(TRACES)).expect("there").count(), 0);
    }

    #[test]
    fn the_oldest_go_past_the_budget() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = open(&dir);
        let names = names();
        for name in &names[..3] {
            store.put(name, b"x", From::Upstream, 3 * BLOCK).expect("written");
        }
        store.put(&names[0], b"again", From::Upstream, 3 * BLOCK).expect("written");
        assert_eq!(store.bytes(), 3 * BLOCK, "written again counts once");
        store.put(&names[3], b"x", From::Upstream, 3 * BLOCK).expect("written");
        let there: Vec<_> = names.iter().map(|n| store.get(n).expect("asked").is_some()).collect();
        assert_eq!(there, [true, false, true, true, false]);
        let large = store.put(&names[4], &[0; 4 * BLOCK as usize], From::Upstream, 3 * BLOCK);
        assert_eq!(large.expect("asked"), Kept::NoRoom);
        assert_eq!(store.bytes(), 3 * BLOCK, "what exceeds the budget alone is not kept");
        assert!(store.get(&names[4]).expect("asked").is_none());
    }

    #[test]
    fn what_clients_uploaded_stays_and_goes_last() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let names = names();
        let is_there = |store: &ObjectStore, n: usize| store.get(&names[n]).expect("asked").is_some();
        let store = open(&dir);
        store.put(&names[0], b"mine", From::Client, 3 * BLOCK).expect("written");
        for name in &names {
            store.put(name, b"theirs", From::Upstream, 3 * BLOCK).expect("written");
        }
        store.forget(&names[0]).expect("asked");
        // And after a restart.
        let store = open(&dir);
        store.put(&names[1], b"theirs", From::Upstream, 3 * BLOCK).expect("written");
        let mine = store.get(&names[0]).expect("asked").expect("there");
        assert!(mine.uploaded && mine.size == 4);
        assert_eq!([1, 2, 3, 4].map(|n| is_there(&store, n)), [true, false, false, true]);
        for name in &names[1..4] {
            store.put(name, b"mine", From::Client, 3 * BLOCK).expect("written");
        }
        assert!(!is_there(&store, 0), "the oldest, once there are only such");
        let large = store.put(&names[1], &[0; 4 * BLOCK as usize], From::Client, 3 * BLOCK);
        assert_eq!(large.expect("asked"), Kept::NoRoom);
        assert!(is_there(&store, 1), "what was there is not given up for what has no room");
        assert!(store.remove(&names[1]).expect("removed") && !is_there(&store, 1));
    }
}
