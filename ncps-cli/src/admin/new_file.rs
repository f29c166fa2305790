//! A file that a command makes: one that is there already is left as it is, and of one that could not be written whole
//! nothing stays.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::failure::{Done, Failure};

/// The mode of a file that is its owner's alone.
pub(super) const PRIVATE: u32 = 0o600;
/// The mode of a file that everybody may read.
pub(super) const PUBLIC: u32 = 0o644;

/// A new file, taken away again unless it was written.
pub(super) struct NewFile<'a> {
    path: &'a Path,
    file: File,
    written: bool,
}

impl<'a> NewFile<'a> {
    pub(super) fn make(path: &'a Path, mode: u32) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let file = made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Failure::Input(format!("{} is there already, and is left as it is", path.display()))
            }
            _ => Failure::Input(format!("{} can't be made: {error}", path.display())),
        })?;
        Ok(NewFile { path, file, written: false })
    }

    pub(super) fn write(mut self, text: &str) -> Done {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        self.written = written.is_ok();
        written.map_err(|error| Failure::Failed(format!("write {}: {error}", self.path.display())))
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            // It is empty or half, and ours; a failure to remove it can't be told.
            std::fs::remove_file(self.path).ok();
        }
    }
}
