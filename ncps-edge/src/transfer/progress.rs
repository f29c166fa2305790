//! How far a transfer is: the one value that its readers, its prover and its registry watch.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ncps_nix::NarFileName;
use ncps_proto::trace::Link;
use ncps_proto::{Code, Error};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::evict::Epoch;
use super::plan::{Plan, Wanted};
use crate::upstream::Upstreams;

/// What readers need to go on without the spool.
pub(super) struct Rest {
    pub(super) plan: Plan,
    pub(super) upstreams: Arc<Upstreams>,
    /// Sources are not mixed, since wrong bytes came lately.
    pub(super) cautious: bool,
}

/// Bytes at the end of a file that no reader gets before the whole is proven.
pub const HOLD_BACK: u64 = 64 * 1024;

/// Why a transfer failed; every reader gets a copy.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: Code,
    message: Arc<str>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { code: error.code(), message: error.story().into() }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::new(failure.code, failure.message.to_string())
    }
}

/// How a transfer ended, as its readers see it.
#[derive(Clone)]
pub(super) enum End {
    /// Every byte is there and proven. (The commit to the store may still follow.)
    Proven,
    /// The disk takes no more: each reader goes on by itself from what was written.
    Overflowed(Arc<Rest>),
    /// No more bytes will come. Never the same as a short file.
    Failed(Failure),
}

#[derive(Clone, Default)]
pub(super) struct Progress {
    /// Of the whole file, once the sources agree on it.
    pub(super) length: Option<u64>,
    /// Bytes in the spool.
    pub(super) written: u64,
    /// Bytes that readers may have.
    pub(super) released: u64,
    /// A source ended cleanly: what is written is all.
    pub(super) downloaded: bool,
    pub(super) end: Option<End>,
}

impl Progress {
    fn releasable(&self, cautious: bool) -> u64 {
        match self.length {
            _ if cautious => 0,
            Some(length) => self.written.min(length.saturating_sub(HOLD_BACK)),
            None => self.written.saturating_sub(HOLD_BACK),
        }
    }
}

/// A running transfer. The fetching task writes it, readers watch it.
pub(super) struct Transfer {
    pub(super) name: NarFileName,
    /// The same as who came first spelled it.
    pub(super) wanted: Wanted,
    /// Wrong bytes came under this name lately: nothing is released before the proof, no sources are mixed.
    pub(super) cautious: bool,
    /// What is removed from then on is not kept.
    pub(super) began: Epoch,
    /// Its span, for those who join. `None` without traces.
    pub(super) link: Option<Link>,
    progress: watch::Sender<Progress>,
    file: OnceLock<Arc<File>>,
    /// Fires when its task is over, what follows the proof included.
    over: CancellationToken,
    /// The upstream that is being read.
    reading: Mutex<Option<String>>,
    /// Its bytes come from the transfer of another edge.
    follows: AtomicBool,
    /// What comes is another file of the same NAR: which one. Set before anything is released.
    stands_in: OnceLock<String>,
    /// One past the last byte that any reader took. Changed only under a borrow of `progress`, so that
    /// [`Transfer::begin_anew`] can't race with a reader.
    delivered: AtomicU64,
}

impl Transfer {
    pub(super) fn new(wanted: Wanted, cautious: bool, link: Option<Link>, began: Epoch) -> Transfer {
        Transfer {
            name: wanted.name,
            wanted,
            cautious,
            began,
            link,
            progress: watch::Sender::new(Progress::default()),
            file: OnceLock::new(),
            over: CancellationToken::new(),
            reading: Mutex::default(),
            follows: AtomicBool::new(false),
            stands_in: OnceLock::new(),
            delivered: AtomicU64::new(0),
        }
    }

    /// Its bytes come from this upstream now.
    pub(super) fn read_from(&self, upstream: &str) {
        *self.reading.lock() = Some(upstream.to_owned());
    }

    /// Whether it is, where it is one.
    pub(super) fn reads_from(&self, is: impl Fn(&str) -> bool) -> bool {
        self.reading.lock().as_deref().is_some_and(is)
    }

    /// From now on, or no longer, its bytes come from the transfer of another edge.
    pub(super) fn set_follows(&self, follows: bool) {
        self.follows.store(follows, Ordering::Release);
    }

    pub(super) fn follows(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    /// What comes is another file of the same NAR than the one of its name; which one, tells this text.
    pub(super) fn set_stands_in(&self, which: String) {
        self.stands_in.get_or_init(|| which);
    }

    pub(super) fn stands_in(&self) -> Option<&str> {
        self.stands_in.get().map(String::as_str)
    }

    /// Its task is over.
    pub(super) fn set_over(&self) {
        self.over.cancel();
    }

    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The spool, or the stored file that turned up instead. Set before anything is released.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.file.get().cloned()
    }

    /// Gives the readers their file. The first one stays.
    pub(super) fn set_file(&self, file: Arc<File>) {
        self.file.get_or_init(|| file);
    }

    pub(super) fn promise(&self, length: u64) {
        self.progress.send_modify(|p| p.length = Some(length));
    }

    pub(super) fn wrote(&self, written: u64) {
        self.progress.send_modify(|p| {
            p.written = written;
            p.released = p.released.max(p.releasable(self.cautious));
        });
    }

    pub(super) fn downloaded(&self) {
        self.progress.send_modify(|p| p.downloaded = true);
    }

    /// Every byte of `length` is there and right: readers may have the rest.
    pub(super) fn prove(&self, length: u64) {
        self.progress.send_modify(|p| {
            p.length = Some(length);
            (p.written, p.released, p.downloaded) = (length, length, true);
            p.end = Some(End::Proven);
        });
    }

    /// Ends the transfer where the disk takes no more. What is written stays readable.
    pub(super) fn overflow(&self, plan: Plan, upstreams: Arc<Upstreams>) {
        let rest = Arc::new(Rest { plan, upstreams, cautious: self.cautious });
        self.progress.send_modify(|p| p.end = Some(End::Overflowed(rest)));
    }

    /// Ends the transfer in failure, unless it ended already.
    pub(super) fn fail(&self, error: Error) {
        self.progress.send_if_modified(|p| {
            let running = p.end.is_none();
            if running {
                p.end = Some(End::Failed(error.into()));
            }
            running
        });
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    /// Notes that a reader takes bytes up to `end`. Call it while holding a borrow of the progress.
    pub(super) fn deliver(&self, end: u64) {
        self.delivered.fetch_max(end, Ordering::AcqRel);
    }

    /// Forgets every byte, if no reader has one yet. The promised length stays promised.
    pub(super) fn begin_anew(&self) -> bool {
        let mut anew = false;
        self.progress.send_modify(|p| {
            if self.delivered.load(Ordering::Acquire) == 0 {
                *p = Progress { length: p.length, ..Progress::default() };
                anew = true;
            }
        });
        anew
    }
}
