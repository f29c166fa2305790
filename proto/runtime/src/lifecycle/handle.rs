//! What the parts of a process hold of its life: its phase, its tokens, and latches until they are ready.
//!
//! Knows which phase follows which. Absent: times; [`super::Lifecycle`] has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where in its life a process is; only ever later, except that a latch taken when Ready leads back to
/// Starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Something isn't ready yet.
    Starting,
    /// Everything is ready.
    Ready,
    /// Asked to stop: not ready; connections are taken until the soft token fires, running work finishes.
    Draining,
    /// Work has ended or is being cut.
    Stopping,
}

impl Phase {
    /// The name in logs, metrics and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

struct Inner {
    phase: watch::Sender<Phase>,
    /// Latches that weren't released, by number and name.
    held: Mutex<Vec<(u64, &'static str)>>,
    soft: CancellationToken,
    hard: CancellationToken,
    /// [`super::Lifecycle::run_until_stopped`] is there to time the end.
    running: AtomicBool,
    failed: AtomicBool,
}

/// What parts of a process hold of its life. Clones are the same life.
#[derive(Clone)]
pub struct LifeHandle(Arc<Inner>);

impl LifeHandle {
    /// A life that starts.
    pub(super) fn new() -> Self {
        let hard = CancellationToken::new();
        Self(Arc::new(Inner {
            phase: watch::Sender::new(Phase::Starting),
            held: Mutex::new(Vec::new()),
            soft: hard.child_token(),
            hard,
            running: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }))
    }

    /// From here on somebody times the end.
    pub(super) fn run(&self) {
        self.0.running.store(true, Ordering::SeqCst);
    }

    /// Work has ended or had its time.
    pub(super) fn end(&self) {
        self.0.phase.send_replace(Phase::Stopping);
        self.0.hard.cancel();
    }

    /// Whether something the process can't do without has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::SeqCst)
    }

    /// Where in its life the process is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Whether the process wants new work: `/readyz`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Ready
    }

    /// Fires when no new connections are to be taken. Fires with the hard token at the latest.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.0.soft.clone()
    }

    /// Fires when everything is to end now; also once all work has ended, for what runs in the background.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.0.hard.clone()
    }

    /// The phase as it changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Returns once the process is in this phase or a later one.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.subscribe();
        phases.wait_for(|now| *now >= phase).await.expect("this handle keeps the sender");
    }

    /// Keeps the process from being ready until the latch is released.
    pub fn latch(&self, name: &'static str) -> ReadyLatch {
        let mut held = self.0.held.lock();
        let id = held.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        held.push((id, name));
        self.0.settle(&held);
        ReadyLatch { life: self.clone(), id }
    }

    /// The names of the latches that are still held, for `/readyz` to say what is missing.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.0.held.lock().iter().map(|(_, name)| *name).collect()
    }

    /// Asks the process to stop, like a first signal. Later calls change nothing.
    pub fn stop(&self) {
        let began = self.0.phase.send_if_modified(|phase| {
            let begins = *phase < Phase::Draining;
            *phase = (*phase).max(Phase::Draining);
            begins
        });
        // While parts are still being put together nothing is served that could drain.
        if began && !self.0.running.load(Ordering::SeqCst) {
            self.0.soft.cancel();
        }
    }

    /// Ends everything now, like a second signal.
    pub fn stop_now(&self) {
        self.stop();
        self.0.hard.cancel();
    }

    /// Asks the process to stop because something it can't do without has failed: it will end with
    /// [`crate::exit::Exit::Failure`].
    pub fn fail(&self) {
        self.0.failed.store(true, Ordering::SeqCst);
        self.stop();
    }

    pub(super) fn signalled(&self, name: &'static str) {
        if self.phase() < Phase::Draining {
            tracing::info!(signal = name, "asked to stop");
            self.stop();
        } else {
            tracing::warn!(signal = name, "asked to stop again: ending now");
            self.stop_now();
        }
    }
}

impl Inner {
    /// Starting or Ready, as the latches have it; nothing once the process is asked to stop.
    fn settle(&self, held: &[(u64, &'static str)]) {
        let now = if held.is_empty() { Phase::Ready } else { Phase::Starting };
        self.phase.send_if_modified(|phase| {
            let changes = *phase < Phase::Draining && *phase != now;
            if changes {
                *phase = now;
            }
            changes
        });
    }
}

/// Something that isn't ready yet. Dropped without [`Self::release`] it stays held for good: whoever should
/// have become ready has failed.
#[must_use = "the process becomes ready when the latch is released"]
pub struct ReadyLatch {
    life: LifeHandle,
    id: u64,
}

impl ReadyLatch {
    /// It is ready now.
    pub fn release(self) {
        let inner = &self.life.0;
        let mut held = inner.held.lock();
        held.retain(|(id, _)| *id != self.id);
        inner.settle(&held);
    }
}
