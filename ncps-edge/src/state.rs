//! `<data>/edge.state`: who this edge is, and the last configuration that control said, so that a start without
//! control works the same. Mode 0600, since it holds what control trusts us with. Written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ncps_proto::{EdgeSettings, decode_settings, encode_settings};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;

/// The first line of the file.
const FORMAT: &str = "ncps edge.state 3";
/// One without the line of the time.
const UNTIMED: &str = "ncps edge.state 2";
/// One without the line of the index, too: it is the one of the settings.
const FORMER: &str = "ncps edge.state 1";
/// How exactly it is kept when control was heard last.
const EXACTLY: Duration = Duration::from_secs(3600);

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
    /// When control was heard last, to the hour.
    heard: Option<UnixTime>,
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
                let Parsed { instance, index, heard, settings } = parse(&bytes).ok_or_else(damaged)?;
                let encoded = settings.clone().map(encode_settings).unwrap_or_default();
                let kept = Kept { index, heard, settings: encoded };
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

    /// When control was heard last, to the hour. `None` where nobody wrote that down yet.
    pub fn heard(&self) -> Option<UnixTime> {
        self.kept.lock().heard
    }

    /// Whether it is kept already that control was heard now.
    pub fn is_heard(&self, now: UnixTime) -> bool {
        self.heard().is_some_and(|heard| now.since(heard) < EXACTLY)
    }

    /// Control was heard.
    pub fn note_heard(&self, now: UnixTime) -> io::Result<()> {
        let mut kept = self.kept.lock();
        // A clock that was set back makes nobody heard long ago.
        kept.heard = kept.heard.max(Some(now));
        self.write(&kept)
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
        let heard = kept.heard.map(|heard| heard.to_string()).unwrap_or_default();
        let index = kept.index.as_deref().unwrap_or_default();
        write!(file, "{FORMAT}\n{}\n{index}\n{heard}\n", self.instance)?;
        file.write_all(&kept.settings)?;
        file.sync_data()?;
        fs::rename(partial, &self.path)
    }
}

struct Parsed {
    instance: Arc<str>,
    index: Option<String>,
    heard: Option<UnixTime>,
    settings: Option<EdgeSettings>,
}

/// Four lines of text, then the settings as they travel; none where nothing follows.
fn parse(bytes: &[u8]) -> Option<Parsed> {
    let (format, rest) = line(bytes)?;
    let (instance, rest) = line(rest)?;
    let (index, rest) = if format == FORMER { ("", rest) } else { line(rest)? };
    let (heard, settings) = match format {
        FORMAT => line(rest)?,
        UNTIMED | FORMER => ("", rest),
        _ => return None,
    };
    let heard = if heard.is_empty() { None } else { Some(UnixTime(heard.parse().ok()?)) };
    let settings = if settings.is_empty() { None } else { Some(decode_settings(settings).ok()?) };
    let index = if format == FORMER { settings.as_ref()?.index_id.clone() } else { index.to_owned() };
    let index = Some(index).filter(|index| !index.is_empty());
    Some(Parsed { instance: instance.into(), index, heard, settings })
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
    fn when_control_was_heard_outlives_the_process_and_no_clock_makes_it_less() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (state, _) = StateFile::open(dir.path()).expect("begun");
        assert!(state.heard().is_none() && !state.is_heard(UnixTime(0)));
        state.note_heard(UnixTime(10_000)).expect("written");
        let (state, _) = StateFile::open(dir.path()).expect("read");
        assert_eq!(state.heard(), Some(UnixTime(10_000)));
        assert!(state.is_heard(UnixTime(13_599)) && !state.is_heard(UnixTime(13_600)));
        state.note_heard(UnixTime(50)).expect("written");
        assert_eq!(state.heard(), Some(UnixTime(10_000)));
    }

    #[test]
    fn former_formats_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = encode_settings(EdgeSettings {
            index_id: "one".to_owned(),
            ..decode_settings(&[]).expect("what is not said has defaults")
        });
        for (head, index) in [("ncps edge.state 1\nme\n", "one"), ("ncps edge.state 2\nme\nother\n", "other")]
        {
            fs::write(dir.path().join("edge.state"), [head.as_bytes(), &settings].concat()).expect("written");
            let (state, saved) = StateFile::open(dir.path()).expect("read");
            assert_eq!(
                (state.instance(), state.index().as_deref(), state.heard()),
                ("me", Some(index), None)
            );
            assert_eq!(saved.expect("it has some").index_id, "one");
        }
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
