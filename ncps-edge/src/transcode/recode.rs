//! One NAR file made of another one, on a thread of its own that rests as long as it worked while clients download:
//! priorities are nothing that a service may change under the usual sandbox (systemd's `~@resources`).
//!
//! What was made is read again and decoded before it counts: whatever the codecs do, it is the NAR that was signed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ncps_nix::{Compression, FileHash, NarFileName, Sha256Hash};
use ncps_proto::NarFacts;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::store::read_at;
use crate::transfer::{Encoding, decoder, encoder, prove};

const CHUNK: usize = 128 * 1024;
/// The machine may have stood still.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// What is to become what.
pub(super) struct Recoding {
    pub(super) from: Arc<File>,
    pub(super) compression: Compression,
    /// What it must decode to.
    pub(super) nar: NarFacts,
    pub(super) level: i32,
    pub(super) into: Arc<File>,
    pub(super) stop: CancellationToken,
    /// Whether clients download now.
    pub(super) is_busy: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// A file that was made, and proven.
pub(super) struct Made {
    pub(super) name: NarFileName,
    pub(super) file_size: u64,
}

/// How it went, and what it took of the processor.
pub(super) struct Recoded {
    pub(super) made: io::Result<Made>,
    pub(super) cpu: Duration,
}

impl Recoding {
    /// Does it, on a new thread.
    pub(super) async fn run(self) -> Recoded {
        let (tell, told) = oneshot::channel();
        let work = move || {
            let made = self.make();
            tell.send(Recoded { made, cpu: thread_cpu() }).ok();
        };
        let failed = |error| Recoded { made: Err(error), cpu: Duration::ZERO };
        match std::thread::Builder::new().name("transcode".to_owned()).spawn(work) {
            Ok(_) => told.await.unwrap_or_else(|_| failed(io::Error::other("the codec panicked"))),
            Err(error) => failed(error),
        }
    }

    fn make(&self) -> io::Result<Made> {
        let nar = decoder(self.compression, self.read(&self.from))?;
        let mut zstd = encoder(nar, Encoding { level: self.level, nar_size: self.nar.size })?;
        let written = Written { file: &self.into, hasher: Sha256::new(), bytes: 0 };
        let mut written = BufWriter::with_capacity(CHUNK, written);
        io::copy(&mut zstd, &mut written)?;
        let written = written.into_inner().map_err(io::IntoInnerError::into_error)?;
        let hash = FileHash(Sha256Hash::from_bytes(written.hasher.finalize().into()));
        if prove(self.read(&self.into), Compression::Zstd, self.nar.size)? != self.nar {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is another NAR than was signed"));
        }
        Ok(Made { name: NarFileName { hash, compression: Compression::Zstd }, file_size: written.bytes })
    }

    fn read(&self, file: &Arc<File>) -> Reading {
        let (stop, is_busy) = (self.stop.clone(), Arc::clone(&self.is_busy));
        Reading { file: Arc::clone(file), offset: 0, stop, is_busy, working: Instant::now() }
    }
}

/// A file from its beginning, as long as the edge is not stopping, and slowly while it is busy.
struct Reading {
    file: Arc<File>,
    offset: u64,
    stop: CancellationToken,
    is_busy: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Since when what was read last is worked on.
    working: Instant,
}

impl Reading {
    fn rest(&mut self) {
        if (self.is_busy)() {
            std::thread::sleep(self.working.elapsed().min(LONGEST_REST));
        }
        self.working = Instant::now();
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the edge is stopping"));
        }
        self.rest();
        let read = read_at(&self.file, self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

struct Written<'r> {
    file: &'r File,
    hasher: Sha256,
    bytes: u64,
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn thread_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec.unsigned_abs() as u32)
}
