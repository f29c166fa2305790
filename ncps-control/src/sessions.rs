//! The attached edges, and what depends on their being there: turns and placements. Decides nothing about
//! either (see [`crate::leases`], [`crate::placements`]); it joins them to sessions and to the time.
//!
//! What is said to an edge goes through a bounded queue. An edge that does not keep up is cut: after a break
//! everything is said again, so nothing is lost that way, while a queue without a limit would only hide it.

use std::collections::HashMap;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{Directive, EdgeSettings, HeldNar, Hello, Result, Turn};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::leases::{Answer, Leases};
use crate::placements::Placements;

/// Directives that may wait for one edge.
const QUEUE: usize = 1024;
/// Store paths in one invalidation: 20 bytes each on the wire.
const INVALIDATED_AT_ONCE: usize = 4096;

type Directives = mpsc::Receiver<Result<Directive>>;

/// One edge, from its hello to the end of either stream.
#[derive(Debug)]
struct Session {
    /// Tells it from an earlier session of the same instance.
    id: u64,
    url: Option<String>,
    directives: mpsc::Sender<Result<Directive>>,
    cut: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    sessions: HashMap<String, Session>,
    leases: Leases,
    placements: Placements,
}

/// Every attached edge.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

/// A session as its own task sees it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) id: u64,
    pub(crate) directives: Directives,
    /// Fires when the session is to end: taken over, too slow, or shutting down.
    pub(crate) cut: CancellationToken,
}

impl Sessions {
    /// Opens a session; `settings` are the first thing that the edge hears. A former session of the same
    /// instance ends, and its turns go over to this one.
    pub(crate) fn open(&self, hello: &Hello, settings: EdgeSettings) -> Opened {
        let (sender, directives) = mpsc::channel(QUEUE);
        // The queue is new and has room.
        sender.try_send(Ok(Directive::Configure(Box::new(settings)))).ok();
        let cut = CancellationToken::new();
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.placements.attached(&hello.instance);
        let session = Session { id, url: hello.url.clone(), directives: sender, cut: cut.clone() };
        if let Some(former) = state.sessions.insert(hello.instance.clone(), session) {
            former.cut.cancel();
        }
        Opened { id, directives, cut }
    }

    /// A session is over. Turns end with it, unless the instance has a newer one.
    pub(crate) fn close(&self, instance: &str, id: u64) {
        let mut state = self.state.lock();
        if state.sessions.get(instance).is_none_or(|session| session.id != id) {
            return;
        }
        state.sessions.remove(instance);
        state.leases.drop_holder(instance);
        state.placements.detached(instance, now());
    }

    /// Cuts every session, as for a stop: edges attach again where they can.
    pub(crate) fn cut_all(&self) {
        for session in self.state.lock().sessions.values() {
            session.cut.cancel();
        }
    }

    /// Tells every edge to drop narinfos from memory.
    pub(crate) fn invalidate(&self, hashes: &[StorePathHash]) {
        let state = self.state.lock();
        for some in hashes.chunks(INVALIDATED_AT_ONCE) {
            for (instance, session) in &state.sessions {
                let sent = session.directives.try_send(Ok(Directive::Invalidate(some.to_vec())));
                if sent.is_err() && !session.cut.is_cancelled() {
                    tracing::warn!(%instance, "edge does not keep up with invalidations, its session is cut");
                    session.cut.cancel();
                }
            }
        }
    }

    /// Asks for a turn; see [`Leases`].
    pub(crate) fn begin(&self, instance: &str, name: NarFileName) -> Turn {
        let mut state = self.state.lock();
        match state.leases.begin(instance, name, now()) {
            Answer::Granted => Turn::Yours,
            Answer::HeldBy(holder) => {
                Turn::Theirs(state.sessions.get(&holder).and_then(|session| session.url.clone()))
            }
        }
    }

    /// Gives a turn back.
    pub(crate) fn end(&self, instance: &str, name: NarFileName) {
        self.state.lock().leases.end(instance, name);
    }

    /// A page of an edge's inventory.
    pub(crate) fn holds(&self, instance: &str, held: &[HeldNar], last: bool) {
        self.state.lock().placements.page(instance, held.iter().map(|held| held.name), last);
    }

    /// A file came into an edge's store.
    pub(crate) fn committed(&self, instance: &str, name: NarFileName) {
        self.state.lock().placements.committed(instance, name);
    }

    /// Returns the memory of what ran out.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock();
        state.leases.expire(now());
        state.placements.expire(now());
        tracing::trace!(turns = state.leases.len(), sessions = state.sessions.len(), "expired");
    }

    /// The URLs of attached edges that hold a file.
    pub(crate) fn holders(&self, name: NarFileName) -> Vec<String> {
        let state = self.state.lock();
        let holders = state.placements.holders(name);
        holders.iter().filter_map(|holder| state.sessions.get(*holder)?.url.clone()).collect()
    }

    /// How many turns are taken, those that ran out and were not yet forgotten included.
    pub(crate) fn leases(&self) -> usize {
        self.state.lock().leases.len()
    }

    /// How many edges are attached.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().sessions.len()
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
