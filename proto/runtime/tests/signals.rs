//! Real signals. One test in a program of its own, since a signal goes to the whole process.

use std::time::Duration;

use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Phase, Timing};
use rustix::process::{Signal, getpid, kill_process};

#[tokio::test]
async fn the_first_signal_drains_and_the_second_cuts() {
    let hours = Duration::from_secs(9999);
    let lifecycle = Lifecycle::new(Timing { delay: hours, grace: hours });
    lifecycle.install_signals().expect("handlers can be installed");
    let (life, tasks) = (lifecycle.handle(), lifecycle.tasks());
    let hard = life.hard();
    let transfer = tasks.spawn("transfer", async move { hard.cancelled().await });
    let end = tokio::spawn(lifecycle.run_until_stopped(tasks));
    life.reached(Phase::Ready).await;

    kill_process(getpid(), Signal::TERM).expect("sent");
    life.reached(Phase::Draining).await;
    assert!(!life.is_ready() && !life.soft().is_cancelled());

    kill_process(getpid(), Signal::INT).expect("sent");
    transfer.await.expect("no panic");
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
}
