//! The Go original's data path becomes ours: NARs get a second name, the index is made, and only when both are whole
//! the first names go and what is left over is put aside. Until then the original could go on there.
//!
//! Every step may be repeated, and is found done by a later run.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where leftovers go: below the data path, and at the end of the database's name.
const ASIDE: &str = "go-ncps";

/// What the original has in its data path beside NARs. Narinfos go last: by them a later run sees what to do.
const LEFTOVERS: [&str; 5] = ["store/chunk", "store/staging", "store/tmp", "config", "store/narinfo"];

/// What SQLite keeps beside a database. The database itself is the last one to move: without it the others mean
/// nothing, with it they are found.
const DATABASE_FILES: [&str; 3] = ["-wal", "-shm", ""];

/// Where the original's database goes where ours is to be.
pub(super) fn aside(database: &Path) -> PathBuf {
    with_end(database, &format!(".{ASIDE}"))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes room for our database, where the original's is in its place.
pub(super) fn put_database_aside(database: &Path) -> io::Result<()> {
    for end in DATABASE_FILES {
        rename_if_there(&with_end(database, end), &with_end(&aside(database), end))?;
    }
    Ok(())
}

/// Takes the original's names from the NARs that are ours now, and puts aside what else is the original's.
pub(super) fn finish(data: &Path) -> io::Result<()> {
    let ours = files_by_inode(&data.join("store/nar"))?;
    for first in folders(&data.join("store/nar"))? {
        for second in folders(&first)? {
            take_names(&second, &ours)?;
            remove_if_empty(&second)?;
        }
        remove_if_empty(&first)?;
        put_aside(data, &first)?;
    }
    LEFTOVERS.iter().try_for_each(|leftover| put_aside(data, &data.join(leftover)))
}

type Inode = (u64, u64);

fn inode(path: &Path) -> io::Result<Inode> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn files_by_inode(folder: &Path) -> io::Result<HashMap<Inode, PathBuf>> {
    let files = entries(folder)?.into_iter().filter(|path| path.is_file());
    files.map(|path| Ok((inode(&path)?, path))).collect()
}

fn take_names(folder: &Path, ours: &HashMap<Inode, PathBuf>) -> io::Result<()> {
    for file in entries(folder)? {
        if let Some(ours) = ours.get(&inode(&file)?) {
            // The original keeps its files to itself; ours are for every user of the machine.
            fs::set_permissions(ours, Permissions::from_mode(0o644))?;
            fs::remove_file(&file)?;
        }
    }
    Ok(())
}

/// Moves a file or folder of the data path below the folder for leftovers; what a former run moved is joined.
fn put_aside(data: &Path, path: &Path) -> io::Result<()> {
    let Ok(relative) = path.strip_prefix(data) else { return Ok(()) };
    let target = data.join(ASIDE).join(relative);
    if let Some(above) = target.parent().filter(|_| path.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(above)?;
        join(path, &target)?;
    }
    Ok(())
}

fn join(path: &Path, target: &Path) -> io::Result<()> {
    if !(path.is_dir() && target.is_dir()) {
        return fs::rename(path, target);
    }
    for entry in entries(path)? {
        let name = entry.file_name().ok_or(ErrorKind::InvalidInput)?;
        join(&entry, &target.join(name))?;
    }
    fs::remove_dir(path)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(data: &Path, path: &str) {
        fs::create_dir_all(data.join(path).parent().expect("below")).expect("made");
        fs::write(data.join(path), path).expect("written");
    }

    #[test]
    fn what_was_half_done_is_finished() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path();
        put(data, "store/nar/ours.nar.xz");
        fs::create_dir_all(data.join("store/nar/1/1b")).expect("made");
        fs::hard_link(data.join("store/nar/ours.nar.xz"), data.join("store/nar/1/1b/theirs.nar.xz"))
            .expect("linked");
        put(data, "store/nar/1/1c/refused.nar.xz");
        put(data, "store/narinfo/1/1b/b.narinfo");
        put(data, "config/cache.key");
        put(data, "go-ncps/store/narinfo/1/1b/a.narinfo");
        put(data, "go-ncps/store/nar/1/1a/refused.nar.xz");
        finish(data).expect("finished");
        finish(data).expect("and again, with nothing to do");
        let there = |path: &str| data.join(path).exists();
        assert!(there("store/nar/ours.nar.xz") && !there("store/nar/1") && !there("store/narinfo"));
        for moved in ["store/nar/1/1c/refused.nar.xz", "store/nar/1/1a/refused.nar.xz", "config/cache.key"] {
            assert!(there(&format!("go-ncps/{moved}")), "{moved}");
        }
        for narinfo in ["a", "b"] {
            assert!(there(&format!("go-ncps/store/narinfo/1/1b/{narinfo}.narinfo")), "{narinfo}");
        }
        let mode = fs::metadata(data.join("store/nar/ours.nar.xz")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn a_database_is_put_aside_with_its_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = dir.path().join("db.sqlite");
        // As if a former run had been stopped after the log.
        fs::write(aside(&database).with_file_name("db.sqlite.go-ncps-wal"), "log").expect("written");
        fs::write(&database, "database").expect("written");
        for _ in 0..2 {
            put_database_aside(&database).expect("moved");
            assert!(!database.exists());
            assert_eq!(fs::read(aside(&database)).expect("there"), b"database");
            assert_eq!(fs::read(with_end(&aside(&database), "-wal")).expect("there"), b"log");
        }
    }
}
