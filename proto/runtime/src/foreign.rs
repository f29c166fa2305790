//! Whether a data path is that of the Go original, whose files mean other things under the same names. Only
//! looks; what it finds is left untouched.
//!
//! Here, since both planes write into a data path. Absent: the original's database, which control recognises.

use std::fs;
use std::path::{Path, PathBuf};

/// A data path of the Go original's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{data} is a data path of the Go ncps ({evidence} is its) and was left untouched: take it over with \
     `ncps import --in-place --cache-data-path={data}`, or choose another --cache-data-path and import it there with \
     `ncps import --from={data}`"
)]
pub struct GoDataPath {
    /// The data path.
    pub data: PathBuf,
    /// What gave it away.
    pub evidence: PathBuf,
}

/// Call it before anything is written there.
///
/// # Errors
/// Where the data path is the Go original's.
pub fn refuse_go_data(data: &Path) -> Result<(), GoDataPath> {
    match go_evidence(data) {
        Some(evidence) => Err(GoDataPath { data: data.to_owned(), evidence }),
        None => Ok(()),
    }
}

/// What in this data path is the Go original's, if anything.
pub fn go_evidence(data: &Path) -> Option<PathBuf> {
    let certain = [data.join("store/narinfo"), data.join("config/cache.key")];
    certain.into_iter().find(|path| path.exists()).or_else(|| sharded_nars(&data.join("store/nar")))
}

/// `store/nar/<c>/<cc>/`: we keep NAR files side by side.
fn sharded_nars(nars: &Path) -> Option<PathBuf> {
    let first = subfolders(nars, 1).find(|shard| subfolders(shard, 2).next().is_some())?;
    subfolders(&first, 2).next()
}

/// Folders whose names have this length. What can't be read is no evidence.
fn subfolders(folder: &Path, name_length: usize) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().len() == name_length && entry.path().is_dir())
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(make: impl Fn(&Path)) -> Option<String> {
        let data = tempfile::tempdir().expect("a directory");
        make(data.path());
        let found = go_evidence(data.path())?;
        Some(found.strip_prefix(data.path()).expect("inside").display().to_string())
    }

    fn folder(name: &'static str) -> impl Fn(&Path) {
        move |data| fs::create_dir_all(data.join(name)).expect("made")
    }

    #[test]
    fn the_originals_layouts_are_recognised() {
        assert_eq!(evidence(folder("store/narinfo/1")).as_deref(), Some("store/narinfo"));
        assert_eq!(evidence(folder("store/nar/1/1b")).as_deref(), Some("store/nar/1/1b"));
        let key = |data: &Path| {
            folder("config")(data);
            fs::write(data.join("config/cache.key"), "key").expect("written");
        };
        assert_eq!(evidence(key).as_deref(), Some("config/cache.key"));
    }

    #[test]
    fn our_own_and_nothing_are_not() {
        assert_eq!(evidence(|_| ()), None);
        assert_eq!(evidence(folder("store/nar")), None);
        let ours = |data: &Path| {
            folder("store/nar")(data);
            fs::write(data.join("store/nar/0000.nar.xz"), "nar").expect("written");
            fs::write(data.join("store/1111.narinfo"), "narinfo").expect("written");
        };
        assert_eq!(evidence(ours), None);
    }
}
