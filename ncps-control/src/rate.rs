//! How many calls one connection may make: so many a second, and a store of more for a while, as after a restart. So an
//! edge that never stops asking, or whoever has its token, leaves the index to the others. Absent: who is told.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Calls per second that go on: several times what the upstreams of an edge answer.
pub(crate) const CALLS: u32 = 4_000;
/// Calls that may come at once after a silence.
const BURST: u32 = 20_000;

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct Rate {
    /// When all that was taken is there again.
    full: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Rate {
        Rate { full: Mutex::new(now) }
    }

    /// Takes a call. False where it is one too many.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / CALLS;
        let mut full = self.full.lock();
        let next = (*full).max(now) + each;
        let fits = next.saturating_duration_since(now) <= each * BURST;
        if fits {
            *full = next;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_in_and_then_so_many_a_second() {
        let start = Instant::now();
        let rate = Rate::new(start);
        let taken = |at: Instant| (0..2 * BURST).filter(|_| rate.take(at)).count();
        assert_eq!(taken(start), BURST as usize);
        assert_eq!(taken(start + Duration::from_secs(1)), CALLS as usize);
        assert_eq!(taken(start + Duration::from_secs(1)), 0, "what was refused counts not");
        assert_eq!(taken(start + Duration::from_secs(3600)), BURST as usize);
    }
}
