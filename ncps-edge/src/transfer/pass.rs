//! A reader without a spool: the disk has no room, so its bytes come straight from a source and nothing is kept.
//! What the transfer had spooled before the disk was full is read from there first, and hashed, so that the proof
//! covers the whole file.
//!
//! Held back are the last 64 KiB until the file is proven: by its file hash, and for zstd by decoding as it
//! streams, too (an uncompressed file is its NAR; xz and bzip2 would cost a core per reader).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use ncps_nix::{Compression, FileHash, Sha256Hash, nar};
use ncps_proto::{Code, Error, NarFacts};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::decode::zstd_writer;
use super::download::{BATCH, Trouble, agreed_length, incompressible, open, past, until_broken};
use super::engine::Engine;
use super::fetch::{delay, may_pass};
use super::plan::Source;
use super::progress::{Failure, HOLD_BACK, Rest};
use crate::store::blocking;
use crate::store_read::read_chunk;
use crate::upstream::UpstreamError;

type Chunks = BoxStream<'static, Vec<Result<Bytes, UpstreamError>>>;

/// What was spooled of the file before the disk was full.
#[derive(Clone)]
pub(super) struct Prefix {
    pub(super) file: Arc<File>,
    /// In bytes.
    pub(super) len: u64,
}

/// One reader's own way to a file.
pub(super) struct Pass {
    engine: Arc<Engine>,
    rest: Arc<Rest>,
    prefix: Option<Prefix>,
    /// The first byte that the reader wants.
    start: u64,
    /// The reader has the bytes before it from the same body: no other file may follow them.
    given: bool,
    /// Of the whole file, where it is promised.
    length: Option<u64>,
    proof: Option<Proof>,
    /// Bytes that went into the proof.
    hashed: u64,
    /// Those of them that the reader may get later, and the place of the first.
    held: VecDeque<Bytes>,
    emitted: u64,
    proven: bool,
    /// The source that is being read, and how many bytes of it are known already.
    body: Option<(Chunks, u64)>,
    /// The next source to be opened.
    next: usize,
    tried_again: bool,
    mixed: bool,
    failure: Option<UpstreamError>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Pass {
    /// From byte `start` on. `length` is what was promised so far; `given`, whether this body has the bytes before.
    pub(super) fn new(
        engine: Arc<Engine>,
        rest: Arc<Rest>,
        prefix: Option<Prefix>,
        length: Option<u64>,
        start: u64,
        given: bool,
    ) -> Result<Pass, Error> {
        engine.counters().pass();
        let mut pass = Pass {
            // With caution nothing counts that another source may have brought.
            prefix: prefix.filter(|prefix| prefix.len > 0 && !rest.cautious),
            length: length.or(rest.plan.size),
            engine,
            rest,
            start,
            given,
            proof: None,
            hashed: 0,
            held: VecDeque::new(),
            emitted: start,
            proven: false,
            body: None,
            next: 0,
            tried_again: false,
            mixed: false,
            failure: None,
            slot: None,
        };
        pass.proof = Some(pass.new_proof()?);
        pass.mixed = pass.prefix.is_some();
        Ok(pass)
    }

    fn new_proof(&self) -> Result<Proof, Error> {
        let plan = &self.rest.plan;
        Proof::new(plan.name.compression, plan.nar).map_err(|e| Error::internal("make a decoder").because(e))
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Waits until a byte can be given, or the whole is proven.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        while !self.proven && self.releasable() == 0 {
            self.advance().await?;
        }
        Ok(())
    }

    /// The next bytes; `None` at the proven end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.ready().await?;
        Ok(self.release())
    }

    /// Bytes from the first held one on that may go out.
    fn releasable(&self) -> u64 {
        let until = match self.length {
            _ if self.proven => self.hashed,
            Some(length) => self.hashed.min(length.saturating_sub(HOLD_BACK)),
            None => self.hashed.saturating_sub(HOLD_BACK),
        };
        until.saturating_sub(self.emitted)
    }

    fn release(&mut self) -> Option<Bytes> {
        let may = usize::try_from(self.releasable()).unwrap_or(usize::MAX);
        let first = self.held.front_mut().filter(|_| may > 0)?;
        let bytes = first.split_to(first.len().min(may));
        if first.is_empty() {
            self.held.pop_front();
        }
        self.emitted += bytes.len() as u64;
        Some(bytes)
    }

    async fn advance(&mut self) -> Result<(), Failure> {
        if let Some(Prefix { file, len }) = self.prefix.clone().filter(|prefix| self.hashed < prefix.len) {
            let chunk = read_chunk(file, self.hashed, len).await;
            let chunk = chunk.map_err(|e| Error::internal("read a spool file").because(e))?;
            if chunk.is_empty() {
                return Err(Error::internal("a spool file is shorter than its transfer").into());
            }
            return match self.take(vec![chunk]).await {
                Ok(()) => Ok(()),
                Err(error) => self.spoiled(error).await,
            };
        }
        match self.advance_body().await {
            Ok(()) => Ok(()),
            Err(Trouble::Source(error)) => self.failed(error).await,
            Err(Trouble::Absent) => {
                self.leave_source();
                Ok(())
            }
            Err(Trouble::Ours(error)) => Err(error.into()),
            Err(Trouble::NoSpool(error)) => {
                Err(Error::internal("there is no spool here").because(error).into())
            }
        }
    }

    async fn advance_body(&mut self) -> Result<(), Trouble> {
        if self.body.is_none() {
            self.open().await?;
        }
        let Some((chunks, skip)) = &mut self.body else { return Ok(()) };
        let Some(batch) = chunks.next().await else { return self.judge() };
        let (chunks, broken) = until_broken(batch);
        let chunks = past(chunks, skip);
        self.take(chunks).await?;
        match broken {
            // Every byte came, and then the connection broke.
            Some(_) if self.length == Some(self.hashed) => self.judge(),
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn open(&mut self) -> Result<(), Trouble> {
        if self.slot.is_none() {
            self.slot = Some(self.engine.pass_slot().await.map_err(Trouble::Ours)?);
        }
        let Some(source) = self.source().cloned() else {
            return Err(Trouble::Ours(exhausted(&self.engine, &self.rest, self.failure.as_ref()).await));
        };
        if self.engine.distrusts(&source) {
            return Err(UpstreamError::Distrusted.into());
        }
        let plan = &self.rest.plan;
        let body = open(&self.engine, &source, plan, &self.rest.upstreams, self.hashed).await?;
        self.length = agreed_length(body.total, self.length)?;
        let skip = self.hashed - body.offset;
        self.body = Some((body.stream.ready_chunks(BATCH).boxed(), skip));
        Ok(())
    }

    fn source(&self) -> Option<&Source> {
        self.rest.plan.sources.get(self.next)
    }

    fn leave_source(&mut self) {
        self.body = None;
        self.next += 1;
        self.tried_again = false;
    }

    /// New bytes: into the proof, and to the reader where it wants them.
    async fn take(&mut self, chunks: Vec<Bytes>) -> Result<(), UpstreamError> {
        let more: u64 = chunks.iter().map(|c| c.len() as u64).sum();
        if self.hashed + more > self.length.unwrap_or(self.most()) {
            return Err(UpstreamError::TooMuch);
        }
        let _slot = match self.rest.plan.name.compression {
            Compression::Zstd => self.engine.decoders().acquire_owned().await.ok(),
            _ => None,
        };
        let proof = self.proof.take().ok_or(UpstreamError::WrongBytes)?;
        let fed = chunks.clone();
        let proof = blocking(move || proof.fed(&fed)).await;
        self.proof = Some(proof.map_err(|e| UpstreamError::Undecodable(e.to_string()))?);
        for chunk in chunks {
            self.hold(chunk);
        }
        Ok(())
    }

    fn most(&self) -> u64 {
        self.rest.plan.nar.map_or(self.engine.max_spool(), |nar| incompressible(nar.size))
    }

    fn hold(&mut self, mut chunk: Bytes) {
        let at = self.hashed;
        self.hashed += chunk.len() as u64;
        let before = usize::try_from(self.start.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
        chunk.advance(before);
        if !chunk.is_empty() {
            self.held.push_back(chunk);
        }
    }

    /// A source ended cleanly: is it all, and right?
    fn judge(&mut self) -> Result<(), Trouble> {
        if self.length.is_some_and(|length| self.hashed < length) {
            return Err(UpstreamError::Cut(self.hashed).into());
        }
        let proof = self.proof.take().ok_or(UpstreamError::WrongBytes)?;
        if !proof.holds(self.rest.plan.name.hash) {
            return Err(UpstreamError::WrongBytes.into());
        }
        (self.length, self.proven, self.body, self.slot) = (Some(self.hashed), true, None, None);
        Ok(())
    }

    /// A source failed: the same one once more, else the next one, from the byte that was reached.
    async fn failed(&mut self, error: UpstreamError) -> Result<(), Failure> {
        if matches!(error, UpstreamError::WrongBytes | UpstreamError::Undecodable(_) | UpstreamError::TooMuch)
        {
            return self.spoiled(error).await;
        }
        let label = self.source().map(|source| source.label().to_owned());
        tracing::info!(nar = %self.rest.plan.name, source = label, %error, at = self.hashed, "a source failed");
        if may_pass(&error) && !self.tried_again {
            (self.body, self.tried_again) = (None, true);
            tokio::time::sleep(delay(&error, 1)).await;
            return Ok(());
        }
        self.failure = Some(error);
        self.leave_source();
        if self.hashed == 0 {
            return Ok(());
        }
        self.mixed = true;
        if self.rest.cautious { self.begin_anew() } else { Ok(()) }
    }

    /// The bytes so far are wrong.
    async fn spoiled(&mut self, error: UpstreamError) -> Result<(), Failure> {
        // Where several sources brought bytes nobody can tell who was wrong.
        if let Some(source) = self.source().filter(|_| !self.mixed) {
            self.engine.distrust(source);
        }
        self.engine.distrust_file(self.rest.plan.name);
        self.engine.counters().wrong_bytes();
        tracing::warn!(nar = %self.rest.plan.name, %error, "a NAR that is passed through is wrong");
        if !self.mixed {
            self.leave_source();
        }
        self.failure = Some(error);
        self.begin_anew()
    }

    /// From the first byte again, if the reader has none yet.
    fn begin_anew(&mut self) -> Result<(), Failure> {
        if self.given || self.emitted > self.start {
            return Err(Error::new(
                Code::UpstreamFailed,
                "bytes were passed on already that no source can follow",
            )
            .into());
        }
        self.proof = Some(self.new_proof()?);
        (self.prefix, self.body, self.mixed, self.hashed) = (None, None, false, 0);
        self.held.clear();
        Ok(())
    }
}

/// What it means that no source is left.
async fn exhausted(engine: &Engine, rest: &Rest, failure: Option<&UpstreamError>) -> Error {
    let plan = &rest.plan;
    match failure {
        Some(error) => Error::new(error.code(), "no source gave it whole").because(error.clone()),
        None if plan.control_away => {
            Error::new(Code::Unavailable, "control is away and no upstream has this name")
        }
        None => match engine.doubt(plan).await {
            Ok(true) => Error::new(Code::Unavailable, "its sources have changed just now"),
            Ok(false) => Error::new(Code::Absent, "no source has it"),
            Err(error) => error,
        },
    }
}

/// What the bytes so far amount to.
struct Proof {
    file: Sha256,
    /// Decodes on the way, and what must come out.
    nar: Option<(zstd::stream::write::Decoder<'static, NarSink>, NarFacts)>,
}

impl Proof {
    fn new(compression: Compression, nar: Option<NarFacts>) -> io::Result<Proof> {
        let nar = match (compression, nar) {
            (Compression::Zstd, Some(facts)) => {
                let sink = NarSink { hasher: nar::Hasher::new(), most: facts.size };
                Some((zstd_writer(sink)?, facts))
            }
            _ => None,
        };
        Ok(Proof { file: Sha256::new(), nar })
    }

    fn fed(mut self, chunks: &[Bytes]) -> io::Result<Proof> {
        for chunk in chunks {
            self.file.update(chunk);
            if let Some((decoder, _)) = &mut self.nar {
                decoder.write_all(chunk)?;
            }
        }
        if let Some((decoder, _)) = &mut self.nar {
            decoder.flush()?;
        }
        Ok(self)
    }

    /// Whether it is the right NAR; where that was not looked at, whether it is the file of this hash.
    fn holds(self, file: FileHash) -> bool {
        match self.nar {
            Some((decoder, expected)) => {
                let (hash, size) = decoder.into_inner().hasher.finish();
                NarFacts { hash, size } == expected
            }
            None => FileHash(Sha256Hash::from_bytes(self.file.finalize().into())) == file,
        }
    }
}

/// Takes decoded bytes, but not more than there may be.
struct NarSink {
    hasher: nar::Hasher,
    most: u64,
}

impl Write for NarSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        if self.hasher.bytes() > self.most {
            return Err(io::Error::other("it decodes to more bytes than the narinfo says"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::NarHash;

    fn proof_of(nar: &[u8], encoded: &[u8], expected: &[u8]) -> io::Result<bool> {
        let facts = NarFacts { hash: NarHash(Sha256Hash::of(expected)), size: expected.len() as u64 };
        let chunks: Vec<_> = encoded.chunks(1000).map(Bytes::copy_from_slice).collect();
        let proof = Proof::new(Compression::Zstd, Some(facts))?.fed(&chunks)?;
        assert!(nar.len() < 1 << 20);
        Ok(proof.holds(FileHash(Sha256Hash::of(encoded))))
    }

    #[test]
    fn zstd_is_proven_by_what_it_decodes_to() {
        let nar: Vec<u8> = (0..200_000_u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
        let encode = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("encodes");
        let whole = encode(&nar);
        assert!(proof_of(&nar, &whole, &nar).expect("decodes"));
        let frames = [encode(&nar[..1000]), encode(&nar[1000..])].concat();
        assert!(proof_of(&nar, &frames, &nar).expect("several frames are one stream"));
        assert!(!proof_of(&nar, &whole[..whole.len() / 2], &nar).expect("decodes so far"), "cut");
        assert!(proof_of(&nar, &whole, &nar[1..]).is_err(), "too much, found without decoding the rest");
        assert!(!proof_of(&nar, &encode(&nar[1..]), &nar).expect("decodes"), "another NAR");
    }
}
