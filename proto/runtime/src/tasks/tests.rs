//! Names, counts and panics of tasks. What a panic looks like in the log is in `tests/logs.rs`, which has a
//! process and so a subscriber of its own.

use std::future::pending;

use tokio::sync::oneshot;

use super::*;
use crate::lifecycle::{Lifecycle, Timing};

fn tasks() -> Tasks {
    Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO }).tasks()
}

#[tokio::test]
async fn a_panicking_task_is_counted_and_seen_by_its_owner() {
    let tasks = tasks();
    let joined = tasks.spawn("transfer", async { panic!("disk on fire") }).await;
    assert!(joined.map(|(): ()| ()).expect_err("it panicked").is_panic());
    assert_eq!((tasks.panics(), tasks.live()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_living_are_known_by_name_until_they_end() {
    let tasks = tasks();
    let (finish, finished) = oneshot::channel::<()>();
    let one = tasks.spawn("transfer", async { finished.await.expect("told to finish") });
    let other = tasks.spawn("transfer", pending::<()>());
    let background = tasks.spawn_background("flush", pending::<()>());
    assert_eq!(tasks.live(), [("flush", 1), ("transfer", 2)]);
    assert!(!tasks.wait(Duration::from_secs(9)).await);
    finish.send(()).expect("it waits");
    one.await.expect("no panic");
    assert_eq!(tasks.live(), [("flush", 1), ("transfer", 1)]);
    other.abort();
    assert!(tasks.wait_for_work(Duration::from_secs(9)).await, "an aborted task has ended");
    background.abort();
    assert!(tasks.wait(Duration::from_secs(9)).await);
    assert_eq!((tasks.live(), tasks.panics()), (vec![], 0));
}

#[tokio::test]
async fn blocking_work_is_tracked_and_its_panics_counted() {
    let tasks = tasks();
    assert_eq!(tasks.spawn_blocking("hash", || 7).await.expect("no panic"), 7);
    let failed = tasks.spawn_blocking("hash", || panic!("no")).await;
    assert!(failed.map(|(): ()| ()).expect_err("it panicked").is_panic());
    assert_eq!((tasks.panics(), tasks.live()), (1, vec![]));
}

#[test]
fn panics_have_texts() {
    assert_eq!(panic_text(&"static"), "static");
    assert_eq!(panic_text(&"owned".to_owned()), "owned");
    assert_eq!(panic_text(&7), "(no message)");
}
