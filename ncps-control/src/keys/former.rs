//! The keys that signed before, beside the secret key: a line each with the public half and when it was retired, the
//! newest first. Their secret halves are gone.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ncps_nix::{PublicKey, SecretKey};
use ncps_proto::admin::FormerKey;
use ncps_runtime::clock::UnixTime;

use super::{KeyFileError, store, write_whole};

/// Where the secret key lies that is ours to replace, and what signed before it.
#[derive(Clone, Debug, Default)]
pub struct KeyPlace {
    /// `None` where the key's file was given, or nothing is signed.
    pub path: Option<PathBuf>,
    pub former: Vec<FormerKey>,
}

impl KeyPlace {
    /// Of the default file; `signing` is what it holds.
    pub(crate) fn load(path: &Path, signing: &PublicKey) -> Result<KeyPlace, KeyFileError> {
        let list = list(path);
        let failed = |source| KeyFileError::Io { action: "read", path: list.clone(), source };
        let text = match std::fs::read_to_string(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(failed)?,
        };
        let former: Option<Vec<FormerKey>> = text.lines().map(parse).collect();
        let malformed =
            || failed(io::Error::new(ErrorKind::InvalidData, "expected lines of KEY and SECONDS"));
        let mut former = former.ok_or_else(malformed)?;
        // A rotation that was cut short has listed the key that still signs.
        former.retain(|former| former.key != *signing);
        Ok(KeyPlace { path: Some(path.to_owned()), former })
    }
}

fn list(path: &Path) -> PathBuf {
    path.with_file_name("former-keys")
}

fn parse(line: &str) -> Option<FormerKey> {
    let (key, retired_at) = line.split_once(' ')?;
    Some(FormerKey { key: PublicKey::parse(key).ok()?, retired_at: retired_at.parse().ok()? })
}

/// Puts `new` in the place of the key at `path`. First the list, then the key: a crash in between retires nothing.
pub(crate) fn replace(path: &Path, new: &SecretKey, former: &[FormerKey]) -> io::Result<()> {
    let lines = former.iter().map(|former| format!("{} {}\n", former.key, former.retired_at));
    write_whole(&list(path), 0o644, lines.collect::<String>().as_bytes())?;
    store(path, new)
}

/// A name for the next key that none of `used` has: `host` becomes `host-2`, that one `host-3`.
pub(crate) fn next_name(current: &str, used: &[&str]) -> String {
    let counted = current.rsplit_once('-').and_then(|(stem, n)| Some((stem, n.parse::<u32>().ok()?)));
    let (stem, mut n) = counted.unwrap_or((current, 1));
    loop {
        n = n.saturating_add(1);
        let name = format!("{stem}-{n}");
        if !used.contains(&name.as_str()) {
            return name;
        }
    }
}

/// The list with the key that signed until now at its head.
pub(crate) fn retire(former: &[FormerKey], key: PublicKey, at: UnixTime) -> Vec<FormerKey> {
    let mut all = vec![FormerKey { key, retired_at: at.0 }];
    all.extend(former.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn key(name: &str) -> SecretKey {
        SecretKey::generate(name).expect("made")
    }

    #[test]
    fn names_count_up() {
        assert_eq!(next_name("host", &["host"]), "host-2");
        assert_eq!(next_name("host-2", &["host-2", "host"]), "host-3");
        assert_eq!(next_name("my-host", &["my-host", "my-host-2"]), "my-host-3");
    }

    #[test]
    fn a_rotation_is_found_again() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("secret.key");
        let (old, new) = (key("host"), key("host-2"));
        store(&path, &old).expect("written");
        let place = KeyPlace::load(&path, &old.public()).expect("reads");
        let former = retire(&place.former, old.public(), UnixTime(7));
        replace(&path, &new, &former).expect("written");
        assert_eq!(load(&path).expect("a key").public(), new.public());
        assert_eq!(KeyPlace::load(&path, &new.public()).expect("reads").former, former);
        // As after a crash between list and key.
        assert!(KeyPlace::load(&path, &old.public()).expect("reads").former.is_empty());
        std::fs::write(folder.path().join("former-keys"), "rubbish").expect("written");
        KeyPlace::load(&path, &new.public()).expect_err("a damaged list is no list");
    }
}
