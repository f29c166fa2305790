//! One process' worth of a cluster: its life and its tasks. All of them live in the test's process.

use std::time::Duration;

use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{LifeHandle, Lifecycle, Timing};
use ncps_runtime::tasks::Tasks;
use tokio::task::JoinHandle;

use crate::eventually;

const GRACE: Duration = Duration::from_secs(20);

/// A process that runs.
pub(super) struct Plane {
    pub(super) life: LifeHandle,
    tasks: Tasks,
    stopped: JoinHandle<Exit>,
}

/// A process to be, for whoever puts it together.
pub(super) fn begun() -> (Lifecycle, Tasks) {
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: GRACE });
    let tasks = life.tasks();
    (life, tasks)
}

/// The same when it is put together.
pub(super) fn running(life: Lifecycle, tasks: Tasks) -> Plane {
    let handle = life.handle();
    let stopped = tokio::spawn(life.run_until_stopped(tasks.clone()));
    Plane { life: handle, tasks, stopped }
}

impl Plane {
    /// Waits until it is ready.
    pub(super) async fn ready(&self) {
        eventually("the process is ready", async || self.life.is_ready()).await;
    }

    /// As a first SIGTERM does; ends when all that ran has ended.
    pub(super) async fn stop(self) {
        self.life.stop();
        self.ended().await;
    }

    /// Without a grace for what runs.
    pub(super) async fn stop_now(self) {
        self.life.stop_now();
        self.ended().await;
    }

    async fn ended(self) {
        let exit = self.stopped.await.expect("the life of a process ends");
        assert_eq!(exit, Exit::Ok, "still running: {:?}", self.tasks.live());
        assert_eq!(self.tasks.panics(), 0, "a task panicked");
    }
}
