//! What a stored file really is: its hash against its name, and what it decodes to. Blocking; on a thread for that.

use std::cell::RefCell;
use std::fs::Metadata;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ncps_nix::{Compression, FileHash, NarFileName, NarHash, Sha256Hash, nar};
use ncps_proto::NarFacts;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use crate::store::{LocalStore, Unhurried};
use crate::transfer::decoder;

const CHUNK: usize = 128 * 1024;
/// A pause is slept in pieces, so that a job that is called off ends soon.
const NAP: Duration = Duration::from_millis(100);

/// What a file turned out to be.
#[derive(Debug)]
pub(super) enum Finding {
    /// What its name says. `nar` as far as it was asked for and could be found.
    Right {
        size: u64,
        nar: Option<NarFacts>,
        reason: String,
    },
    Wrong {
        seen: Metadata,
        reason: String,
    },
    /// The disk does not give its bytes.
    Unreadable {
        seen: Metadata,
        reason: String,
    },
    /// Not in the store, any more.
    Missing,
}

/// How files are looked at.
pub(super) struct Look {
    pub(super) store: Arc<LocalStore>,
    /// Decodes compressed files, too.
    pub(super) deep: bool,
    pub(super) pace: Pace,
    /// Bytes that were read.
    pub(super) read: Arc<AtomicU64>,
    pub(super) stop: CancellationToken,
}

impl Look {
    /// Reads a file from end to end.
    ///
    /// # Errors
    /// Where the file can't even be opened, or the job was called off.
    pub(super) fn at(&mut self, name: NarFileName) -> io::Result<Finding> {
        let Some(file) = self.store.open_unhurried(name)? else { return Ok(Finding::Missing) };
        let seen = file.metadata()?;
        let decodes = self.deep && name.compression != Compression::None;
        let source = RefCell::new(Source { file, hasher: Sha256::new(), size: 0, failure: None, look: self });
        let decoded = decodes.then(|| decode(name.compression, &source));
        let drained = drain(&source);
        let source = source.into_inner();
        if source.look.stop.is_cancelled() {
            return Err(called_off());
        }
        if let Some(error) = source.failure.or(drained.err()) {
            return Ok(Finding::Unreadable { seen, reason: error.to_string() });
        }
        let hash = Sha256Hash::from_bytes(source.hasher.finalize().into());
        Ok(judge(name, hash, source.size, decoded, seen))
    }
}

fn judge(
    name: NarFileName,
    hash: Sha256Hash,
    size: u64,
    decoded: Option<io::Result<NarFacts>>,
    seen: Metadata,
) -> Finding {
    if FileHash(hash) != name.hash {
        let reason = format!("its {size} bytes have the hash {}", hash.nix32());
        return Finding::Wrong { seen, reason };
    }
    match decoded {
        _ if name.compression == Compression::None => {
            let nar = Some(NarFacts { hash: NarHash(hash), size });
            Finding::Right { size, nar, reason: String::new() }
        }
        None => Finding::Right { size, nar: None, reason: String::new() },
        Some(Ok(nar)) => Finding::Right { size, nar: Some(nar), reason: String::new() },
        Some(Err(error)) => {
            Finding::Right { size, nar: None, reason: format!("it does not decode: {error}") }
        }
    }
}

fn called_off() -> io::Error {
    io::Error::other("the job was called off")
}

/// The bytes of the file on their way, hashed and counted as they pass.
struct Source<'l> {
    file: Unhurried,
    hasher: Sha256,
    size: u64,
    /// The disk's, which a decoder would report as its own.
    failure: Option<io::Error>,
    look: &'l mut Look,
}

impl Source<'_> {
    fn next(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(bytes).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failure = Some(error);
            told
        })?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        self.look.read.fetch_add(n as u64, Ordering::Relaxed);
        self.look.rest(n as u64)?;
        Ok(n)
    }
}

impl Look {
    /// Keeps to the pace.
    fn rest(&mut self, bytes: u64) -> io::Result<()> {
        let mut pause = self.pace.read(bytes, Instant::now());
        loop {
            if self.stop.is_cancelled() {
                return Err(called_off());
            }
            if pause.is_zero() {
                return Ok(());
            }
            std::thread::sleep(pause.min(NAP));
            pause = pause.saturating_sub(NAP);
        }
    }
}

/// One end of the source, for a decoder to own.
struct Share<'s, 'l>(&'s RefCell<Source<'l>>);

impl Read for Share<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().next(bytes)
    }
}

fn decode(compression: Compression, source: &RefCell<Source<'_>>) -> io::Result<NarFacts> {
    let mut decoder = decoder(compression, Share(source))?;
    let (mut hasher, mut chunk) = (nar::Hasher::new(), vec![0; CHUNK]);
    loop {
        let n = decoder.read(&mut chunk)?;
        if n == 0 {
            let (hash, size) = hasher.finish();
            return Ok(NarFacts { hash, size });
        }
        hasher.update(&chunk[..n]);
    }
}

/// What a decoder left, or all of it.
fn drain(source: &RefCell<Source<'_>>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut source = source.borrow_mut();
    while source.failure.is_none() && source.next(&mut chunk)? > 0 {}
    Ok(())
}
