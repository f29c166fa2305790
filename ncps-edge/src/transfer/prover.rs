//! The proof of a compressed file's NAR: a blocking thread tails the spool, decodes what is there, and tells at
//! the end what it decodes to.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use ncps_nix::Compression;
use ncps_nix::nar::{self, Validator};
use ncps_proto::NarFacts;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::decode::decoder;
use super::progress::{End, Progress};
use super::slots::Slot;
use crate::store::read_at;

const CHUNK: usize = 128 * 1024;

/// A running proof. Dropped, it stops.
pub(super) struct Prover {
    result: JoinHandle<io::Result<NarFacts>>,
    stop: CancellationToken,
}

/// What is proven, and against what it is bounded.
pub(super) struct Exhibit {
    pub(super) file: Arc<File>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) compression: Compression,
    /// More decoded bytes than this are a failure, found without decoding the rest.
    pub(super) max_size: u64,
    /// It has to be a NAR, whatever its hash is: nobody has signed that.
    pub(super) is_nar: bool,
}

impl Prover {
    pub(super) fn start(exhibit: Exhibit, slots: Arc<Semaphore>) -> Prover {
        let stop = CancellationToken::new();
        let slot = Slot::new(slots, Handle::current());
        let tail =
            Tail { file: exhibit.file, progress: exhibit.progress, offset: 0, slot, stop: stop.clone() };
        let (compression, max_size) = (exhibit.compression, exhibit.max_size);
        let validator = exhibit.is_nar.then(Validator::new);
        let result = tokio::task::spawn_blocking(move || prove_as(tail, compression, max_size, validator));
        Prover { result, stop }
    }

    /// Whether it has come to its end: before that of the download it has failed.
    pub(super) fn has_ended(&self) -> bool {
        self.result.is_finished()
    }

    /// What the file decodes to; an error where it does not.
    pub(super) async fn facts(mut self) -> io::Result<NarFacts> {
        (&mut self.result).await.map_err(io::Error::other)?
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a source decodes to; an error where it does not, or to more than `max_size` bytes.
pub(crate) fn prove(
    source: impl Read + 'static,
    compression: Compression,
    max_size: u64,
) -> io::Result<NarFacts> {
    prove_as(source, compression, max_size, None)
}

fn prove_as(
    source: impl Read + 'static,
    compression: Compression,
    max_size: u64,
    mut validator: Option<Validator>,
) -> io::Result<NarFacts> {
    let mut decoder = decoder(compression, source)?;
    let mut hasher = nar::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = decoder.read(&mut chunk)?;
        if n == 0 {
            validator.map_or(Ok(()), Validator::finish).map_err(io::Error::other)?;
            let (hash, size) = hasher.finish();
            return Ok(NarFacts { hash, size });
        }
        hasher.update(&chunk[..n]);
        if hasher.bytes() > max_size {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it decodes to more bytes than it may"));
        }
        if let Some(validator) = &mut validator {
            validator.push(&chunk[..n]).map_err(io::Error::other)?;
        }
    }
}

/// The spool as a reader that waits for its writer.
struct Tail {
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    offset: u64,
    slot: Slot,
    stop: CancellationToken,
}

impl Tail {
    /// Bytes that are there after the offset; 0 at the end of the download.
    fn available(&mut self) -> io::Result<u64> {
        let offset = self.offset;
        let at_rest = |p: &Progress| p.written > offset || p.downloaded || p.end.is_some();
        if !at_rest(&self.progress.borrow()) {
            let (stop, progress) = (self.stop.clone(), &mut self.progress);
            self.slot.wait(async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = progress.wait_for(at_rest) => {}
                }
            });
        }
        let progress = self.progress.borrow();
        match &progress.end {
            _ if self.stop.is_cancelled() => Err(io::Error::other("the proof was called off")),
            Some(End::Failed(failure)) => Err(io::Error::other(failure.to_string())),
            _ => Ok(progress.written.saturating_sub(offset)),
        }
    }
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.available()?;
        self.slot.take();
        let len = usize::try_from(available).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_at(&self.file, self.offset, &mut buffer[..len])?;
        self.offset += read as u64;
        Ok(read)
    }
}
