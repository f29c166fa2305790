//! An object while it comes: in memory up to a bound, beyond it in a spool file, so that many at once cost
//! little memory. It is checked here before anybody sees it.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::IgnoredAny;
use tokio::io::AsyncReadExt;

use super::decode::{Decoded, trouble};
use crate::store::{LocalStore, Spool, blocking, read_at};
use crate::upstream::UpstreamError;

/// Bytes in memory per object.
const IN_MEMORY: usize = 1 << 20;
const CHUNK: usize = 64 << 10;

/// Why an object could not be taken in.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The next upstream may do better.
    Upstream(UpstreamError),
    /// Our own disk: no upstream can help.
    Disk(io::Error),
}

/// A whole object.
pub(super) enum Taken {
    Memory(Bytes),
    Spooled(Spool, u64),
}

/// Reads a body to its end, `limit` bytes at most.
pub(super) async fn take(mut body: Decoded, limit: u64, store: &Arc<LocalStore>) -> Result<Taken, Trouble> {
    let mut memory = Vec::new();
    let mut spooled: Option<(Spool, u64)> = None;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let n = body.read_buf(&mut chunk).await.map_err(|e| Trouble::Upstream(trouble(&e)))?;
        let so_far = spooled.as_ref().map_or(0, |(_, len)| *len) + memory.len() as u64;
        if so_far + n as u64 > limit {
            return Err(Trouble::Upstream(UpstreamError::TooMuch));
        }
        memory.append(&mut chunk);
        if memory.len() > IN_MEMORY || (n == 0 && spooled.is_some()) {
            spooled = Some(spill(spooled, std::mem::take(&mut memory), store).await.map_err(Trouble::Disk)?);
        }
        if n == 0 {
            return Ok(match spooled {
                Some((spool, len)) => Taken::Spooled(spool, len),
                None => Taken::Memory(memory.into()),
            });
        }
    }
}

async fn spill(
    spooled: Option<(Spool, u64)>,
    bytes: Vec<u8>,
    store: &Arc<LocalStore>,
) -> io::Result<(Spool, u64)> {
    let store = Arc::clone(store);
    blocking(move || {
        let (spool, len) = match spooled {
            Some(spooled) => spooled,
            None => (store.begin(None)?, 0),
        };
        spool.file().write_all_at(&bytes, len)?;
        Ok((spool, len + bytes.len() as u64))
    })
    .await
}

impl Taken {
    /// Whether this is one JSON object.
    pub(super) async fn is_json(&self) -> bool {
        match self {
            Taken::Memory(bytes) => {
                begins_object(bytes) && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
            }
            Taken::Spooled(spool, len) => {
                let (file, len) = (spool.file(), *len);
                blocking(move || Ok(file_is_json(&file, len))).await.unwrap_or(false)
            }
        }
    }
}

pub(crate) fn file_is_json(file: &Arc<File>, len: u64) -> bool {
    let mut head = [0; 64];
    let read = read_at(file, 0, &mut head).unwrap_or_default();
    let reader = BufReader::with_capacity(CHUNK, FileReader { file: Arc::clone(file), at: 0, len });
    begins_object(&head[..read]) && serde_json::from_reader::<_, IgnoredAny>(reader).is_ok()
}

fn begins_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

/// The file from its beginning, wherever its writers have its own position.
struct FileReader {
    file: Arc<File>,
    at: u64,
    len: u64,
}

impl io::Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Arc<LocalStore>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = LocalStore::open_at(dir.path(), 10).expect("opened");
        (dir, Arc::new(store))
    }

    fn json(len: usize) -> Vec<u8> {
        let mut text = b"{\"root\": \"".to_vec();
        text.resize(len - 2, b'a');
        text.extend_from_slice(b"\"}");
        text
    }

    async fn taken(bytes: &[u8], limit: u64, store: &Arc<LocalStore>) -> Result<Taken, Trouble> {
        take(Box::pin(io::Cursor::new(bytes.to_vec())), limit, store).await
    }

    #[tokio::test]
    async fn small_ones_stay_in_memory_and_large_ones_on_the_disk() {
        let (_dir, store) = store();
        for len in [100, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 7] {
            let bytes = json(len);
            let taken = taken(&bytes, 1 << 30, &store).await.expect("taken");
            assert!(taken.is_json().await, "{len}");
            match taken {
                Taken::Memory(got) => assert!(len <= IN_MEMORY && got == bytes),
                Taken::Spooled(spool, got) => {
                    assert_eq!((len > IN_MEMORY, got), (true, len as u64));
                    let mut read = vec![0; len + 1];
                    let n = read_at(&spool.file(), 0, &mut read).expect("read");
                    assert!(read[..n] == bytes);
                }
            }
        }
        assert_eq!(store.spool_files().expect("listed"), 0);
    }

    #[tokio::test]
    async fn too_much_is_refused() {
        let (_dir, store) = store();
        let refused = taken(&json(1001), 1000, &store).await;
        assert!(matches!(refused, Err(Trouble::Upstream(UpstreamError::TooMuch))));
        assert!(taken(&json(1000), 1000, &store).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_json_object_is_told() {
        let (_dir, store) = store();
        let long = [json(2 * IN_MEMORY), b"x".to_vec()].concat();
        for text in [&b"<html>"[..], b"", b"[]", b"{", b"{} {}", b"\"x\"", &long] {
            let taken = taken(text, 1 << 30, &store).await.expect("taken");
            assert!(!taken.is_json().await);
        }
    }
}
