//! Which turn is next when the clock is set, and that the scheduler rings and leaves nothing behind.

use ncps_runtime::clock::SystemClock;
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Timing};

use super::*;
use crate::eviction::Zone;

const HOUR: i64 = 3600;

fn turns(schedule: &str, since: i64) -> Turns {
    let schedule = Schedule::parse(schedule, Zone::Named(chrono_tz::UTC)).expect("valid");
    Turns { schedule, since: UnixTime(since) }
}

#[test]
fn a_time_that_passed_is_not_lost_and_comes_once() {
    let mut turns = turns("0 * * * *", 10);
    assert_eq!(turns.next(UnixTime(10)), Some(UnixTime(HOUR)));
    let forward = UnixTime(9 * HOUR + 5);
    assert_eq!(turns.next(forward), Some(UnixTime(HOUR)), "the clock was set forward: it is due");
    turns.taken(forward);
    assert_eq!(turns.next(forward), Some(UnixTime(10 * HOUR)), "what was left out does not come again");
}

#[test]
fn a_clock_that_is_set_back_is_followed() {
    for schedule in ["0 * * * *", "@every 1h"] {
        let mut turns = turns(schedule, 1_000_000 * HOUR);
        assert_eq!(turns.next(UnixTime(1_000_000 * HOUR)), Some(UnixTime(1_000_001 * HOUR)));
        assert_eq!(turns.next(UnixTime(2 * HOUR)), Some(UnixTime(3 * HOUR)), "{schedule}");
    }
}

/// Goes as the machine's, so many seconds ahead.
struct Ahead(i64);

impl Clock for Ahead {
    fn now(&self) -> UnixTime {
        SystemClock.now().plus_seconds(self.0)
    }
}

#[tokio::test]
async fn it_rings_at_the_time_of_day_in_the_zone() {
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::from_secs(20) });
    let (tasks, bell) = (life.tasks(), Arc::new(Notify::new()));
    // Two seconds before three in the morning, in summer.
    let morning = UnixTime(1_782_867_600);
    let clock = Arc::new(Ahead(morning.0 - 2 - SystemClock.now().0));
    let paris = Zone::Named(chrono_tz::Europe::Paris);
    let schedule = Schedule::parse("0 3 * * *", paris).expect("valid");
    start(schedule, Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&bell), &tasks);
    tokio::time::timeout(Duration::from_secs(20), bell.notified()).await.expect("it rings");
    assert!(clock.now() >= morning, "not before");
    life.stop();
    assert_eq!(life.run_until_stopped(tasks).await, Exit::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_rings_again_and_again_and_leaves_nothing_behind() {
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::from_secs(20) });
    let (tasks, bell) = (life.tasks(), Arc::new(Notify::new()));
    let handle = tokio::runtime::Handle::current();
    let before = handle.metrics().num_alive_tasks();
    let schedule = Schedule::parse("@every 1s", Zone::Local).expect("valid");
    start(schedule, Arc::new(SystemClock), Arc::clone(&bell), &tasks);
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(20), bell.notified()).await.expect("it rings");
    }
    life.stop();
    assert_eq!(life.run_until_stopped(tasks).await, Exit::Ok);
    let gone = async {
        while handle.metrics().num_alive_tasks() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the scheduler's tasks are gone");
}
