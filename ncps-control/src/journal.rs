//! What happened: the history of paths and NAR files, the audit log, and who listens to both live.
//!
//! A note of our own doings waits in memory for the index writer's next batch, so that nobody waits for it; where
//! too many wait, later ones are dropped and counted. A change that somebody asked for is written before they are
//! answered: at once, or, where such changes come by the thousand, with the next batch, too. History is bounded by
//! `KEPT` events and `KEPT_FOR`; the audit log is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::admin::{Caller, Event, EventKind};
use ncps_proto::{Code, Error, Result};
use ncps_runtime::clock::{Clock, UnixTime};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};

use crate::db::Db;

/// History has at most the last so many events, those of the audit log counted.
pub(crate) const KEPT: u64 = 200_000;
/// History goes back so many seconds: 90 days.
pub(crate) const KEPT_FOR: i64 = 90 * 24 * 3600;
/// Events that may wait for their rows.
const MAX_WAITING: usize = 65_536;
/// Events that a live listener may be behind.
const MAX_BEHIND: usize = 4096;
/// How long a row of the audit log is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often history is cut to its bounds, in events.
const TRIM_EVERY: u64 = 1000;

/// Something to be noted.
#[derive(Clone, Debug)]
pub struct Note {
    kind: EventKind,
    path: Option<StorePathHash>,
    nar: Option<NarFileName>,
    detail: String,
}

impl Note {
    /// With what a reader needs beside; never a secret.
    pub fn new(kind: EventKind, detail: impl Into<String>) -> Note {
        Note { kind, path: None, nar: None, detail: detail.into() }
    }

    /// About a path.
    #[must_use]
    pub fn path(mut self, path: StorePathHash) -> Note {
        self.path = Some(path);
        self
    }

    /// About a NAR file.
    #[must_use]
    pub fn nar(mut self, nar: NarFileName) -> Note {
        self.nar = Some(nar);
        self
    }
}

/// What happens, as one listener hears it.
pub(crate) type Live = broadcast::Receiver<Arc<Event>>;

/// The journal.
pub struct Journal {
    db: Db,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    live: broadcast::Sender<Arc<Event>>,
    /// Something waits.
    pub(crate) dirty: Notify,
    /// Some of what waited has its rows.
    written: Notify,
}

struct State {
    last_id: u64,
    waiting: VecDeque<Arc<Event>>,
    dropped: u64,
    /// The last event after which history was cut.
    trimmed: u64,
}

impl Journal {
    /// Goes on where the database's journal ends.
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Journal {
        let last_id = db.last_event_at_open();
        let state = State { last_id, waiting: VecDeque::new(), dropped: 0, trimmed: 0 };
        let live = broadcast::Sender::new(MAX_BEHIND);
        Journal { db, clock, state: Mutex::new(state), live, dirty: Notify::new(), written: Notify::new() }
    }

    /// Notes a doing of our own. Waits for nothing, and never fails.
    pub fn note(&self, note: Note) {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.dropped += 1;
            if state.dropped % MAX_WAITING as u64 == 1 {
                tracing::warn!(dropped = state.dropped, "history has gaps: the database does not keep up");
            }
            return;
        }
        let event = Arc::new(self.event(&mut state, note, None));
        state.waiting.push_back(Arc::clone(&event));
        // Within the lock, so that listeners hear events in their order. Nobody has to listen.
        self.live.send(event).ok();
        drop(state);
        self.dirty.notify_one();
    }

    /// Notes a change that `caller` asked for: it is in the audit log when this returns.
    ///
    /// # Errors
    /// Where it can't be written.
    pub async fn audit(&self, caller: &Caller, note: Note) -> Result<()> {
        tracing::info!(who = %caller, kind = %note.kind, detail = note.detail, "changed");
        let event = self.event(&mut self.state.lock(), note, Some(caller.who.clone()));
        let event = Arc::new(event);
        self.db.write_events(std::slice::from_ref(&event)).await?;
        self.live.send(event).ok();
        Ok(())
    }

    /// As [`Journal::audit`], for changes of the index: it is written with their rows, or before them, if it is noted
    /// before them. Whoever answers waits for it with [`Journal::written`].
    pub(crate) fn audit_with_rows(&self, caller: &Caller, note: Note) -> Audited {
        tracing::info!(who = %caller, kind = %note.kind, detail = note.detail, "changed");
        let mut state = self.state.lock();
        let event = Arc::new(self.event(&mut state, note, Some(caller.who.clone())));
        let audited = Audited(event.id);
        state.waiting.push_back(Arc::clone(&event));
        self.live.send(event).ok();
        drop(state);
        self.dirty.notify_one();
        audited
    }

    /// Waits until it is in the audit log.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where that takes too long. It may be written yet.
    pub(crate) async fn written(&self, audited: Audited) -> Result<()> {
        let Audited(id) = audited;
        let written = self.wait_while(|state| state.waiting.front().is_some_and(|event| event.id <= id));
        let late = |_| Error::new(Code::Unavailable, "the audit log could not be written in time");
        tokio::time::timeout(PATIENCE, written).await.map_err(late)
    }

    async fn wait_while(&self, waits: impl Fn(&State) -> bool) {
        loop {
            let written = self.written.notified();
            if !waits(&self.state.lock()) {
                return;
            }
            written.await;
        }
    }

    fn event(&self, state: &mut State, note: Note, actor: Option<String>) -> Event {
        state.last_id += 1;
        let Note { kind, path, nar, detail } = note;
        Event { id: state.last_id, at: self.clock.now().0, kind, actor, path, nar, detail }
    }

    /// What happens from now on.
    pub(crate) fn listen(&self) -> Live {
        self.live.subscribe()
    }

    /// The oldest events that wait, at most `limit`. They wait until they are settled.
    pub(crate) fn waiting(&self, limit: usize) -> Vec<Arc<Event>> {
        self.state.lock().waiting.iter().take(limit).cloned().collect()
    }

    /// So many of the oldest have their rows. True where history is to be cut to its bounds.
    pub(crate) fn settle(&self, written: usize) -> Option<Bounds> {
        let mut state = self.state.lock();
        state.waiting.drain(..written);
        self.written.notify_waiters();
        let due = state.last_id >= state.trimmed + TRIM_EVERY || (state.trimmed == 0 && written > 0);
        due.then(|| {
            state.trimmed = state.last_id;
            let before = UnixTime(self.clock.now().0 - KEPT_FOR);
            Bounds { up_to: state.last_id.saturating_sub(KEPT), before }
        })
    }

    /// Waits until everything that was noted so far has its row.
    pub async fn flushed(&self) {
        self.wait_while(|state| !state.waiting.is_empty()).await;
    }
}

/// A note of the audit log that may wait for its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who asked is answered when it is written"]
pub(crate) struct Audited(u64);

/// What of history goes: rows without an actor that are either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) up_to: u64,
    pub(crate) before: UnixTime,
}

/// A listener that was too slow has missed something, and is told so.
pub(crate) fn too_slow(missed: u64) -> Error {
    Error::new(Code::Overloaded, format!("{missed} events were missed: the listener does not keep up"))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
