//! Places for connections, so many at once. Clients hold connections in reserve for a minute and more. When every place is
//! taken, the one that has waited longest for its next request has to go, so that nobody waits for that minute: one place is
//! kept free for who comes next. While all of them are busy, more wait in the kernel's queue.
//!
//! Only a connection that has had an answer goes at once: its client asks again on another one by itself. Absent: how many
//! requests are in flight (see [`super::admission`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Until it is looked again who could go, while somebody may be waiting.
const AGAIN: Duration = Duration::from_millis(100);
/// Before one goes that has not asked for anything yet.
const SILENCE: Duration = Duration::from_secs(10);
/// For one to go. Its client may be gone, or slow to take what it was answered: then another one has to.
const PATIENCE: Duration = Duration::from_secs(1);

/// All of them.
pub(super) struct Seats {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
    opened: Instant,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Arc<Seat>>,
    /// Who was asked to go last, and when in milliseconds after `opened`.
    leaving: Option<(u64, u64)>,
}

/// One that is taken.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
    /// Requests that have not been answered to the end.
    busy: AtomicUsize,
    has_asked: AtomicBool,
    /// When the last answer ended, or else the connection began: in milliseconds after `Seats::opened`.
    quiet_since: AtomicU64,
    leave: CancellationToken,
}

/// The right to be connected, until it is dropped.
pub(super) struct Place {
    seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered, until the body of the response has ended.
pub(super) struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(places: usize) -> Arc<Seats> {
        let free = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Arc::new(Seats { free, taken: Mutex::default(), opened: Instant::now() })
    }

    /// A place, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        let mut patience = Duration::ZERO;
        loop {
            let permit = Arc::clone(&self.free).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(patience, permit).await {
                return self.seat(permit.expect("it is never closed"));
            }
            self.send_one_away();
            patience = AGAIN;
        }
    }

    fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let mut taken = self.taken.lock();
        let number = taken.next;
        let seat = Arc::new(Seat {
            seats: Arc::clone(self),
            number,
            busy: AtomicUsize::new(0),
            has_asked: AtomicBool::new(false),
            quiet_since: AtomicU64::new(self.now()),
            leave: CancellationToken::new(),
        });
        taken.next += 1;
        taken.seats.insert(number, Arc::clone(&seat));
        Place { seat, _permit: permit }
    }

    /// One at a time, as long as it goes: there is one place that somebody may want.
    fn send_one_away(&self) {
        let now = self.now();
        let mut taken = self.taken.lock();
        let still_leaves =
            |(number, asked): (u64, u64)| taken.seats.contains_key(&number) && since(asked, now) < PATIENCE;
        if taken.leaving.is_some_and(still_leaves) {
            return;
        }
        let may_go = taken.seats.values().filter(|seat| seat.may_go(now));
        let quietest = may_go.min_by_key(|seat| (seat.quiet_since.load(Relaxed), seat.number));
        taken.leaving = quietest.map(|seat| {
            seat.leave.cancel();
            (seat.number, now)
        });
    }

    fn now(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }
}

fn since(then: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(then))
}

impl Seat {
    /// Whoever was asked before isn't asked again, and a new one may be about to ask.
    fn may_go(&self, now: u64) -> bool {
        let quiet = since(self.quiet_since.load(Relaxed), now);
        let is_settled = self.has_asked.load(Relaxed) || quiet >= SILENCE;
        is_settled && self.busy.load(Relaxed) == 0 && !self.leave.is_cancelled()
    }
}

impl Place {
    /// A request came.
    pub(super) fn busy(&self) -> Busy {
        self.seat.busy.fetch_add(1, Relaxed);
        self.seat.has_asked.store(true, Relaxed);
        Busy(Arc::clone(&self.seat))
    }

    pub(super) fn has_asked(&self) -> bool {
        self.seat.has_asked.load(Relaxed)
    }

    /// Returns when somebody else needs the place, and nothing is being answered here.
    pub(super) async fn is_needed(&self) {
        self.seat.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seat.seats.taken.lock().seats.remove(&self.seat.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.seats.now(), Relaxed);
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn has_to_go(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.is_needed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_quiet_for_longest_has_to_go() {
        let seats = Seats::new(3);
        let (a, b, c) = (seats.take().await, seats.take().await, seats.take().await);
        let (of_a, of_b, of_c) = (a.busy(), b.busy(), c.busy());
        for answered in [of_b, of_c] {
            drop(answered);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut next = std::pin::pin!(seats.take());
        assert!(futures::poll!(&mut next).is_pending());
        tokio::time::sleep(AGAIN / 2).await;
        assert!(futures::poll!(&mut next).is_pending());
        tokio::time::sleep(AGAIN * 2).await;
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!((has_to_go(&a).await, has_to_go(&b).await, has_to_go(&c).await), (false, true, false));
        drop((b, of_a));
        next.await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_busy_or_new_is_left_alone() {
        let seats = Seats::new(2);
        let (old, _new) = (seats.take().await, seats.take().await);
        let busy = old.busy();
        assert!(tokio::time::timeout(AGAIN * 20, seats.take()).await.is_err());
        assert!(!has_to_go(&old).await);
        drop(busy);
        assert!(tokio::time::timeout(AGAIN * 20, seats.take()).await.is_err());
        assert!(has_to_go(&old).await);
    }

    #[tokio::test(start_paused = true)]
    async fn another_one_has_to_go_where_the_first_stays() {
        let seats = Seats::new(2);
        let (stays, goes) = (seats.take().await, seats.take().await);
        drop(stays.busy());
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(goes.busy());
        let mut next = std::pin::pin!(seats.take());
        assert!(tokio::time::timeout(PATIENCE / 2, &mut next).await.is_err());
        assert_eq!((has_to_go(&stays).await, has_to_go(&goes).await), (true, false));
        assert!(tokio::time::timeout(PATIENCE, &mut next).await.is_err());
        assert!(has_to_go(&goes).await);
    }
}
