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
const FORMAT: &str = "ncps edge.state 1";

/// The file, and what of it never changes.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    instance: Arc<str>,
    /// Who writes it.
    turn: Arc<Mutex<()>>,
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
                let (instance, settings) = parse(&bytes).ok_or_else(damaged)?;
                Ok((StateFile { path, instance, turn: Arc::default() }, settings))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = StateFile { path, instance: new_instance()?, turn: Arc::default() };
                state.write(&[])?;
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
        let _turn = self.turn.lock();
        newest().map_or(Ok(()), |settings| self.write(&encode_settings(settings)))
    }

    fn write(&self, settings: &[u8]) -> io::Result<()> {
        let partial = self.path.with_extension("state.part");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        write!(file, "{FORMAT}\n{}\n", self.instance)?;
        file.write_all(settings)?;
        file.sync_data()?;
        fs::rename(partial, &self.path)
    }
}

/// Two lines of text, then the settings as they travel; none where nothing follows.
fn parse(bytes: &[u8]) -> Option<(Arc<str>, Option<EdgeSettings>)> {
    let mut parts = bytes.splitn(3, |b| *b == b'\n');
    let (format, instance, settings) = (parts.next()?, parts.next()?, parts.next()?);
    if format != FORMAT.as_bytes() {
        return None;
    }
    let instance = std::str::from_utf8(instance).ok()?.into();
    if settings.is_empty() {
        return Some((instance, None));
    }
    Some((instance, Some(decode_settings(settings).ok()?)))
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
