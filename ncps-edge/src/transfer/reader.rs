//! A reader of a running transfer: it follows the spool at its own speed, and its leaving cancels nobody. Where the
//! disk took no more, it goes on by itself (see [`super::pass`]).

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use ncps_nix::NarFileName;
use ncps_proto::Code;
use tokio::sync::watch;

use super::engine::Engine;
use super::pass::{Pass, Prefix};
use super::progress::{End, Failure, Progress, Rest, Transfer};
use crate::store_read::read_chunk;

/// What is known of a body before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the whole file, where it is promised.
    pub length: Option<u64>,
}

/// One request's view of a transfer.
pub struct Reader {
    engine: Arc<Engine>,
    transfer: Arc<Transfer>,
    progress: watch::Receiver<Progress>,
    shared: bool,
    /// It took bytes of the spool: whatever comes after them must be of the same file.
    given: bool,
    /// It belongs to another edge: nothing is done for it that the transfer does not do anyhow.
    lent: bool,
    /// Its own way, where there is no spool to follow.
    pass: Option<Box<Pass>>,
}

/// What a reader waited for.
enum Reached {
    Progress(Progress),
    /// The disk took no more.
    Overflow(Arc<Rest>),
}

/// What a reader got hold of.
enum Claim {
    /// Bytes to before this place.
    Bytes(u64),
    /// The proven end.
    End,
    /// What it waited for was forgotten meanwhile: the transfer began anew.
    TakenBack,
}

impl Reader {
    /// `shared`: the transfer runs already, for others.
    pub(super) fn new(engine: Arc<Engine>, transfer: Arc<Transfer>, shared: bool) -> Reader {
        let progress = transfer.watch();
        Reader { engine, transfer, progress, shared, given: false, lent: false, pass: None }
    }

    /// The same for another edge: where the transfer ends early it does not go on alone.
    pub(super) fn lent(engine: Arc<Engine>, transfer: Arc<Transfer>) -> Reader {
        Reader { lent: true, ..Reader::new(engine, transfer, true) }
    }

    /// Whether another edge reads.
    pub fn is_lent(&self) -> bool {
        self.lent
    }

    /// Whether the transfer ran already when this reader came.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether it was begun for a client, and so looked everywhere.
    pub fn is_direct(&self) -> bool {
        self.transfer.wanted.via.is_direct()
    }

    /// The name under which it was asked for.
    pub fn name(&self) -> NarFileName {
        self.transfer.name
    }

    /// Which other file of the same NAR its bytes are, of which no part may be mixed with the one asked for. Known once
    /// there is a head.
    pub fn stands_in(&self) -> Option<&str> {
        self.transfer.stands_in()
    }

    /// Waits until a byte at or after `from` can be given, or the whole is proven. Until then a failure can
    /// still become a status.
    pub async fn head(&mut self, from: u64) -> Result<Head, Failure> {
        match self.wait(|p| p.released > from).await? {
            Reached::Progress(progress) => Ok(Head { length: progress.length }),
            Reached::Overflow(rest) => {
                let pass = self.pass_from(&rest, from)?;
                pass.ready().await?;
                Ok(Head { length: pass.length() })
            }
        }
    }

    /// Waits until the whole is proven; returns its length in bytes. `None` where it is passed through: then the
    /// proof comes with the last byte and not before.
    pub async fn proven(&mut self) -> Result<Option<u64>, Failure> {
        match self.wait(|_| false).await? {
            Reached::Progress(progress) => Ok(Some(progress.written)),
            Reached::Overflow(_) => Ok(None),
        }
    }

    /// Waits until the transfer is over: what was to be kept is in the store then, and control knows it.
    pub async fn over(&mut self) {
        self.transfer.over().await;
    }

    /// Its own way from byte `start` on, begun anew where it was another byte.
    fn pass_from(&mut self, rest: &Arc<Rest>, start: u64) -> Result<&mut Pass, Failure> {
        let pass = match self.pass.take().filter(|pass| pass.start() == start) {
            Some(pass) => pass,
            None => {
                let (len, length) = {
                    let p = self.progress.borrow();
                    (p.written, p.length)
                };
                let prefix = self.transfer.file().map(|file| Prefix { file, len });
                let (engine, rest) = (Arc::clone(&self.engine), Arc::clone(rest));
                Box::new(Pass::new(engine, rest, prefix, length, start, self.given)?)
            }
        };
        Ok(self.pass.insert(pass))
    }

    /// The promised length, if there is one by now.
    pub fn length_now(&self) -> Option<u64> {
        self.progress.borrow().length
    }

    /// The bytes from `from` to before `to`, or to the end. Ends cleanly only where the last one was proven.
    pub fn stream(self, from: u64, to: Option<u64>) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
        futures::stream::try_unfold((self, from), move |(mut reader, offset)| async move {
            let chunk = reader.chunk(offset, to).await?;
            Ok(chunk.map(|bytes| {
                let next = offset + bytes.len() as u64;
                (bytes, (reader, next))
            }))
        })
    }

    async fn chunk(&mut self, offset: u64, to: Option<u64>) -> Result<Option<Bytes>, Failure> {
        if to.is_some_and(|to| offset >= to) {
            return Ok(None);
        }
        if let Some(pass) = &mut self.pass {
            return pass.chunk().await;
        }
        let end = loop {
            if let Reached::Overflow(rest) = self.wait(|p| p.released > offset).await? {
                return self.pass_from(&rest, offset)?.chunk().await;
            }
            match self.claim(offset, to) {
                Claim::Bytes(end) => break end,
                Claim::End => return Ok(None),
                Claim::TakenBack => {}
            }
        };
        self.given = true;
        let file = self.transfer.file().ok_or_else(|| broken("a transfer released bytes without a file"))?;
        match read_chunk(file, offset, end).await {
            Ok(bytes) if !bytes.is_empty() => Ok(Some(bytes)),
            Ok(_) => Err(broken("a spool file is shorter than its transfer")),
            Err(error) => Err(ncps_proto::Error::internal("read a spool file").because(error).into()),
        }
    }

    /// Takes what is released after `offset`.
    fn claim(&self, offset: u64, to: Option<u64>) -> Claim {
        let progress = self.progress.borrow();
        let end = progress.released.min(to.unwrap_or(u64::MAX));
        if end > offset {
            self.transfer.deliver(end);
            return Claim::Bytes(end);
        }
        match &progress.end {
            Some(End::Proven) => Claim::End,
            _ => Claim::TakenBack,
        }
    }

    /// Waits for a condition or the proven end, whichever comes first. A failure is the error.
    async fn wait(&mut self, reached: impl Fn(&Progress) -> bool) -> Result<Reached, Failure> {
        let progress = self.progress.wait_for(|p| p.end.is_some() || reached(p)).await;
        let progress = progress.map_err(|_| broken("a transfer went without an end"))?;
        match &progress.end {
            // What was released is right as far as anybody can tell, but the body can't become whole.
            Some(End::Failed(failure)) => Err(failure.clone()),
            Some(End::Overflowed(_)) if self.lent => {
                Err(ncps_proto::Error::new(Code::Unavailable, "the disk of this edge takes no more").into())
            }
            Some(End::Overflowed(rest)) => Ok(Reached::Overflow(Arc::clone(rest))),
            Some(End::Proven) | None => Ok(Reached::Progress(progress.clone())),
        }
    }
}

fn broken(what: &str) -> Failure {
    ncps_proto::Error::internal(what).into()
}
