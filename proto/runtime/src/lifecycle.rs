//! How a process starts, becomes ready, drains and stops.
//!
//! Starting → Ready → Draining → Stopping. The first SIGTERM or SIGINT makes the process not ready at once;
//! after the delay the soft token fires and no new connections are taken; running work then has the grace.
//! A second signal, or the end of the grace, fires the hard token: whatever still runs ends now.
//!
//! Knows tokens, phases and time. Absent: what ready means (whoever must be ready holds a [`ReadyLatch`])
//! and what work there is ([`Tasks`] knows).

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;
use crate::systemd::Notify;
use crate::tasks::Tasks;

mod handle;

pub use handle::{LifeHandle, Phase, ReadyLatch};

/// How long tasks may take to end once the hard token fired: enough to give up leases and to write down
/// what is in memory, short enough for whoever pressed the key twice.
pub const LAST_MOMENT: Duration = Duration::from_secs(5);
/// How long a service manager is not told that the process has started, because it is not ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the request to stop until no new connections are taken.
    pub delay: Duration,
    /// From then until running work is cut.
    pub grace: Duration,
}

/// The life of a process, in the hands of its `main`.
pub struct Lifecycle {
    life: LifeHandle,
    timing: Timing,
    /// Held until everything is put together, so that an early latch's release isn't taken for all.
    assembled: ReadyLatch,
    notify: Notify,
}

impl Lifecycle {
    /// A process that is starting.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        let life = LifeHandle::new();
        let assembled = life.latch("start");
        Self { life, timing, assembled, notify: Notify::nobody() }
    }

    /// Tells the service manager when the process is ready and when it stops.
    #[must_use]
    pub fn with_notify(mut self, notify: Notify) -> Self {
        self.notify = notify;
        self
    }

    /// What the parts of the process get.
    #[must_use]
    pub fn handle(&self) -> LifeHandle {
        self.life.clone()
    }

    /// The tracker of this process' tasks.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.handle())
    }

    /// Asks the process to stop, like a first signal.
    pub fn stop(&self) {
        self.life.stop();
    }

    /// Listens to SIGTERM and SIGINT from now on. Before [`Self::run_until_stopped`] a signal fires the soft
    /// token at once, for parts that wait for something while they are put together.
    ///
    /// # Errors
    /// The system's, when a handler can't be installed.
    pub fn install_signals(&self) -> io::Result<()> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(forward(self.handle(), terminate, "SIGTERM"));
        tokio::spawn(forward(self.handle(), interrupt, "SIGINT"));
        Ok(())
    }

    /// Runs until the process is asked to stop and its tasks have ended. Call it when everything is put
    /// together: from here on, the process is ready when the last latch is released.
    ///
    /// Returns [`Exit::Failure`] when [`LifeHandle::fail`] was called, or when tasks didn't end even within
    /// [`LAST_MOMENT`] of the hard token; work that was cut after its grace is a warning only.
    pub async fn run_until_stopped(self, tasks: Tasks) -> Exit {
        let Self { life, timing, assembled, notify } = self;
        life.run();
        assembled.release();
        tell_when_started(&life, &notify).await;
        life.reached(Phase::Draining).await;
        notify.stopping();
        tracing::info!(delay_ms = millis(timing.delay), grace_ms = millis(timing.grace), "draining");
        drain(&life, &tasks, timing).await;
        life.end();
        ended(&life, &tasks).await
    }
}

async fn forward(life: LifeHandle, mut signals: Signal, name: &'static str) {
    while signals.recv().await.is_some() {
        life.signalled(name);
    }
}

/// The service manager is told when the process is ready. What it waits for, such as control, may take days, in which a
/// manager would start it again and again: so it hears that first [`PATIENCE`] after everything was put together.
async fn tell_when_started(life: &LifeHandle, notify: &Notify) {
    let ready = life.reached(Phase::Ready);
    if tokio::time::timeout(PATIENCE, ready).await.is_err() {
        notify.ready();
        life.reached(Phase::Ready).await;
    }
    if life.is_ready() {
        tracing::info!("ready");
        // To be told again changes nothing for it.
        notify.ready();
    }
}

async fn drain(life: &LifeHandle, tasks: &Tasks, timing: Timing) {
    let (soft, hard) = (life.soft(), life.hard());
    tokio::select! {
        () = soft.cancelled() => {}
        () = tokio::time::sleep(timing.delay) => soft.cancel(),
    }
    // In this order, so that a process told to end now doesn't speak of cutting when nothing runs.
    let finished = tokio::select! {
        biased;
        finished = tasks.wait_for_work(timing.grace) => finished,
        () = hard.cancelled() => false,
    };
    if !finished {
        tracing::warn!(running = %names(tasks), "cutting what still runs");
    }
}

async fn ended(life: &LifeHandle, tasks: &Tasks) -> Exit {
    if !tasks.wait(LAST_MOMENT).await {
        tracing::error!(running = %names(tasks), "stopped without the end of these tasks");
        return Exit::Failure;
    }
    tracing::info!("stopped");
    if life.has_failed() { Exit::Failure } else { Exit::Ok }
}

fn names(tasks: &Tasks) -> String {
    let live = tasks.live();
    live.iter().map(|(name, count)| format!("{name} ({count})")).collect::<Vec<_>>().join(", ")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
