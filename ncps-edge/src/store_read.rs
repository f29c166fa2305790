//! Reading files of the store and the spool towards clients: large chunks on the blocking pool, one in flight
//! per reader, so that memory is bounded by the number of readers.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;

use crate::store::{blocking, read_at};

/// Bytes per read. Larger ones cost memory per reader and win little.
const CHUNK: u64 = 128 * 1024;

/// Reads from `offset` at most to before `end`, at most one chunk. Empty at the end of the file.
pub(crate) async fn read_chunk(file: Arc<File>, offset: u64, end: u64) -> io::Result<Bytes> {
    let len = usize::try_from((end - offset).min(CHUNK)).unwrap_or(usize::MAX);
    // Made here, by one of the few threads that will free it, and not there: the allocator keeps memory per
    // thread, and there may be hundreds that block.
    let mut bytes = vec![0; len];
    blocking(move || {
        let read = read_at(&file, offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes.into())
    })
    .await
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
