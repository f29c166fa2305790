//! `<data>/quarantine`: NAR files whose bytes proved wrong, kept for a look. Nobody is served from it, and no limit
//! of the store counts it; it has its own: the oldest go, those that the disk can't read excepted, since freeing
//! their blocks would only let others be written there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ncps_nix::NarFileName;

use super::ledger::disk_bytes;
use super::local::{make_dir, present};

/// What lies there at most, in bytes on the disk, and for how long.
const MOST_BYTES: u64 = 2 << 30;
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// At the end of the name of a file that could not be read.
const UNREADABLE: &str = "unreadable";

/// Why a file is put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes are not what its name says.
    Wrong,
    /// The disk does not give its bytes.
    Unreadable,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Quarantine {
    path: PathBuf,
}

impl Quarantine {
    /// Of a data path; made when it is first needed.
    pub(super) fn of(data: &Path) -> Quarantine {
        Quarantine { path: data.join("quarantine") }
    }

    /// Where a file goes. One of the same name that lies there already is replaced.
    pub(super) fn place(&self, name: NarFileName, fault: Fault) -> io::Result<PathBuf> {
        make_dir(&self.path, 0o700)?;
        let file = self.path.join(name.file_name());
        Ok(match fault {
            Fault::Wrong => file,
            Fault::Unreadable => file.with_added_extension(UNREADABLE),
        })
    }

    /// What lies there, each once.
    pub(super) fn list(&self) -> io::Result<Vec<NarFileName>> {
        let mut names = Vec::new();
        for path in self.paths()? {
            let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let text = text.strip_suffix(UNREADABLE).and_then(|text| text.strip_suffix('.')).unwrap_or(text);
            names.extend(NarFileName::parse(text).ok().filter(|name| !names.contains(name)));
        }
        Ok(names)
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let Some(entries) = present(fs::read_dir(&self.path))? else { return Ok(Vec::new()) };
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// Removes what is too old, and the oldest of what is too much.
    pub(super) fn prune(&self, now: SystemTime) -> io::Result<()> {
        self.prune_to(now, MOST_BYTES)
    }

    fn prune_to(&self, now: SystemTime, most: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for path in self.paths()?.into_iter().filter(|path| !is_unreadable(path)) {
            let Some(metadata) = present(fs::symlink_metadata(&path))? else { continue };
            files.push((changed(&metadata), disk_bytes(&metadata), path));
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0_u64;
        for (since, size, path) in files {
            bytes = bytes.saturating_add(size);
            let age = now.duration_since(since).unwrap_or_default();
            if bytes > most || age > LONGEST {
                present(fs::remove_file(path))?;
            }
        }
        Ok(())
    }
}

fn is_unreadable(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == UNREADABLE)
}

/// When it was put there: a rename changes this time, and nothing later does.
fn changed(metadata: &fs::Metadata) -> SystemTime {
    use std::os::unix::fs::MetadataExt;
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    fn name(n: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[n])), compression: Compression::Xz }
    }

    fn with(files: &[(u8, Fault)]) -> (tempfile::TempDir, Quarantine) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let quarantine = Quarantine::of(dir.path());
        for (n, fault) in files {
            let place = quarantine.place(name(*n), *fault).expect("a place");
            fs::write(place, vec![*n; 10_000]).expect("written");
        }
        (dir, quarantine)
    }

    #[test]
    fn it_knows_what_lies_there() {
        let (_dir, quarantine) = with(&[(1, Fault::Wrong), (1, Fault::Unreadable), (2, Fault::Unreadable)]);
        let mut names = quarantine.list().expect("listed");
        names.sort_unstable();
        let mut expected = vec![name(1), name(2)];
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_old_or_too_much_goes_but_not_what_could_not_be_read() {
        let (_dir, quarantine) = with(&[(1, Fault::Wrong), (2, Fault::Unreadable), (3, Fault::Wrong)]);
        let now = SystemTime::now();
        quarantine.prune_to(now, 1 << 20).expect("pruned");
        assert_eq!(quarantine.list().expect("listed").len(), 3, "it is young, and there is room");
        quarantine.prune_to(now, 15_000).expect("pruned");
        assert_eq!(quarantine.list().expect("listed").len(), 2, "one of two fits");
        quarantine.prune_to(now + LONGEST + Duration::from_secs(2), 1 << 20).expect("pruned");
        assert_eq!(quarantine.list().expect("listed"), vec![name(2)]);
    }
}
