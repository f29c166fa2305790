//! Bytes of one file from one source after the other into one spool, hashed as they come. A source that is cut
//! is left at the byte it reached; the next one goes on there.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use ncps_nix::{Compression, FileHash, NarFileName, Sha256Hash};
use ncps_proto::{Code, Error, Origin};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::decode::{Conversion, converted};
use super::engine::Engine;
use super::plan::{PeerFile, Plan, Source};
use super::progress::Transfer;
use super::prover::{Exhibit, Prover};
use crate::store::{Spool, blocking};
use crate::upstream::body::Chunks;
use crate::upstream::{Body, Lends, Opening, UpstreamError, Upstreams, Wish};

/// Chunks that are written at once where they are there already.
pub(super) const BATCH: usize = 64;

/// Why a source did not give the whole.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It does not have the file.
    Absent,
    /// It failed, or its bytes are of no use.
    Source(UpstreamError),
    /// Our own store can't be read: no other source can help.
    Ours(Error),
    /// The disk is full, past its limits, or broken: nothing can be spooled.
    NoSpool(std::io::Error),
}

impl From<UpstreamError> for Trouble {
    fn from(error: UpstreamError) -> Self {
        Trouble::Source(error)
    }
}

pub(super) struct Download {
    engine: Arc<Engine>,
    transfer: Arc<Transfer>,
    spool: Option<Spool>,
    reservation: Option<OwnedSemaphorePermit>,
    hasher: Sha256,
    written: u64,
    length: Option<u64>,
    /// Bytes that are taken where no length is known: an upstream can't fill the disk.
    most: u64,
    prover: Option<Prover>,
    /// Sources that brought bytes.
    contributors: u32,
}

/// A finished download on its way into the store.
pub(super) struct Downloaded {
    pub(super) spool: Spool,
    pub(super) prover: Option<Prover>,
    pub(super) size: u64,
    pub(super) hash: FileHash,
    _reservation: Option<OwnedSemaphorePermit>,
}

impl Download {
    pub(super) fn new(engine: &Arc<Engine>, transfer: &Arc<Transfer>) -> Download {
        Download {
            engine: Arc::clone(engine),
            transfer: Arc::clone(transfer),
            spool: None,
            reservation: None,
            hasher: Sha256::new(),
            written: 0,
            length: None,
            most: u64::MAX,
            prover: None,
            contributors: 0,
        }
    }

    /// Whether all bytes came from one source, which then answers for them.
    pub(super) fn is_of_one_source(&self) -> bool {
        self.contributors <= 1
    }

    /// A source brought bytes.
    pub(super) fn contributed(&mut self) {
        self.contributors += 1;
    }

    /// Bytes in the spool.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// What the bytes so far hash to.
    pub(super) fn hash(&self) -> FileHash {
        FileHash(Sha256Hash::from_bytes(self.hasher.clone().finalize().into()))
    }

    /// Reads on from a source, to the end.
    pub(super) async fn read(
        &mut self,
        source: &Source,
        plan: &Plan,
        upstreams: &Upstreams,
    ) -> Result<(), Trouble> {
        let body = open(&self.engine, source, plan, upstreams, self.written).await?;
        self.length = agreed_length(body.total, self.length.or(plan.size))?;
        self.prepare(plan, body.total).await?;
        let length = self.length;
        self.copy(body).await.or_else(|trouble| match trouble {
            // More than was promised is another file, whatever its beginning is.
            Trouble::Source(UpstreamError::TooMuch) => Err(trouble),
            // Every byte came, and then the connection broke.
            Trouble::Source(_) if length.is_some_and(|l| l == self.written) => Ok(()),
            trouble => Err(trouble),
        })?;
        match length {
            Some(length) if self.written < length => Err(UpstreamError::Cut(self.written).into()),
            _ => Ok(()),
        }
    }

    /// Before the first byte: room on the disk, the readers' file, the proof.
    async fn prepare(&mut self, plan: &Plan, total: Option<u64>) -> Result<(), Trouble> {
        if let Some(length) = self.length {
            self.transfer.promise(length);
        }
        if self.spool.is_none() {
            self.most = plan.nar.map_or(self.engine.max_spool(), |nar| incompressible(nar.size));
            let size = self.length.or(total);
            self.reservation = Some(self.engine.reserve_spool(size.or(plan.nar.map(|n| n.size))).await);
            let spool = self.engine.begin_spool(size).await.map_err(Trouble::NoSpool)?;
            self.transfer.set_file(spool.file());
            self.spool = Some(spool);
        }
        if self.prover.is_none() && plan.name.compression != Compression::None {
            self.prover = self.spool.as_ref().map(|spool| self.start_proof(spool, plan));
        }
        Ok(())
    }

    fn start_proof(&self, spool: &Spool, plan: &Plan) -> Prover {
        let exhibit = Exhibit {
            file: spool.file(),
            progress: self.transfer.watch(),
            compression: plan.name.compression,
            max_size: plan.max_nar_size(),
            is_nar: false,
        };
        Prover::start(exhibit, self.engine.decoders())
    }

    async fn copy(&mut self, body: Body) -> Result<(), Trouble> {
        let mut skip = self.written - body.offset;
        let mut batches = body.stream.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let (chunks, broken) = until_broken(batch);
            let chunks = past(chunks, &mut skip);
            self.write(chunks).await?;
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn write(&mut self, chunks: Vec<Bytes>) -> Result<(), Trouble> {
        let more: u64 = chunks.iter().map(|c| c.len() as u64).sum();
        if self.written + more > self.length.unwrap_or(self.most) {
            return Err(UpstreamError::TooMuch.into());
        }
        let Some(spool) = &self.spool else { return Ok(()) };
        let (file, at, mut hasher) = (spool.file(), self.written, std::mem::take(&mut self.hasher));
        let write = blocking(move || {
            let mut offset = at;
            for chunk in &chunks {
                file.write_all_at(chunk, offset)?;
                hasher.update(chunk);
                offset += chunk.len() as u64;
            }
            Ok(hasher)
        });
        self.hasher = write.await.map_err(Trouble::NoSpool)?;
        self.written += more;
        self.transfer.wrote(self.written);
        Ok(())
    }

    /// A source ended cleanly: the proof may come to its end.
    pub(super) fn ended(&self) {
        self.transfer.downloaded();
    }

    /// Forgets every byte, if no reader has one yet. The promised length stays.
    pub(super) fn begin_anew(&mut self) -> bool {
        if !self.transfer.begin_anew() {
            return false;
        }
        self.prover = None;
        self.hasher = Sha256::new();
        (self.written, self.contributors) = (0, 0);
        // Bytes beyond a shorter second file are cut off; a failure to do so shows in the proof.
        self.spool.as_ref().is_none_or(|spool| spool.truncate().is_ok())
    }

    /// The proof that a file whose own hash is wrong may still be the right NAR.
    pub(super) async fn proof(&mut self) -> Option<std::io::Result<ncps_proto::NarFacts>> {
        match self.prover.take() {
            Some(prover) => Some(prover.facts().await),
            None => None,
        }
    }

    /// The finished file.
    pub(super) fn finish(mut self) -> Result<Downloaded, Error> {
        let hash = self.hash();
        let spool = self.spool.take().ok_or_else(|| Error::internal("a download ended without a spool"))?;
        Ok(Downloaded {
            spool,
            prover: self.prover.take(),
            size: self.written,
            hash,
            _reservation: self.reservation.take(),
        })
    }
}

/// Opens a source at byte `from`, or before it where it can't go on there: decoded on the way there is no place to
/// resume at.
pub(super) async fn open(
    engine: &Engine,
    source: &Source,
    plan: &Plan,
    upstreams: &Upstreams,
    from: u64,
) -> Result<Body, Trouble> {
    match source {
        Source::Stored(name) => open_stored(engine, *name, plan).await,
        Source::Peer(peer) => open_peer(engine, peer, Lends::Stored, plan, upstreams, from).await,
        Source::Running(peer) => open_peer(engine, peer, Lends::Running, plan, upstreams, from).await,
        Source::Origin(origin) | Source::ByName(origin) => {
            match open_origin(engine, origin, plan, upstreams, from).await {
                Err(Trouble::Source(error)) if source.is_unknown_name(&error) => Err(Trouble::Absent),
                opened => opened,
            }
        }
    }
}

async fn open_origin(
    engine: &Engine,
    origin: &Origin,
    plan: &Plan,
    upstreams: &Upstreams,
    from: u64,
) -> Result<Body, Trouble> {
    let as_it_is = origin.compression == plan.name.compression;
    let body = match upstreams.open(origin, if as_it_is { from } else { 0 }, &plan.via).await {
        Opening::Body(body) => body,
        Opening::Absent => return Err(Trouble::Absent),
        Opening::Failed(error) => return Err(error.into()),
    };
    // At most one of both: only what is uncompressed comes wrapped.
    let compression = if body.coding == Compression::None { origin.compression } else { body.coding };
    if as_it_is && body.coding == Compression::None {
        return Ok(body);
    }
    let to = plan.encoding().filter(|_| !as_it_is);
    Ok(converted_whole(engine, Conversion { from: compression, to }, body.stream))
}

/// A body that is converted on its way: nobody knows its length.
fn converted_whole(engine: &Engine, conversion: Conversion, stream: Chunks) -> Body {
    Body::whole(converted(conversion, stream, engine.decoders()))
}

async fn open_peer(
    engine: &Engine,
    peer: &PeerFile,
    lends: Lends,
    plan: &Plan,
    upstreams: &Upstreams,
    from: u64,
) -> Result<Body, Trouble> {
    let conversion = conversion(peer.name, plan);
    let from = if conversion.is_some() { 0 } else { from };
    let wish = Wish { name: peer.name, lends, from, via: &plan.via };
    match upstreams.peers().open(&peer.url, wish).await {
        Opening::Body(body) => Ok(match conversion {
            Some(conversion) => converted_whole(engine, conversion, body.stream),
            None => body,
        }),
        Opening::Absent => Err(Trouble::Absent),
        Opening::Failed(error) => Err(error.into()),
    }
}

/// What has to become of another file of the NAR.
fn conversion(file: NarFileName, plan: &Plan) -> Option<Conversion> {
    (file != plan.name).then_some(Conversion { from: file.compression, to: plan.encoding() })
}

async fn open_stored(engine: &Engine, name: NarFileName, plan: &Plan) -> Result<Body, Trouble> {
    let Some(stored) = engine.stored(name).await.map_err(Trouble::Ours)? else {
        return Err(Trouble::Absent);
    };
    let bytes = crate::store_read::stream(stored.file, 0, stored.size);
    let bytes = bytes.map(|b| b.map_err(|e| UpstreamError::Transport(e.to_string())));
    let none = Conversion { from: Compression::None, to: None };
    Ok(converted_whole(engine, conversion(name, plan).unwrap_or(none), bytes.boxed()))
}

/// A length is promised only where everybody who says one says the same.
pub(super) fn agreed_length(
    offered: Option<u64>,
    expected: Option<u64>,
) -> Result<Option<u64>, UpstreamError> {
    match (offered, expected) {
        (Some(offered), Some(expected)) if offered != expected => {
            Err(UpstreamError::WrongLength { offered, expected })
        }
        (offered, expected) => Ok(expected.or(offered)),
    }
}

/// What a NAR of this size may take where compressing it gained nothing.
pub(super) fn incompressible(nar_size: u64) -> u64 {
    nar_size.saturating_add(nar_size / 8).saturating_add(1 << 20)
}

/// The chunks before the first failure, and the failure.
pub(super) fn until_broken(batch: Vec<Result<Bytes, UpstreamError>>) -> (Vec<Bytes>, Option<UpstreamError>) {
    let mut chunks = Vec::with_capacity(batch.len());
    for item in batch {
        match item {
            Ok(chunk) => chunks.push(chunk),
            Err(error) => return (chunks, Some(error)),
        }
    }
    (chunks, None)
}

/// Drops the first `skip` bytes, counting them off.
pub(super) fn past(chunks: Vec<Bytes>, skip: &mut u64) -> Vec<Bytes> {
    let mut kept = Vec::with_capacity(chunks.len());
    for mut chunk in chunks {
        let skipped = (*skip).min(chunk.len() as u64);
        chunk.advance(skipped as usize);
        *skip -= skipped;
        if !chunk.is_empty() {
            kept.push(chunk);
        }
    }
    kept
}

/// A full disk has a code of its own.
pub(super) fn disk_trouble(what: &str, error: std::io::Error) -> Error {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::Unavailable,
        _ => Code::Internal,
    };
    Error::new(code, what).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_counts_across_chunks() {
        let chunks = ["abc", "de", "fghi"].map(Bytes::from).to_vec();
        let mut skip = 4;
        assert_eq!(past(chunks, &mut skip), [Bytes::from("e"), Bytes::from("fghi")]);
        assert_eq!(skip, 0);
    }
}
