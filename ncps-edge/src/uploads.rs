//! What clients write: NARs, narinfos and other objects come in and are taken away. Here is what these have in
//! common: how many at once, and what must be there before what.
//!
//! Knows the order: a NAR before its narinfo, the bytes before the row. Absent on purpose: HTTP and who may write,
//! and what is admitted and signed, which is control's.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{Compression, FileHash, MAX_NARINFO_BYTES, NarFileName, NarInfo, ObjectName, StorePathHash};
use ncps_proto::{
    Bearer, ChangedBy, Code, Errand, Error, ObjectChange, ObjectNote, Result, Upload, Victim, Writer,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::attach::Ticket;
use crate::drain::{Coming, Drain};
use crate::live::Current;
use crate::lookup::Lookups;
use crate::objects::{Objects, read_text};
use crate::relay::{Answer, Passing, Relay};
use crate::transfer::{Engine, Incoming, Wanted};
use crate::upstream::Coding;
use crate::upstream::body::Chunks;

/// NAR files that come in at once, each with a decoder, and other objects, each with a megabyte of memory.
const NARS: usize = 32;
const OBJECTS: usize = 64;
/// How long a client waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Beside what upstreams have.
    Root,
    /// `/upload/`: only what is stored here is there.
    Upload,
}

/// All uploads.
pub struct Uploads {
    engine: Arc<Engine>,
    lookups: Arc<Lookups>,
    objects: Arc<Objects>,
    relay: Relay,
    /// This edge's disk is kept.
    durable: bool,
    drain: Arc<Drain>,
    nars: Semaphore,
    others: Semaphore,
}

impl Uploads {
    pub fn new(
        engine: Arc<Engine>,
        lookups: Arc<Lookups>,
        objects: Arc<Objects>,
        current: Arc<Current>,
        durable: bool,
        drain: Arc<Drain>,
    ) -> Uploads {
        let relay = Relay::new(Arc::clone(engine.control()), current);
        let (nars, others) = (Semaphore::new(NARS), Semaphore::new(OBJECTS));
        Uploads { engine, lookups, objects, relay, durable, drain, nars, others }
    }

    /// Whether what clients bring rests here, and will as long as the result lives; else it is passed on.
    pub(crate) fn rest_here(&self) -> Option<Coming> {
        self.drain.upload().filter(|_| self.durable)
    }

    /// Whether a NAR file need not be sent.
    pub(crate) async fn has_nar(&self, name: NarFileName) -> Result<bool> {
        self.engine.has_proven(name, self.durable).await
    }

    /// Has an edge take something in that can't rest here; see [`Relay::pass_on`].
    pub(crate) async fn pass_on(&self, passing: Passing<'_>) -> Result<Answer> {
        let is_nar = matches!(passing.errand, Errand::KeepNar(_));
        let _turn = turn(if is_nar { &self.nars } else { &self.others }).await?;
        self.relay.pass_on(passing).await
    }

    /// Whether this edge is to do what another one asks it for.
    pub(crate) async fn redeem(&self, bearer: Bearer, errand: Errand) -> Result<()> {
        self.engine.control().redeem(bearer, errand).await
    }

    /// Has every other edge delete an object where it may rest; see [`Relay::delete`].
    pub(crate) async fn delete_elsewhere(&self, name: ObjectName, writer: Writer) -> Result<bool> {
        self.relay.delete(&Errand::DeleteObject(name), writer).await
    }

    /// Takes a NAR file in; see [`Engine::receive`]. Its body is not looked at before it is its turn.
    pub(crate) async fn nar(&self, incoming: Incoming) -> Result<()> {
        let _turn = turn(&self.nars).await?;
        self.engine.receive(incoming).await
    }

    /// Takes the narinfo of a path in, whose NAR must be here or at an edge that keeps it; at the root it may be an
    /// upstream's, and is fetched then, since that is where a client saw it.
    pub(crate) async fn narinfo(
        &self,
        hash: StorePathHash,
        body: Chunks,
        coding: &Coding,
        door: Door,
        writer: Writer,
    ) -> Result<()> {
        let reading = turn(&self.others).await?;
        let text = read_text(body, coding, MAX_NARINFO_BYTES).await?;
        drop(reading);
        let invalid = |why: String| Error::new(Code::Invalid, why);
        let narinfo = NarInfo::parse(&text).map_err(|e| invalid(format!("not a narinfo: {e}")))?;
        if narinfo.store_path.hash() != hash {
            return Err(invalid(format!("this is the narinfo of {}", narinfo.store_path)));
        }
        let nar = named(&narinfo)?;
        let held = self.has_or_fetches(nar, door).await?;
        self.lookups.upload(Upload { narinfo, nar, held, writer }).await?;
        self.engine.narinfo_came(nar);
        Ok(())
    }

    async fn has_or_fetches(&self, nar: NarFileName, door: Door) -> Result<bool> {
        if self.engine.stored(nar).await?.is_some() {
            return Ok(true);
        }
        // Nothing is fetched for a narinfo that control can't be asked to admit.
        if self.engine.locate(nar).await?.is_some_and(|known| known.held) {
            return Ok(false);
        }
        let missing = || Error::new(Code::Refused, format!("upload the NAR first: {}", nar.url()));
        if door == Door::Upload {
            return Err(missing());
        }
        let mut reader = self.engine.join(&Wanted::ours(nar))?;
        match reader.proven().await {
            Ok(_) => {}
            Err(failure) if failure.code == Code::Absent => return Err(missing()),
            Err(failure) => return Err(failure.into()),
        }
        // Proven is not yet committed, and control knows a file by its commit.
        reader.over().await;
        Ok(self.engine.stored(nar).await?.is_some())
    }

    /// Takes another object in; see [`Objects::keep_brought`]. Who brings it is in the audit log before it is seen.
    pub(crate) async fn object(
        &self,
        name: ObjectName,
        body: Chunks,
        coding: &Coding,
        by: ChangedBy,
    ) -> Result<()> {
        let _turn = turn(&self.others).await?;
        let brought = self.objects.receive(&name, body, coding).await?;
        let change = ObjectChange::Uploaded(brought.size());
        self.engine.control().note_object(ObjectNote { name: name.clone(), change, by }).await?;
        self.objects.keep_brought(&name, brought).await
    }

    /// Forgets a narinfo, and says whether it was known. Upstreams may bring the path again.
    pub(crate) async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool> {
        let deleted = self.engine.control().delete_narinfo(hash, writer).await?;
        self.lookups.outdate(&[hash]);
        self.lookups.refresh(hash, true).await?;
        Ok(deleted)
    }

    /// Removes a NAR with all its files, and says whether there was one.
    pub(crate) async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<bool> {
        let mut victims = self.engine.control().delete_nar(name, writer).await?;
        if victims.is_empty() && self.engine.stored(name).await?.is_some() {
            victims.push(Victim { name, narinfos: Vec::new() });
        }
        let found = !victims.is_empty();
        let store_paths: Vec<_> = victims.iter().flat_map(|victim| victim.narinfos.clone()).collect();
        self.lookups.outdate(&store_paths);
        let nars = victims.into_iter().map(|victim| victim.name).collect();
        self.engine.remove(Ticket::NOBODYS, store_paths, nars).await;
        Ok(found)
    }

    /// Removes another object, and says whether it was here.
    pub(crate) async fn delete_object(&self, name: &ObjectName, by: ChangedBy) -> Result<bool> {
        if self.objects.here(name).await?.is_none() {
            return Ok(false);
        }
        let note = ObjectNote { name: name.clone(), change: ObjectChange::Deleted, by };
        self.engine.control().note_object(note).await?;
        self.objects.delete(name).await
    }
}

async fn turn(all: &Semaphore) -> Result<SemaphorePermit<'_>> {
    let crowded = || Error::new(Code::Overloaded, "too many uploads at once");
    let turn = tokio::time::timeout(PATIENCE, all.acquire()).await.map_err(|_| crowded())?;
    turn.map_err(|_| crowded())
}

/// The NAR file that a client's narinfo names: by its hash, or by a URL that is made of it.
fn named(narinfo: &NarInfo) -> Result<NarFileName> {
    let compression = narinfo.compression;
    let by_hash = match compression {
        Compression::None => Some(FileHash(narinfo.nar_hash.0)),
        _ => narinfo.file_hash,
    };
    let by_url = || NarFileName::parse(narinfo.url.strip_prefix("nar/")?).ok();
    let by_url = || by_url().filter(|name| name.compression == compression);
    let name = by_hash.map(|hash| NarFileName { hash, compression }).or_else(by_url);
    name.ok_or_else(|| Error::new(Code::Refused, "it names its NAR neither by FileHash nor by URL"))
}
