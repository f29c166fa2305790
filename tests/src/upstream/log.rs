//! What the upstream remembers of its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Headers;

use super::Shared;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is still being sent, waits, stalls, or has not begun.
    Running,
    /// All that was to be said was said.
    Complete,
    /// A rule cut it, or the upstream went down.
    Cut,
    /// The client went away.
    ClientGone,
}

/// A request as the upstream saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path as it came, without its query.
    pub path: String,
    /// What came after `?`.
    pub query: Option<String>,
    /// The header.
    pub headers: Headers,
    /// The status of the answer, once it is decided.
    pub status: Option<u16>,
    /// Bytes of the answer's body handed to the network.
    pub sent: u64,
    /// How the answer ended.
    pub end: End,
}

impl Seen {
    /// The `Range` header.
    pub fn range(&self) -> Option<&str> {
        self.headers.get("Range")
    }
}

#[derive(Debug, Default)]
pub(super) struct Log {
    seen: Vec<Seen>,
    /// Number of the first of `seen`: it grows when the log is forgotten, so that requests that
    /// are still being answered don't write into the entry of another.
    first: usize,
    pub(super) active: usize,
    /// Those of the active ones whose client can't have the whole answer yet.
    unanswered: usize,
    pub(super) max_active: usize,
    pub(super) connections: usize,
}

impl Log {
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    pub(super) fn forget(&mut self) {
        self.first += self.seen.len();
        self.seen.clear();
        self.connections = 0;
        self.max_active = self.unanswered;
    }

    fn entry(&mut self, number: usize) -> Option<&mut Seen> {
        self.seen.get_mut(number.checked_sub(self.first)?)
    }
}

/// A request that is being answered; it counts as active until dropped.
pub(super) struct Ticket {
    shared: Arc<Shared>,
    number: usize,
    answered: AtomicBool,
}

impl Ticket {
    pub(super) fn take(shared: &Arc<Shared>, seen: Seen) -> Self {
        let mut log = shared.log.lock();
        let number = log.first + log.seen.len();
        log.seen.push(seen);
        log.active += 1;
        log.unanswered += 1;
        log.max_active = log.max_active.max(log.unanswered);
        Self { shared: Arc::clone(shared), number, answered: AtomicBool::new(false) }
    }

    /// The last bytes are about to be written: the client may ask on before we hear of it again.
    pub(super) fn answers(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.shared.log.lock().unanswered -= 1;
        }
    }

    pub(super) fn status(&self, status: u16) {
        self.change(|seen| seen.status = Some(status));
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.change(|seen| seen.sent += bytes);
    }

    pub(super) fn end(&self, end: End) {
        self.change(|seen| seen.end = end);
    }

    fn change(&self, how: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.shared.log.lock().entry(self.number) {
            how(seen);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answers();
        let mut log = self.shared.log.lock();
        log.active -= 1;
        // Still running here means that the whole connection was dropped: we went down.
        if let Some(seen) = log.entry(self.number).filter(|seen| seen.end == End::Running) {
            seen.end = End::Cut;
        }
    }
}
