//! An edge that is to leave the fleet: it is not ready, passes uploads on, and says when what ran has ended. Reads go on
//! as long as anybody asks.
//!
//! Absent on purpose: turns, which control refuses it, and its end as a process, which is its operator's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ncps_runtime::lifecycle::{LifeHandle, ReadyLatch};
use parking_lot::Mutex;

/// How often it is looked whether what ran has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Why it is not ready, for people.
const WHY: &str = "drained by an administrator";

/// Whether it is to leave, and what of clients comes in.
pub struct Drain {
    life: LifeHandle,
    /// While it is to leave the edge is not ready.
    latch: Mutex<Option<ReadyLatch>>,
    /// Counts every change, so that who waits for an end knows that it is waited for no longer.
    changes: AtomicU64,
    uploads: AtomicU64,
}

/// An upload that is coming in.
pub(crate) struct Coming(Arc<Drain>);

impl Drain {
    /// Of an edge that takes part.
    pub fn new(life: LifeHandle) -> Arc<Drain> {
        Arc::new(Drain {
            life,
            latch: Mutex::default(),
            changes: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
        })
    }

    /// Whether the edge is to leave.
    pub fn leaves(&self) -> bool {
        self.latch.lock().is_some()
    }

    /// Control says whether it is to leave. Returns which change that is.
    pub(crate) fn set(&self, leaves: bool) -> u64 {
        let mut latch = self.latch.lock();
        match (leaves, latch.take()) {
            (true, Some(held)) => *latch = Some(held),
            (true, None) => *latch = Some(self.life.latch(WHY)),
            (false, held) => held.into_iter().for_each(ReadyLatch::release),
        }
        self.changes.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// An upload comes in, until the result is dropped. `None` where it can't: the edge is to leave.
    pub(crate) fn upload(self: &Arc<Self>) -> Option<Coming> {
        let coming = Coming(Arc::clone(self));
        self.uploads.fetch_add(1, Ordering::SeqCst);
        // After it was counted: who waits for the end of all either sees it or is seen.
        (!self.leaves()).then_some(coming)
    }

    /// Waits until nothing runs, of uploads or what `others` says. False where that is waited for no longer.
    pub(crate) async fn idle(&self, change: u64, others: impl Fn() -> bool) -> bool {
        while self.changes.load(Ordering::SeqCst) == change {
            if self.uploads.load(Ordering::SeqCst) == 0 && !others() {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use ncps_runtime::lifecycle::{Lifecycle, Timing};

    use super::*;

    fn drain() -> (LifeHandle, Arc<Drain>) {
        let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO }).handle();
        (life.clone(), Drain::new(life))
    }

    fn is_held(life: &LifeHandle) -> bool {
        life.waiting_for().contains(&WHY)
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_is_waited_for_and_nothing_more_is_taken() {
        let (life, drain) = drain();
        let coming = drain.upload().expect("it takes part");
        assert!(!is_held(&life));
        let change = drain.set(true);
        assert!(is_held(&life) && drain.upload().is_none());
        let idle = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.idle(change, || false).await }
        });
        tokio::time::sleep(LOOK * 3).await;
        assert!(!idle.is_finished());
        drop(coming);
        assert!(idle.await.expect("no panic"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_after_all_is_ready_again_and_waited_for_no_longer() {
        let (life, drain) = drain();
        let change = drain.set(true);
        assert!(drain.set(true) > change && is_held(&life), "said twice");
        let idle = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.idle(change, || true).await }
        });
        drain.set(false);
        assert!(!is_held(&life) && drain.upload().is_some() && !idle.await.expect("no panic"));
    }
}
