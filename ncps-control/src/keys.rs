//! The file of the secret key, in Nix's format (`name:base64`): read, and made where the default one is
//! missing. The key is never logged, and leaves this module only as a [`SecretKey`].

mod former;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ncps_nix::{KeyError, PublicKey, SecretKey};
use zeroize::Zeroizing;

pub use former::KeyPlace;
pub(crate) use former::{next_name, replace, retire};

/// Far more than a key file has, so that a wrong path is noticed and not read.
const MAX_BYTES: u64 = 4096;
const WORLD_READABLE: u32 = 0o004;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A path that was given leads to nothing.
    #[error("--cache-secret-key-path {0}: there is no such file, and none is made where a path is given")]
    Missing(PathBuf),
    /// What lies there is no key.
    #[error(
        "{path} holds no secret key in Nix's format (`name:base64`, see nix-store --generate-binary-cache-key)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the text.
        source: KeyError,
    },
    /// Ours is not the other cache's.
    #[error(
        "{path} holds the key {ours}, not {theirs} of the cache that is imported, which its clients trust, and was left \
         as it is: move it away to go on with {theirs}, or say which one counts with --cache-secret-key-path"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// The public key of what it holds.
        ours: Box<PublicKey>,
        /// The other cache's.
        theirs: Box<PublicKey>,
    },
    /// A new key could not be made.
    #[error("a key named {name} can't be generated")]
    Generate {
        /// Its name: the cache's host name.
        name: String,
        /// Why.
        source: KeyError,
    },
    /// The file system.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Reads the key at a path that was given.
pub(crate) fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    read(path)?.ok_or_else(|| KeyFileError::Missing(path.to_owned()))
}

/// Reads the key at the default path, or makes one named `name` there.
pub(crate) fn load_or_generate(path: &Path, name: &str) -> Result<SecretKey, KeyFileError> {
    match read(path)? {
        Some(key) => {
            if key.name() != name {
                tracing::info!(key = key.name(), hostname = name, "the signing key keeps its former name");
            }
            Ok(key)
        }
        None => generate(path, name),
    }
}

/// Makes another cache's key ours, where we have none or the same.
pub(crate) fn take_over(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    match read(path)? {
        Some(ours) if ours.public() == key.public() => Ok(()),
        Some(ours) => Err(KeyFileError::Other {
            path: path.to_owned(),
            ours: Box::new(ours.public()),
            theirs: Box::new(key.public()),
        }),
        None => store(path, key).map_err(|source| KeyFileError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        }),
    }
}

fn read(path: &Path) -> Result<Option<SecretKey>, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & WORLD_READABLE != 0 {
        tracing::warn!(path = %path.display(), "every user of this machine can read the secret key: chmod 600 it");
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_BYTES).unwrap_or(0)));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    let malformed = |source| KeyFileError::Malformed { path: path.to_owned(), source };
    SecretKey::parse(&text).map(Some).map_err(malformed)
}

fn generate(path: &Path, name: &str) -> Result<SecretKey, KeyFileError> {
    let failed = |source| KeyFileError::Generate { name: name.to_owned(), source };
    let key = SecretKey::generate(name).map_err(failed)?;
    store(path, &key).map_err(|source| KeyFileError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    tracing::info!(path = %path.display(), public_key = %key.public(), "made a new signing key");
    Ok(key)
}

/// All of it or nothing: a crash can't leave half a key, nor one that others may read.
fn store(path: &Path, key: &SecretKey) -> io::Result<()> {
    let text = key.to_text();
    let mut line = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    write_whole(path, 0o600, &line)
}

/// The same of any file beside it.
fn write_whole(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    remove_if_there(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let folder = path.parent().ok_or_else(|| io::Error::other("the file has no folder"))?;
    File::open(folder)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn a_missing_default_is_made_once_and_kept() {
        let folder = folder();
        let path = folder.path().join("secret.key");
        let made = load_or_generate(&path, "cache.example").expect("made");
        assert_eq!(made.name(), "cache.example");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let read = load_or_generate(&path, "renamed.example").expect("read");
        assert_eq!(read.public(), made.public(), "the host's new name changes no key");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_crash_while_writing_leaves_nothing_in_the_way() {
        let folder = folder();
        let path = folder.path().join("secret.key");
        std::fs::write(folder.path().join("secret.key.new"), "cache.ex").expect("written");
        load_or_generate(&path, "cache.example").expect("made");
        load(&path).expect("whole");
    }

    #[test]
    fn a_missing_path_that_was_given_is_an_error() {
        let path = folder().path().join("absent");
        let error = load(&path).expect_err("missing");
        assert!(matches!(&error, KeyFileError::Missing(at) if *at == path), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn nixs_own_files_are_read() {
        let folder = folder();
        let path = folder.path().join("key");
        let key = SecretKey::generate("n").expect("made");
        std::fs::write(&path, key.to_text().as_bytes()).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("set");
        assert_eq!(load(&path).expect("no newline, group readable").public(), key.public());
    }

    #[test]
    fn other_texts_are_refused_and_never_quoted() {
        let folder = folder();
        let path = folder.path().join("secret.key");
        let key = SecretKey::generate("n").expect("made").to_text();
        for bad in ["", "n:AAAA", &key[..key.len() - 8], "not a key", &"x".repeat(10_000)] {
            std::fs::write(&path, bad).expect("written");
            let error = load_or_generate(&path, "n").expect_err("refused");
            let story = format!("{error} {:?}", std::error::Error::source(&error));
            assert!(bad.len() < 6 || !story.contains(&bad[2..]), "{story}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), bad, "left as it was");
        }
    }
}
