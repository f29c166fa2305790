//! The tasks of a process: named, tracked, and heard when they panic.
//!
//! Nothing is spawned elsewhere. Work (requests, transfers) has the grace when the process stops; what runs
//! in the background for the work (flushing, heartbeats) ends after it, when the hard token fires. Absent:
//! restarting what failed.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error_span};

use crate::lifecycle::{LifeHandle, Phase};

/// Spawns and knows tasks. Clones know the same ones.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    life: LifeHandle,
    work: TaskTracker,
    background: TaskTracker,
    live: Mutex<BTreeMap<&'static str, usize>>,
    panics: AtomicU64,
}

impl Tasks {
    /// No tasks yet. A critical one that ends early makes this life fail.
    #[must_use]
    pub fn new(life: LifeHandle) -> Self {
        Self(Arc::new(Inner {
            life,
            work: TaskTracker::new(),
            background: TaskTracker::new(),
            live: Mutex::new(BTreeMap::new()),
            panics: AtomicU64::new(0),
        }))
    }

    /// The life that these tasks belong to.
    #[must_use]
    pub fn life(&self) -> &LifeHandle {
        &self.0.life
    }

    /// Spawns work. It should stop taking more when the soft token fires, and end when the hard one does.
    ///
    /// A panic is logged with the task's name and counted; the handle's owner sees it as a `JoinError`.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.work.spawn(self.named(name, future))
    }

    /// Spawns what serves the work: it runs on while work finishes, and ends when the hard token fires.
    pub fn spawn_background<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.0.background.spawn(self.named(name, future))
    }

    /// Spawns work that the process can't do without: when it panics, or ends before the process was asked
    /// to stop, the process drains and ends with a failure.
    pub fn spawn_critical<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn(name, self.watched(name, future))
    }

    /// [`Self::spawn_critical`] for what serves the work: it runs on while work finishes.
    pub fn spawn_critical_background<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn_background(name, self.watched(name, future))
    }

    /// The same work, whose end is seen from the moment on that it is spawned.
    fn watched<F: Future>(&self, name: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        let watch = CriticalWatch { life: self.0.life.clone(), name };
        async move {
            let _watch = watch;
            future.await
        }
    }

    /// Runs work that blocks, on a thread for that. It can't be cut: it should be short, or check the hard
    /// token itself.
    pub fn spawn_blocking<T, F>(&self, name: &'static str, work: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let live = Live::enter(&self.0, name);
        let (span, trace) = (error_span!(parent: None, "task", task = name), Context::current());
        self.0.work.spawn_blocking(move || {
            let (_entered, _traced) = (span.enter(), trace.attach());
            live.outcome(catch_unwind(AssertUnwindSafe(work)))
        })
    }

    /// How many tasks have panicked so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// What still runs: names, sorted, and how many of each.
    #[must_use]
    pub fn live(&self) -> Vec<(&'static str, usize)> {
        self.0.live.lock().iter().map(|(name, count)| (*name, *count)).collect()
    }

    /// Waits until no task is left, in the background neither; `false` when the time passes first. Tasks
    /// may still be spawned while it waits.
    pub async fn wait(&self, timeout: Duration) -> bool {
        let Inner { work, background, .. } = &*self.0;
        work.close();
        background.close();
        let all = async { tokio::join!(work.wait(), background.wait()) };
        tokio::time::timeout(timeout, all).await.is_ok()
    }

    /// Like [`Self::wait`], whatever runs in the background.
    pub async fn wait_for_work(&self, timeout: Duration) -> bool {
        self.0.work.close();
        tokio::time::timeout(timeout, self.0.work.wait()).await.is_ok()
    }

    fn named<F: Future>(&self, name: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        let live = Live::enter(&self.0, name);
        // At the level of errors, so that no filter takes the name off what the task reports. Without a parent,
        // which would be kept open: a task belongs to nobody, only to the trace in which it was spawned.
        let span = error_span!(parent: None, "task", task = name);
        let named = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            live.outcome(outcome)
        };
        named.instrument(span).with_current_context()
    }
}

/// A task's entry among the living. Removed on drop, so that an aborted task counts no longer either.
struct Live {
    tasks: Arc<Inner>,
    name: &'static str,
}

impl Live {
    fn enter(tasks: &Arc<Inner>, name: &'static str) -> Self {
        *tasks.live.lock().entry(name).or_insert(0) += 1;
        Self { tasks: Arc::clone(tasks), name }
    }

    fn outcome<T>(self, outcome: Result<T, Box<dyn Any + Send>>) -> T {
        outcome.unwrap_or_else(|payload| {
            self.tasks.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = self.name, panic = panic_text(&*payload), "task panicked");
            // Not a second panic: the handle's owner gets to see this one.
            resume_unwind(payload)
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut live = self.tasks.live.lock();
        match live.get_mut(self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(live.remove(self.name)),
        }
    }
}

/// Sees the end of a critical task, whichever way it ends.
struct CriticalWatch {
    life: LifeHandle,
    name: &'static str,
}

impl Drop for CriticalWatch {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if panicked || self.life.phase() < Phase::Draining {
            tracing::error!(
                task = self.name,
                panicked,
                "a task that should run until the end has ended: stopping"
            );
            self.life.fail();
        }
    }
}

/// The message of a panic, or that it had none.
#[must_use]
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests;
