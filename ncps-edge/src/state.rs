//! `<data>/edge.state`: who this edge is, and the last configuration that control said, so that a start without
//! control works the same. Mode 0600, since it holds what control trusts us with. Written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ncps_proto::{EdgeSettings, decode_settings, encode_settings};
use parking_lot::Mutex;

/// The first line of the file.
const FORMAT: &str = "ncps edge.state 2";
/// One without the line of the index: it is the one of the settings.
const FORMER: &str = "ncps edge.state 1";

/// The file, and what of it never changes.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    instance: Arc<str>,
    /// What is written changes only under this.
    kept: Arc<Mutex<Kept>>,
}

/// What of the file changes.
#[derive(Debug, Default)]
struct Kept {
    /// The index that this edge belongs to: the first that it met, or the one that an administrator said last.
    index: Option<String>,
    /// As they travel.
    settings: Vec<u8>,
}

impl StateFile {
    /// Reads the state of a data path, or begins one.
    ///
    /// # Errors
    /// Where the file can't be read or is none of ours: nothing is overwritten then.
    pub fn open(data: &Path) -> io::Result<(StateFile, Option<EdgeSettings>)> {
        let path = data.join("edge.state");
        match fs::read(&path) {
            Ok(bytes) => {
                let damaged = || io::Error::other(format!("{} is not an edge's state file", path.display()));
                let (instance, index, settings) = parse(&bytes).ok_or_else(damaged)?;
                let kept =
                    Kept { index, settings: settings.clone().map(encode_settings).unwrap_or_default() };
                Ok((StateFile { path, instance, kept: Arc::new(Mutex::new(kept)) }, settings))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = StateFile { path, instance: new_instance()?, kept: Arc::default() };
                state.write(&state.kept.lock())?;
                Ok((state, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Random, made with the data path: who this edge is, whatever its name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Keeps a configuration for a start without control. `newest` says which when it is our turn to write, so that
    /// of several who write at once nobody leaves an older one behind.
    pub fn save_settings(&self, newest: impl FnOnce() -> Option<EdgeSettings>) -> io::Result<()> {
        let mut kept = self.kept.lock();
        let Some(settings) = newest() else { return Ok(()) };
        kept.settings = encode_settings(settings);
        self.write(&kept)
    }

    /// The index that this edge belongs to; `None` before it met one.
    pub fn index(&self) -> Option<String> {
        self.kept.lock().index.clone()
    }

    /// Whether this edge belongs to another index than this one. It belongs to the first that it meets.
    pub fn is_foreign(&self, index: &str) -> bool {
        self.kept.lock().index.get_or_insert_with(|| index.to_owned()) != index
    }

    /// From now on it belongs to this index.
    pub fn accept(&self, index: &str) -> io::Result<()> {
        let mut kept = self.kept.lock();
        kept.index = Some(index.to_owned());
        self.write(&kept)
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let partial = self.path.with_extension("state.part");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        write!(file, "{FORMAT}\n{}\n{}\n", self.instance, kept.index.as_deref().unwrap_or_default())?;
        file.write_all(&kept.settings)?;
        file.sync_data()?;
        fs::rename(partial, &self.path)
    }
}

type Parsed = (Arc<str>, Option<String>, Option<EdgeSettings>);

/// Three lines of text, then the settings as they travel; none where nothing follows.
fn parse(bytes: &[u8]) -> Option<Parsed> {
    let (format, rest) = line(bytes)?;
    let (instance, rest) = line(rest)?;
    let (index, settings) = match format {
        FORMAT => line(rest).map(|(index, rest)| (Some(index.to_owned()), rest))?,
        FORMER => (None, rest),
        _ => return None,
    };
    let settings = if settings.is_empty() { None } else { Some(decode_settings(settings).ok()?) };
    let index = index.or_else(|| Some(settings.as_ref()?.index_id.clone()));
    Some((instance.into(), index.filter(|index| !index.is_empty()), settings))
}

/// A line, and what follows it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn new_instance() -> io::Result<Arc<str>> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(ncps_nix::nix32::encode(&bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_belongs_to_the_first_index_until_it_is_told_otherwise() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (state, _) = StateFile::open(dir.path()).expect("begun");
        assert_eq!(state.index(), None);
        assert!(!state.is_foreign("a") && state.is_foreign("b") && !state.is_foreign("a"));
        state.accept("b").expect("written");
        let (state, _) = StateFile::open(dir.path()).expect("read");
        assert!(state.is_foreign("a") && !state.is_foreign("b"));
    }

    #[test]
    fn the_instance_stays_and_damage_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (first, settings) = StateFile::open(dir.path()).expect("begun");
        assert!(settings.is_none());
        let (second, _) = StateFile::open(dir.path()).expect("read");
        assert_eq!(first.instance(), second.instance());
        fs::write(dir.path().join("edge.state"), b"something else").expect("written");
        assert!(StateFile::open(dir.path()).is_err());
        assert_eq!(fs::read(dir.path().join("edge.state")).expect("read"), b"something else");
    }
}
