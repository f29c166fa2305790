//! Reading files of the store and the spool towards clients: large chunks, one in flight per reader, so that memory is
//! bounded by the number of readers. What the kernel has in memory is copied at once; only what must come from a disk is
//! waited for, on the blocking pool.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use rustix::io::{ReadWriteFlags, preadv2};

use crate::store::{blocking, read_at};

/// Bytes per read. Larger ones cost memory per reader and win little.
const CHUNK: usize = 128 * 1024;
/// Buffers that are kept for the next readers. To make one, and to clear it, costs half of what filling it does.
const SPARE: usize = 64;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Reads from `offset` at most to before `end`, at most one chunk. Empty at the end of the file.
pub(crate) async fn read_chunk(file: Arc<File>, offset: u64, end: u64) -> io::Result<Bytes> {
    // Made here, by one of the few threads that will free it, and not there: the allocator keeps memory per
    // thread, and there may be hundreds that block.
    let mut chunk = Chunk::of(usize::try_from(end - offset).unwrap_or(CHUNK).min(CHUNK));
    if let Some(read) = at_once(&file, offset, chunk.room()) {
        return Ok(chunk.filled(read));
    }
    blocking(move || {
        let read = read_at(&file, offset, chunk.room())?;
        Ok(chunk.filled(read))
    })
    .await
}

/// Reads what is in memory. `None` where nothing is, the file is at its end, or its file system can't say.
fn at_once(file: &File, offset: u64, room: &mut [u8]) -> Option<usize> {
    let read = preadv2(file, &mut [IoSliceMut::new(room)], offset, ReadWriteFlags::NOWAIT);
    read.ok().filter(|read| *read > 0)
}

/// Bytes of a file in a buffer that is used again.
struct Chunk {
    buffer: Vec<u8>,
    len: usize,
}

impl Chunk {
    fn of(len: usize) -> Chunk {
        // A small file costs no more than it has.
        let kept = (len > CHUNK / 2).then(|| BUFFERS.lock().pop().unwrap_or_else(|| vec![0; CHUNK]));
        Chunk { buffer: kept.unwrap_or_else(|| vec![0; len]), len }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.len]
    }

    fn filled(mut self, read: usize) -> Bytes {
        self.len = read;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut kept = BUFFERS.lock();
        if self.buffer.len() == CHUNK && kept.len() < SPARE {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// The bytes from `from` to before `to`. A file that is shorter is an error, never a clean end.
pub(crate) fn stream(file: Arc<File>, from: u64, to: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold((file, from), move |(file, offset)| async move {
        if offset >= to {
            return Ok(None);
        }
        let bytes = read_chunk(Arc::clone(&file), offset, to).await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let next = offset + bytes.len() as u64;
        Ok(Some((bytes, (file, next))))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures::TryStreamExt;

    use super::*;

    fn file(len: usize) -> (Arc<File>, Vec<u8>) {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("room");
        (Arc::new(file), bytes)
    }

    async fn read(file: &Arc<File>, from: usize, to: usize) -> io::Result<Vec<Bytes>> {
        stream(Arc::clone(file), from as u64, to as u64).try_collect().await
    }

    #[tokio::test]
    async fn what_comes_is_what_lies_there_whatever_a_buffer_held_before() {
        let (file, bytes) = file(3 * CHUNK + 1000);
        let end = bytes.len();
        for (from, to) in
            [(0, end), (1, end - 1), (CHUNK, 2 * CHUNK), (end - 900, end), (5, 5), (7, CHUNK - 9)]
        {
            let chunks = read(&file, from, to).await.expect("reads");
            assert!(chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            assert!(chunks.concat() == bytes[from..to], "{from} to {to}");
        }
        assert!(!BUFFERS.lock().is_empty(), "buffers are kept");
    }

    #[tokio::test]
    async fn what_is_shorter_than_promised_is_an_error() {
        let (file, bytes) = file(CHUNK + 10);
        let error = read(&file, 0, bytes.len() + 1).await.expect_err("it ends before");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn only_so_many_buffers_are_kept_and_no_small_ones() {
        drop((0..2 * SPARE).map(|_| Chunk::of(CHUNK)).collect::<Vec<_>>());
        assert!(BUFFERS.lock().len() <= SPARE);
        drop(Chunk::of(10));
        assert!(BUFFERS.lock().iter().all(|buffer| buffer.len() == CHUNK));
    }
}
