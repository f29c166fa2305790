//! A lock file that keeps a directory or a database to one process.
//!
//! The lock is the kernel's (`flock` on Linux) and ends with the process, however that ends; the text in
//! the file only tells others who holds it. The file stays when the lock is released: removing it would let
//! two processes lock two files of the same name. Absent: locks between machines.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A held lock; released on drop.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    path: PathBuf,
}

/// Who holds a lock, as the holder wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The name it was started by, without arguments: those may hold secrets.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// Why a lock couldn't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, has it.
    #[error("{} is locked by {}", path.display(), holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it, unless the file doesn't say.
        holder: Option<Holder>,
    },
    /// The lock file can't be opened, locked or written.
    #[error("can't lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl DirLock {
    /// Takes the lock of this file without waiting, makes the file where there is none, and writes down who
    /// holds it. The directory has to exist.
    ///
    /// # Errors
    /// [`LockError::Held`] when it is taken, [`LockError::Io`] when the file can't be used.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut file = open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { path: path.to_owned(), holder: read_holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_holder(&mut file).map_err(failed)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DirLock {
    /// Empties the file while it is still locked, so that it never names somebody who is gone. Unlocks, since
    /// closing is not enough while a child that is just being forked has the file, too.
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(path = %self.path.display(), %error, "lock file keeps its text");
        }
        if let Err(error) = self.file.unlock() {
            tracing::debug!(path = %self.path.display(), %error, "unlocked with the end of the process");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n{}\n", std::process::id(), command()).as_bytes())
}

fn command() -> String {
    let program = std::env::args_os().next().map(PathBuf::from);
    let name = program.as_deref().and_then(Path::file_name);
    name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `None` where the file says nothing: the holder is between locking and writing.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).ok()?;
    let (pid, command) = text.split_once('\n')?;
    Some(Holder { pid: pid.parse().ok()?, command: command.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_handle_learns_who_holds_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let held = DirLock::acquire(&path).expect("nobody holds it");
        let error = DirLock::acquire(&path).expect_err("it is held");
        assert!(
            matches!(&error, LockError::Held { holder: Some(holder), .. } if holder.pid == std::process::id())
        );
        assert!(error.to_string().starts_with(&format!(
            "{} is locked by process {} (",
            path.display(),
            std::process::id()
        )));
        drop(held);
        DirLock::acquire(&path).expect("it was released");
    }

    #[test]
    fn a_released_file_names_nobody_and_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        std::fs::write(&path, "a longer text that somebody left in this file\n".repeat(9)).expect("written");
        let held = DirLock::acquire(&path).expect("a text is no lock");
        assert!(
            std::fs::read_to_string(&path)
                .expect("readable")
                .starts_with(&format!("{}\n", std::process::id()))
        );
        drop(held);
        assert_eq!(std::fs::read(&path).expect("still there"), b"");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("absent/lock");
        let error = DirLock::acquire(&path).expect_err("no directory");
        assert_eq!(error.to_string(), format!("can't lock {}", path.display()));
    }
}
