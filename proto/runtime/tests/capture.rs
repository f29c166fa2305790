//! The capture of a process' warnings and errors, in a process of its own.

use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::logs::capture;

#[tokio::test]
async fn what_tasks_report_is_captured() {
    let captured = capture();
    let mark = captured.mark();
    let tasks = Lifecycle::new(Timing { delay: Default::default(), grace: Default::default() }).tasks();
    let broken = tasks.spawn("transfer", async { panic!("disk on fire") }).await;
    assert!(broken.map(|(): ()| ()).is_err());
    let events = capture().since(mark);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].message, "task panicked");
    assert_eq!(events[0].fields["task"], "transfer");
    assert_eq!(events[0].fields["panic"], "disk on fire");
}
