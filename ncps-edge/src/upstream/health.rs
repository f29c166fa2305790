//! Whether an upstream is worth asking. After three outages in a row it is left alone and probed in the
//! background (see `guarded`), so that no request pays for its timeouts; the first answer to a probe brings it
//! back. An upstream that asks for a pause itself (`Retry-After`) gets it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const PATIENCE: u32 = 3;
/// The longest pause that an upstream gets for the asking.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row, those that one event may have caused counted once.
    outages: u32,
    last: Option<Instant>,
    /// When the first of them was.
    since: Option<Instant>,
    /// It asked not to be asked before.
    paused_until: Option<Instant>,
    /// An absence was stated without it.
    unheard: bool,
    /// Somebody finds out whether it is back.
    probed: bool,
}

impl State {
    fn is_open(&self) -> bool {
        self.outages >= PATIENCE
    }

    fn pause_left(&self) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl Health {
    /// Whether a request may be made now.
    pub(super) fn admits(&self) -> bool {
        let state = self.state.lock();
        !state.is_open() && state.pause_left().is_none()
    }

    /// Whether it is left alone because it is down.
    pub(crate) fn is_down(&self) -> bool {
        self.state.lock().is_open()
    }

    /// What is left of a pause that it asked for.
    pub(super) fn pause_left(&self) -> Option<Duration> {
        self.state.lock().pause_left()
    }

    /// For how long it has been left alone because it is down.
    pub(super) fn down_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.since.filter(|_| state.is_open()).map(|since| since.elapsed())
    }

    /// It answered. Returns whether an absence was stated without it since it last did.
    pub(crate) fn answered(&self) -> bool {
        let mut state = self.state.lock();
        let kept = State { paused_until: state.paused_until, probed: state.probed, ..State::default() };
        std::mem::replace(&mut *state, kept).unheard
    }

    /// It asked for a pause, which is no outage. A longer one stands.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause.min(LONGEST_PAUSE);
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// A request that began at `started` failed. Many that run when a connection breaks fail together: they say no
    /// more than one, unless each of them `waited` in vain. Returns whether it is left alone from here on.
    pub(crate) fn outage(&self, started: Instant, waited: bool) -> bool {
        let mut state = self.state.lock();
        if !waited && state.last.is_some_and(|last| started <= last) {
            return false;
        }
        state.last = Some(Instant::now());
        state.outages = state.outages.saturating_add(1);
        state.since.get_or_insert_with(Instant::now);
        state.outages == PATIENCE
    }

    /// An absence is stated without it.
    pub(super) fn unheard(&self) {
        self.state.lock().unheard = true;
    }

    /// Whether a probe is to be started: at most one runs.
    pub(crate) fn begin_probe(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().probed, true)
    }

    pub(crate) fn end_probe(&self) {
        self.state.lock().probed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_left_alone_after_three_until_it_answers() {
        let health = Health::default();
        let outage = || health.outage(Instant::now(), true);
        assert!(!outage() && !outage() && health.admits());
        assert_eq!(health.down_for(), None);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(outage() && !health.admits(), "the third");
        assert!(!outage(), "said once");
        assert_eq!(health.down_for(), Some(Duration::from_secs(7)), "since the first");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!health.admits(), "time alone heals nothing");
        assert!(!health.answered());
        assert!(health.admits() && health.down_for().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_together_counts_once() {
        let (health, started) = (Health::default(), Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..100 {
            assert!(!health.outage(started, false) && health.admits());
        }
        for _ in 0..2 {
            let later = Instant::now() + Duration::from_millis(1);
            tokio::time::advance(Duration::from_secs(1)).await;
            health.outage(later, false);
        }
        assert!(!health.admits(), "three events");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_by_itself_and_is_bounded() {
        let health = Health::default();
        health.pause(Duration::from_secs(2));
        assert!(!health.admits() && health.down_for().is_none());
        health.answered();
        assert!(!health.admits(), "what was on its way is no permission");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(health.admits());
        health.pause(Duration::MAX);
        tokio::time::advance(LONGEST_PAUSE).await;
        assert!(health.admits());
    }

    #[test]
    fn that_it_was_not_heard_is_told_once() {
        let health = Health::default();
        health.unheard();
        health.outage(Instant::now(), true);
        assert!(health.answered() && !health.answered());
    }
}
