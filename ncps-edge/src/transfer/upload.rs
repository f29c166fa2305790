//! A NAR file that a client sends: spooled, hashed and decoded as it comes. It becomes a file of the store only if
//! it is what its name says and holds exactly one NAR; then control is told, and only then the client.
//!
//! Others may send or fetch a file of the same name meanwhile: each has a spool of its own, and whoever ends later
//! puts the same bytes in place of the same bytes. Absent on purpose: HTTP, and who may write.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use ncps_nix::{FileHash, NarFileName, Sha256Hash};
use ncps_proto::{Code, Commit, Error, NarFacts, Result};
use ncps_runtime::fault::{self, Point};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::download::{BATCH, disk_trouble};
use super::engine::Engine;
use super::progress::Progress;
use super::prover::{Exhibit, Prover};
use crate::room::Giver;
use crate::store::{Spool, StoredNar, blocking};
use crate::upstream::UpstreamError;
use crate::upstream::body::Chunks;

/// How long a client waits until there is room for its file in the spool.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file on its way in.
pub(crate) struct Incoming {
    pub(crate) name: NarFileName,
    /// Where the client says it.
    pub(crate) length: Option<u64>,
    /// Bytes that it may have, as it comes and decoded.
    pub(crate) most: u64,
    pub(crate) chunks: Chunks,
}

impl Engine {
    /// Whether a file is stored and control knows what it is, so that it need not be sent again: here, where this edge's
    /// disk is kept (`durable`), else at such an edge.
    ///
    /// # Errors
    /// Where control can't be asked, or the disk fails.
    pub(crate) async fn has_proven(&self, name: NarFileName, durable: bool) -> Result<bool> {
        let known = self.locate(name).await?.filter(|known| known.proven && known.name == name);
        let Some(known) = known else { return Ok(false) };
        if !durable {
            return Ok(known.held && (known.uploaded || !known.origins.is_empty()));
        }
        let stored = self.stored_for_sender(name).await?;
        let (Some(nar), Some(stored)) = (known.nar, stored) else { return Ok(false) };
        if known.origins.is_empty() && !known.uploaded {
            // Nobody knew yet that this is where it comes from.
            self.tell(&uploaded(name, stored.size, nar)).await?;
        }
        Ok(true)
    }

    /// What the store has of a NAR whose narinfo a client may send next, without its NAR. It stays for a minute.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(crate) async fn stored_for_sender(&self, name: NarFileName) -> Result<Option<StoredNar>> {
        if self.stored(name).await?.is_none() {
            return Ok(None);
        }
        self.awaited().note(name);
        // It may have gone just before.
        self.stored(name).await
    }

    /// Whether clients may upload.
    pub(crate) fn takes_uploads(&self) -> bool {
        self.live().is_ok_and(|live| live.settings.writing.put)
    }

    /// The narinfo of such a NAR is there.
    pub(crate) fn narinfo_came(&self, name: NarFileName) {
        self.awaited().came(name);
        // Until now nothing named it.
        self.transcodes().forget(name);
        self.transcodes().offer(name);
    }

    /// How long a file is that another edge holds; `None` inside where that is not known.
    ///
    /// # Errors
    /// Where control can't be asked.
    pub(crate) async fn held_elsewhere(&self, name: NarFileName) -> Result<Option<Option<u64>>> {
        let known = self.locate(name).await?.filter(|known| known.held && known.name == name);
        if known.is_some() {
            // It may be us of whom control believes that: then it hears that it is not so.
            self.news().changed(name);
        }
        Ok(known.map(|known| known.file_size))
    }

    /// Takes a file in. When this answers it is durable and control knows of it.
    ///
    /// # Errors
    /// Those of [`Code::is_callers`] where the file is not what it should be; [`Code::StorageFull`] where there is
    /// no room for it; others where the disk or control fails. Nothing is left of it then, but for a file that is
    /// right and that control could not be told of: it is told later.
    pub(crate) async fn receive(self: &Arc<Self>, incoming: Incoming) -> Result<()> {
        let Incoming { name, length, most, chunks } = incoming;
        let reservation = tokio::time::timeout(PATIENCE, self.reserve_spool(length)).await;
        let crowded = |_| Error::new(Code::Overloaded, "there is no room in the spool for another upload");
        let _reservation = reservation.map_err(crowded)?;
        let spool = self.begin_spool(length).await.map_err(|e| no_room("begin an upload", e))?;
        let progress = watch::Sender::new(Progress::default());
        let exhibit = Exhibit {
            file: spool.file(),
            progress: progress.subscribe(),
            compression: name.compression,
            max_size: most,
            is_nar: true,
        };
        let prover = Prover::start(exhibit, self.decoders());
        let mut sink = Sink { spool, progress, prover, hasher: Sha256::new(), written: 0, most };
        sink.fill(chunks).await?;
        let (spool, commit) = sink.judged(name).await?;
        // From here on it goes to its end, whether the client stays or not.
        let engine = Arc::clone(self);
        let kept = self.tasks().spawn("upload", async move { engine.keep_upload(spool, commit).await });
        kept.await.map_err(|e| Error::internal("the end of an upload").because(e))?
    }

    async fn keep_upload(&self, spool: Spool, commit: Commit) -> Result<()> {
        let _committing = self.commits().begin(commit.name);
        self.awaited().note(commit.name);
        let kept = self.room().keep(spool, commit.name, Giver::Client).await;
        let held = kept.map_err(|e| no_room("store an upload", e))?;
        if held.is_none() {
            return Err(Error::new(Code::StorageFull, "there is no room for it in the store"));
        }
        fault::point(Point::NarStored);
        tracing::info!(nar = %commit.name, bytes = commit.file_size, "stored an uploaded NAR");
        self.encodings().committed(&commit);
        // That it is here is said after this: until control hears that it is an upload, it is one of the files that go
        // first.
        self.tell(&commit).await.inspect_err(|_| self.pending().push(commit.clone()))
    }
}

/// Where the bytes go.
struct Sink {
    spool: Spool,
    progress: watch::Sender<Progress>,
    prover: Prover,
    hasher: Sha256,
    written: u64,
    most: u64,
}

impl Sink {
    /// Takes the body to its end, or to where it is clear that it is of no use.
    async fn fill(&mut self, chunks: Chunks) -> Result<()> {
        let mut batches = chunks.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let chunks: Vec<Bytes> =
                batch.into_iter().collect::<std::result::Result<_, _>>().map_err(broken)?;
            self.write(chunks).await?;
            if self.prover.has_ended() {
                break;
            }
        }
        self.progress.send_modify(|progress| progress.downloaded = true);
        Ok(())
    }

    async fn write(&mut self, chunks: Vec<Bytes>) -> Result<()> {
        let more: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if self.written + more > self.most {
            return Err(too_large(self.most));
        }
        let (file, at, mut hasher) = (self.spool.file(), self.written, std::mem::take(&mut self.hasher));
        let write = blocking(move || {
            let mut offset = at;
            for chunk in &chunks {
                file.write_all_at(chunk, offset)?;
                hasher.update(chunk);
                offset += chunk.len() as u64;
            }
            Ok(hasher)
        });
        self.hasher = write.await.map_err(|e| no_room("spool an upload", e))?;
        self.written += more;
        self.progress.send_modify(|progress| progress.written = self.written);
        Ok(())
    }

    /// The file, if it is what its name says and one NAR.
    async fn judged(self, name: NarFileName) -> Result<(Spool, Commit)> {
        let facts = self.prover.facts().await.map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => too_large(self.most),
            _ => Error::new(Code::Refused, format!("{name} is not one NAR: {error}")),
        })?;
        let hash = FileHash(Sha256Hash::from_bytes(self.hasher.finalize().into()));
        if hash != name.hash {
            let is = NarFileName { hash, compression: name.compression };
            return Err(Error::new(Code::Refused, format!("{name} has another hash: it is {is}")));
        }
        Ok((self.spool, uploaded(name, self.written, facts)))
    }
}

fn uploaded(name: NarFileName, file_size: u64, nar: NarFacts) -> Commit {
    Commit {
        name,
        asked_as: None,
        file_size,
        nar,
        origin: None,
        uploaded: true,
        recipe: None,
        meanwhile: Vec::new(),
    }
}

/// Why a client's body ended early.
pub(crate) fn broken(error: UpstreamError) -> Error {
    match error {
        UpstreamError::Stalled => Error::new(Code::TooSlow, "the body came too slowly"),
        UpstreamError::TooMuch => Error::new(Code::TooLarge, "the body is too large"),
        error => Error::new(Code::Invalid, "the body did not come whole").because(error),
    }
}

pub(crate) fn too_large(most: u64) -> Error {
    Error::new(Code::TooLarge, format!("larger than {most} bytes, compressed or not (--max-upload-size)"))
}

/// A full disk is what the client is told; any other trouble with it is ours.
fn no_room(what: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(Code::StorageFull, what).because(error)
        }
        _ => disk_trouble(what, error),
    }
}
