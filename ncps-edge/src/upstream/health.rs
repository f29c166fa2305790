//! Whether an upstream is worth asking. After three outages in a row it is left alone for a second, then for
//! twice as long each time it fails again, at most ten seconds: long enough not to tax every request with its
//! timeout, short enough to notice within seconds that it is back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const PATIENCE: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outages: u32,
    paused_until: Option<Instant>,
}

impl Health {
    /// Whether a request may be made now. At the end of a pause one request is let through to try.
    pub(super) fn admits(&self) -> bool {
        let mut state = self.state.lock();
        match state.paused_until {
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.paused_until = Some(Instant::now() + FIRST_PAUSE);
                true
            }
            None => true,
        }
    }

    /// 0: asked as usual; 1: the next request tries; 2: left alone.
    pub(super) fn state(&self) -> u64 {
        match self.state.lock().paused_until {
            None => 0,
            Some(until) if until <= Instant::now() => 1,
            Some(_) => 2,
        }
    }

    pub(super) fn answered(&self) {
        *self.state.lock() = State::default();
    }

    /// Returns whether this outage began a pause.
    pub(super) fn outage(&self) -> bool {
        let mut state = self.state.lock();
        state.outages = state.outages.saturating_add(1);
        if state.outages < PATIENCE {
            return false;
        }
        let doublings = (state.outages - PATIENCE).min(8);
        state.paused_until = Some(Instant::now() + (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE));
        state.outages == PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_pauses_after_three_and_recovers_with_one_answer() {
        let health = Health::default();
        assert!(!health.outage() && !health.outage() && health.admits());
        assert!(health.outage(), "the third begins a pause");
        assert!(!health.admits() && health.state() == 2);
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(health.state(), 1);
        assert!(health.admits(), "one may try");
        assert!(!health.admits(), "only one");
        health.answered();
        assert_eq!(health.state(), 0);
        assert!(health.admits() && health.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_ten_seconds() {
        let health = Health::default();
        for _ in 0..40 {
            health.outage();
        }
        tokio::time::advance(Duration::from_millis(9_900)).await;
        assert!(!health.admits());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(health.admits());
    }
}
