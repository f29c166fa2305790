//! A clock that somebody set is said in the log, once, and one that runs is not.

use std::sync::Arc;

use ncps_runtime::clock::{Clock, ManualClock, UnixTime};
use ncps_runtime::logs::capture;
use tokio_util::sync::CancellationToken;

use super::super::{HOUSEKEEPING, housekeeping};

/// Seconds that pass between two looks.
const PASS: i64 = HOUSEKEEPING.as_secs() as i64;

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_is_said() {
    let (log, clock, stop) = (capture(), ManualClock::at(UnixTime(1_000_000)), CancellationToken::new());
    let mark = log.mark();
    let keeper = tokio::spawn(housekeeping(Arc::new(clock.clone()), stop.clone()));
    let said = || {
        let of_clock =
            log.since(mark).into_iter().filter(|event| event.message.starts_with("the clock was set"));
        of_clock.map(|event| (event.message, event.fields["seconds"].clone())).collect::<Vec<_>>()
    };
    // In the middle between two looks, and to the middle between the next two.
    tokio::time::sleep(HOUSEKEEPING / 2).await;
    let after_a_look = async |moved: i64| {
        clock.set(clock.now().plus_seconds(moved));
        tokio::time::sleep(HOUSEKEEPING).await;
        said()
    };
    assert_eq!(after_a_look(PASS).await, [], "it runs");
    let mut expected =
        vec![("the clock was set forward, or the machine slept".to_owned(), "3600".to_owned())];
    assert_eq!(after_a_look(PASS + 3600).await, expected);
    assert_eq!(after_a_look(PASS).await, expected, "said once");
    expected.push(("the clock was set back".to_owned(), "-7200".to_owned()));
    assert_eq!(after_a_look(PASS - 7200).await, expected);
    stop.cancel();
    keeper.await.expect("it ends");
}
