//! A body that can be read at any offset: bytes in memory, content made on the fly, or a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ncps_nix::Sha256Hash;
use sha2::{Digest, Sha256};

use crate::noise::Noise;

/// How much is read at once where somebody goes through a whole body.
pub(crate) const STEP: usize = 256 << 10;

/// What a server can serve and a client can upload. Clones are cheap and share the content.
#[derive(Debug, Clone)]
pub struct Body(Source);

#[derive(Debug, Clone)]
enum Source {
    Bytes(Bytes),
    /// Noise with something before and after it: a NAR around one big file.
    Made {
        head: Bytes,
        noise: Noise,
        tail: Bytes,
    },
    File {
        file: Arc<File>,
        len: u64,
    },
}

impl Body {
    pub(crate) const fn made(head: Bytes, noise: Noise, tail: Bytes) -> Self {
        Self(Source::Made { head, noise, tail })
    }

    /// The content of a file, which must not change while it is served.
    ///
    /// # Errors
    /// What opening it and asking for its size gave.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self(Source::File { file: Arc::new(file), len: metadata.len() }))
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Made { head, noise, tail } => head.len() as u64 + noise.len() + tail.len() as u64,
            Source::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `max` bytes from `offset` on; fewer only at the end.
    ///
    /// # Panics
    /// If the file behind the body can't be read.
    pub fn read(&self, offset: u64, max: usize) -> Bytes {
        let max = self.len().saturating_sub(offset).min(max as u64) as usize;
        match &self.0 {
            Source::Bytes(bytes) if max == 0 => bytes.slice(..0),
            Source::Bytes(bytes) => bytes.slice(offset as usize..offset as usize + max),
            Source::Made { head, noise, tail } => read_made(head, noise, tail, offset, max).into(),
            Source::File { file, .. } => {
                let mut out = vec![0; max];
                file.read_exact_at(&mut out, offset).expect("a served file stays as it is");
                out.into()
            }
        }
    }

    /// All of it in memory: not for the huge ones.
    pub fn to_bytes(&self) -> Bytes {
        let len = usize::try_from(self.len()).expect("what is asked for whole fits in memory");
        self.read(0, len)
    }

    /// The sha256 of all of it, read in steps.
    pub fn sha256(&self) -> Sha256Hash {
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < self.len() {
            let bytes = self.read(offset, STEP);
            hasher.update(&bytes);
            offset += bytes.len() as u64;
        }
        Sha256Hash::from_bytes(hasher.finalize().into())
    }
}

fn read_made(head: &[u8], noise: &Noise, tail: &[u8], offset: u64, max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(max);
    while out.len() < max {
        let at = offset + out.len() as u64;
        let left = max - out.len();
        if let Some(rest) = part(head, at) {
            out.extend_from_slice(&rest[..rest.len().min(left)]);
        } else if at < head.len() as u64 + noise.len() {
            noise.append(at - head.len() as u64, left, &mut out);
        } else {
            let rest = part(tail, at - head.len() as u64 - noise.len()).expect("max ends with the tail");
            out.extend_from_slice(&rest[..rest.len().min(left)]);
        }
    }
    out
}

/// What of `bytes` lies from `at` on, if anything does.
fn part(bytes: &[u8], at: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(at).ok()?..).filter(|rest| !rest.is_empty())
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Source::Bytes(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::noise::Look;

    #[test]
    fn every_kind_reads_alike() {
        let made = Body::made("head".into(), Noise::new(1, 200_000, Look::Random), "tail".into());
        let bytes = Body::from(made.to_bytes());
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&made.to_bytes()).expect("room for it");
        let file = Body::file(file.path()).expect("it can be opened");
        for body in [&made, &bytes, &file] {
            assert_eq!(body.len(), 200_008);
            assert_eq!(body.sha256(), Sha256Hash::of(&made.to_bytes()));
            assert_eq!(body.read(2, 10), made.to_bytes().slice(2..12));
            assert_eq!(body.read(200_002, 100), made.to_bytes().slice(200_002..));
            assert_eq!(&body.read(200_004, 4)[..], b"tail");
            assert!(body.read(200_008, 1).is_empty());
            assert!(body.read(300_000, 1).is_empty());
        }
    }
}
