//! Waiting for conditions: polled often, given up after a stated patience, with a message that
//! says what never came. Absent on purpose: sleeping for a fixed time.

use std::time::{Duration, Instant};

/// How long the harness waits for anything that ought to happen, unless `NCPS_TEST_PATIENCE`
/// (whole seconds) says otherwise, e.g. on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks at a condition.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// [`PATIENCE`], or what the environment says.
pub fn patience() -> Duration {
    let seconds = std::env::var("NCPS_TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within [`patience`]; the message names `what`.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    eventually_some(what, async || condition().await.then_some(())).await;
}

/// Waits until `attempt` gives a value, and returns it.
///
/// # Panics
/// As [`eventually`].
pub async fn eventually_some<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let patience = patience();
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Checks that `condition` holds now and for all of `span`: for what must *not* happen, where
/// nothing but time can show it.
///
/// # Panics
/// As soon as it does not hold.
pub async fn always(what: &str, span: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(condition().await, "after {:?} no longer so: {what}", start.elapsed());
        tokio::time::sleep(POLL).await;
    }
}

/// Gives `future` the usual patience.
///
/// # Panics
/// If it is not ready by then; the message names `what`.
pub async fn in_time<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(patience(), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {:?} in vain: {what}", patience()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn eventually_polls_until_true() {
        let mut left = 3;
        eventually("the third look", async || {
            left -= 1;
            left == 0
        })
        .await;
        assert_eq!(left, 0);
    }

    #[tokio::test]
    #[should_panic(expected = "no longer so: an empty bag")]
    async fn always_notices_a_change() {
        let mut looks = 0;
        always("an empty bag", Duration::from_secs(5), async || {
            looks += 1;
            looks < 3
        })
        .await;
    }

    #[tokio::test]
    async fn a_ready_future_is_in_time() {
        assert_eq!(in_time("a ready value", async { 7 }).await, 7);
    }
}
