//! The file that a transfer grows. It has a name of its own under `spool/`; only a commit moves it into the
//! store. Dropped without a commit it is removed, and what a killed process left there is removed at start.
//! An import spools a file of another cache by hard link: such a spool is that file, and is never written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// An uncommitted NAR file. Written by one transfer, read by any number of readers through [`Spool::file`].
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    path: PathBuf,
    content: Content,
    sealed: bool,
    committed: bool,
}

/// Whose the bytes of a spool are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Ours,
    /// Another cache has the same file.
    Linked,
}

impl Spool {
    fn of(file: File, path: PathBuf, content: Content) -> Spool {
        Spool { file: Arc::new(file), path, content, sealed: false, committed: false }
    }

    /// A second name of a file of another cache.
    ///
    /// # Errors
    /// Where the file systems differ, or have no hard links, or the system refuses to link others' files.
    pub(super) fn link(path: PathBuf, source: &Path) -> io::Result<Spool> {
        // What a symbolic link leads to is meant, which linking would not follow.
        std::fs::hard_link(std::fs::canonicalize(source)?, &path)?;
        let opened = File::open(&path).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(Spool::of(opened, path, Content::Linked))
    }

    /// Creates the file and reserves `size` bytes for it.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where the disk can't hold `size` more bytes.
    pub(super) fn create(path: PathBuf, size: Option<u64>) -> io::Result<Spool> {
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let spool = Spool::of(file, path, Content::Ours);
        if let Some(size) = size.filter(|size| *size > 0) {
            spool.reserve(size)?;
        }
        Ok(spool)
    }

    /// File systems without fallocate take the bytes as they come, or fail then.
    fn reserve(&self, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, size) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// The open file: readers keep it, whatever becomes of the name.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Forgets what was written, for a source whose bytes proved wrong before anybody saw one.
    pub fn truncate(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Makes the file durable and readable for everybody. Repeatable.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        if self.sealed {
            return Ok(());
        }
        if self.content == Content::Linked {
            // Its mode is the other cache's, too.
            self.file.sync_all()?;
            self.sealed = true;
            return Ok(());
        }
        // Gives back what was reserved and not needed.
        self.file.set_len(self.file.metadata()?.len())?;
        // Explicit, since a unit's umask may be 0066 and the store is for every user of this machine.
        self.file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        self.file.sync_all()?;
        self.sealed = true;
        Ok(())
    }

    /// Moves the sealed file to its final place.
    pub(super) fn commit_to(mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        // Where the target is the same file already, a rename leaves both names.
        self.committed = self.content == Content::Ours || !self.path.try_exists()?;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a spool file can't be removed");
        }
    }
}

/// Fills `bytes` from `offset` on; returns how many there are. Fewer only at the end of the file.
pub(crate) fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
