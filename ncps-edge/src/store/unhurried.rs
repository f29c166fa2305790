//! Reading files of the store from end to end without harm to those who are served from it: past the page cache where
//! the file system takes that (`O_DIRECT`), which also reads what the disk really has; elsewhere the system is told
//! that the pages are not needed again.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags};

/// Bytes per read, and what their place in memory and in the file is a multiple of.
const CHUNK: usize = 1 << 20;
const ALIGNMENT: usize = 4096;

/// A file that is read once.
pub(crate) struct Unhurried {
    file: File,
    buffer: Vec<u8>,
    /// Where the aligned part of the buffer begins, and what of it was read and not yet taken.
    start: usize,
    filled: usize,
    taken: usize,
    offset: u64,
    direct: bool,
}

impl Unhurried {
    /// Opens it at its begin.
    pub(super) fn open(path: &Path) -> io::Result<Unhurried> {
        let direct = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT, Mode::empty());
        let (file, direct) = match direct {
            Ok(file) => (File::from(file), true),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => (buffered(path)?, false),
            Err(error) => return Err(error.into()),
        };
        let buffer = vec![0; CHUNK + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Ok(Unhurried { file, buffer, start, filled: 0, taken: 0, offset: 0, direct })
    }

    /// What it is, as it is opened.
    pub(crate) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    fn fill(&mut self) -> io::Result<()> {
        let chunk = &mut self.buffer[self.start..self.start + CHUNK];
        let read = loop {
            match self.file.read_at(chunk, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some file systems open it so, and then don't read it.
                Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                    rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
                    self.direct = false;
                }
                read => break read?,
            }
        };
        self.forget(read);
        self.offset += read as u64;
        (self.filled, self.taken) = (read, 0);
        // After an end that is not aligned, nothing may be read past the cache any more.
        if self.direct && read % ALIGNMENT != 0 {
            rustix::fs::fcntl_setfl(&self.file, OFlags::empty())?;
            self.direct = false;
        }
        Ok(())
    }

    /// The pages just read make room for those that somebody needs. That it can't be said does no harm.
    fn forget(&self, read: usize) {
        if let (false, Some(len)) = (self.direct, NonZeroU64::new(read as u64)) {
            rustix::fs::fadvise(&self.file, self.offset, Some(len), Advice::DontNeed).ok();
        }
    }
}

fn buffered(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    rustix::fs::fadvise(&file, 0, None, Advice::NoReuse).ok();
    Ok(file)
}

impl Read for Unhurried {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled {
            self.fill()?;
        }
        let from = self.start + self.taken;
        let n = bytes.len().min(self.filled - self.taken);
        bytes[..n].copy_from_slice(&self.buffer[from..from + n]);
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_every_byte_of_files_of_any_length() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for length in [0, 1, 4095, 4096, 100_000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 4096] {
            let path = dir.path().join(length.to_string());
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &bytes).expect("written");
            let mut read = Vec::new();
            Unhurried::open(&path).expect("opened").read_to_end(&mut read).expect("read");
            assert!(read == bytes, "{length}");
        }
    }
}
