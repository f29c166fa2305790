//! The phases and their times, with tokio's clock standing still.

use std::future::pending;

use tokio::time::Instant;

use super::*;

const TIMING: Timing = Timing { delay: Duration::from_secs(5), grace: Duration::from_secs(60) };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A life that runs, its handle and its tasks.
fn running(lifecycle: Lifecycle) -> (LifeHandle, Tasks, tokio::task::JoinHandle<Exit>) {
    let (life, tasks) = (lifecycle.handle(), lifecycle.tasks());
    let end = tokio::spawn(lifecycle.run_until_stopped(tasks.clone()));
    (life, tasks, end)
}

#[tokio::test(start_paused = true)]
async fn ready_when_everything_is_assembled_and_every_latch_released() {
    let lifecycle = Lifecycle::new(TIMING);
    let life = lifecycle.handle();
    let (first, second) = (life.latch("database"), life.latch("listener"));
    assert_eq!(life.waiting_for(), ["start", "database", "listener"]);
    first.release();
    second.release();
    assert_eq!(life.waiting_for(), ["start"]);
    assert_eq!(life.phase(), Phase::Starting);
    let (life, _, _) = running(lifecycle);
    life.reached(Phase::Ready).await;
    assert!(life.is_ready());
}

/// A service manager's socket, and whether it was told that the process has started.
struct Manager {
    socket: std::os::unix::net::UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Manager {
    fn of(lifecycle: Lifecycle) -> (Manager, Lifecycle) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("a socket");
        let name = path.to_string_lossy().into_owned();
        let notify = Notify::from_env(&|key| (key == "NOTIFY_SOCKET").then(|| name.clone()));
        (Manager { socket, _dir: dir }, lifecycle.with_notify(notify))
    }

    fn was_told(&self) -> bool {
        let mut buffer = [0; 64];
        self.socket.recv(&mut buffer).is_ok_and(|size| buffer[..size] == *b"READY=1\n")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_manager_is_told_when_it_is_ready_and_not_before() {
    let (manager, lifecycle) = Manager::of(Lifecycle::new(TIMING));
    let waits = lifecycle.handle().latch("control");
    let (life, _, _) = running(lifecycle);
    tokio::time::sleep(PATIENCE - seconds(1)).await;
    assert!(!manager.was_told());
    waits.release();
    life.reached(Phase::Ready).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(manager.was_told());
}

#[tokio::test(start_paused = true)]
async fn a_service_manager_does_not_wait_for_what_may_take_days() {
    let (manager, lifecycle) = Manager::of(Lifecycle::new(TIMING));
    let _waits = lifecycle.handle().latch("control");
    let (life, _, _) = running(lifecycle);
    tokio::time::sleep(PATIENCE + seconds(1)).await;
    assert!(manager.was_told() && !life.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_lost_latch_never_becomes_ready_and_a_later_one_holds_again() {
    let lifecycle = Lifecycle::new(TIMING);
    let (life, _, _) = running(lifecycle);
    life.reached(Phase::Ready).await;
    let later = life.latch("control");
    assert_eq!((life.phase(), life.waiting_for()), (Phase::Starting, vec!["control"]));
    later.release();
    assert!(life.is_ready());
    drop(life.latch("failed"));
    assert_eq!((life.is_ready(), life.waiting_for()), (false, vec!["failed"]));
}

#[tokio::test(start_paused = true)]
async fn stop_is_not_ready_at_once_then_soft_after_the_delay() {
    let (life, _, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    let began = Instant::now();
    life.stop();
    assert_eq!(life.phase(), Phase::Draining);
    assert!(!life.soft().is_cancelled());
    life.soft().cancelled().await;
    assert_eq!(began.elapsed(), seconds(5));
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
    assert_eq!(began.elapsed(), seconds(5), "without work there is nothing to wait for");
    assert_eq!(life.phase(), Phase::Stopping);
    assert!(life.hard().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn work_has_the_grace_and_background_goes_on_with_it() {
    let (life, tasks, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    let (soft, hard) = (life.soft(), life.hard());
    let began = Instant::now();
    let work = tasks.spawn("transfer", async move {
        soft.cancelled().await;
        tokio::time::sleep(seconds(30)).await;
        hard.is_cancelled()
    });
    let hard = life.hard();
    let flusher = tasks.spawn_background("flush", async move { hard.cancelled().await });
    life.stop();
    assert!(!work.await.expect("no panic"), "the work wasn't cut");
    flusher.await.expect("no panic");
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
    assert_eq!(began.elapsed(), seconds(35));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_grace_cuts() {
    let (life, tasks, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    let hard = life.hard();
    let began = Instant::now();
    tasks.spawn("transfer", async move { hard.cancelled().await });
    life.stop();
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
    assert_eq!(began.elapsed(), seconds(65));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_is_now() {
    for before_soft in [true, false] {
        let (life, tasks, end) = running(Lifecycle::new(TIMING));
        life.reached(Phase::Ready).await;
        let hard = life.hard();
        tasks.spawn("transfer", async move { hard.cancelled().await });
        let began = Instant::now();
        life.signalled("SIGTERM");
        let wait = if before_soft { 1 } else { 7 };
        tokio::time::sleep(seconds(wait)).await;
        assert_eq!(life.soft().is_cancelled(), !before_soft);
        life.signalled("SIGINT");
        assert_eq!(end.await.expect("no panic"), Exit::Ok);
        assert_eq!(began.elapsed(), seconds(wait));
        assert!(life.soft().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_the_hard_token_is_left_behind() {
    let (life, tasks, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    tasks.spawn("stubborn", pending::<()>());
    let began = Instant::now();
    life.stop_now();
    assert_eq!(end.await.expect("no panic"), Exit::Failure);
    assert_eq!(began.elapsed(), LAST_MOMENT);
    assert_eq!(tasks.live(), [("stubborn", 1)]);
}

#[tokio::test(start_paused = true)]
async fn stopped_while_starting_skips_the_delay() {
    let lifecycle = Lifecycle::new(TIMING);
    let life = lifecycle.handle();
    let began = Instant::now();
    life.stop();
    assert!(life.soft().is_cancelled(), "whatever is being waited for can give up");
    let (_, _, end) = running(lifecycle);
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_that_ends_or_panics_stops_the_process() {
    for panics in [true, false] {
        let (_, tasks, end) = running(Lifecycle::new(TIMING));
        tasks.spawn_critical("listener", async move { assert!(!panics, "listener broke") });
        assert_eq!(end.await.expect("no panic"), Exit::Failure, "{panics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_in_the_background_stops_the_process_and_work_has_its_grace() {
    let (life, tasks, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    let (soft, hard) = (life.soft(), life.hard());
    let work = tasks.spawn("transfer", async move {
        soft.cancelled().await;
        tokio::time::sleep(seconds(30)).await;
        hard.is_cancelled()
    });
    let other = life.hard();
    tasks.spawn_critical_background("flush", async move { other.cancelled().await });
    tasks.spawn_critical_background("writer", async { panic!("writer broke") });
    assert!(!work.await.expect("no panic"), "the work wasn't cut");
    assert_eq!(end.await.expect("no panic"), Exit::Failure);
}

#[tokio::test(start_paused = true)]
async fn a_critical_task_may_end_when_the_process_does() {
    let (life, tasks, end) = running(Lifecycle::new(TIMING));
    life.reached(Phase::Ready).await;
    let soft = life.soft();
    tasks.spawn_critical("listener", async move { soft.cancelled().await });
    life.stop();
    assert_eq!(end.await.expect("no panic"), Exit::Ok);
}

#[tokio::test(start_paused = true)]
async fn phases_can_be_watched() {
    let (life, _, end) = running(Lifecycle::new(TIMING));
    let mut phases = life.subscribe();
    let mut seen = vec![phases.borrow_and_update().name()];
    life.reached(Phase::Ready).await;
    seen.push(phases.borrow_and_update().name());
    life.stop();
    seen.push(phases.borrow_and_update().name());
    end.await.expect("no panic");
    seen.push(phases.borrow_and_update().name());
    assert_eq!(seen, ["starting", "ready", "draining", "stopping"]);
}
