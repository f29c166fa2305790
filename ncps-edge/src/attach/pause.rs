//! When an edge tries to attach again, and when it reports: never at the same moment as all others, however they came to
//! be at the same point. After a restart of control the whole fleet is.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Between two sessions: from 0.1 to 5 s, twice as long with each try in vain, and by chance up to half of it shorter or
/// longer.
#[derive(Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(FIRST)
    }
}

impl Pause {
    /// How long the next one is, without chance.
    pub fn next(&self) -> Duration {
        self.0
    }

    /// Whether there was a session since the last one.
    pub fn is_first(&self) -> bool {
        self.0 == FIRST
    }

    /// There is a session.
    pub fn over(&mut self) {
        self.0 = FIRST;
    }

    /// Waits.
    pub async fn wait(&mut self) {
        let pause = self.0;
        self.0 = (self.0 * 2).min(LONGEST);
        tokio::time::sleep(pause.mul_f64(0.5 + chance())).await;
    }
}

/// When a session's reports are due that come again and again: from some moment of the next 10 s on, every 10 s. What is
/// said first is due anyway.
pub fn reports_due() -> Interval {
    let mut due = interval_at(Instant::now() + REPORT_EVERY.mul_f64(chance()), REPORT_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut byte = [0; 2];
    // Without randomness there is no chance, and no harm.
    getrandom::fill(&mut byte).ok();
    f64::from(u16::from_le_bytes(byte)) / f64::from(u16::MAX)
}
