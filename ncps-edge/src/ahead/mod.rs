//! The look-ahead: a client asks for a closure level by level, and would wait for the upstreams once per level. So once it
//! has asked for two paths of one, the narinfos of the rest are looked up before it asks, and are near by then. With
//! `--prefetch=nars` the NARs that it will want come ahead as well.
//!
//! ```text
//! http ─→ LookAhead::asked, reads ─→ closures, wants (pure) ─→ walk: lookups, transfers ─→ near cache, store
//! ```
//!
//! All is done as for a client, and shared with those who ask meanwhile. What fails is left to them. Absent on purpose:
//! what is asked for by way of other caches, which look ahead themselves.

mod closures;
mod walk;
mod wants;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ncps_nix::NarFileName;
use ncps_proto::LookAhead as Policy;
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use self::closures::Closures;
use self::wants::Asked;
use crate::live::Current;
use crate::lookup::Lookups;
use crate::metrics::EdgeMetrics;
use crate::near::Served;
use crate::transfer::Engine;

/// Lookups ahead of clients at once, of all closures: an upstream is asked for no more narinfos at once, and half of the
/// questions that it may have by default are left to who waits for an answer.
const MOST_LOOKUPS: usize = 128;

/// What looks ahead.
pub struct LookAhead {
    lookups: Arc<Lookups>,
    engine: Arc<Engine>,
    current: Arc<Current>,
    tasks: Tasks,
    metrics: Arc<EdgeMetrics>,
    closures: Mutex<Closures>,
    /// How many closures there are, for those who would rather not take the lock.
    open: AtomicUsize,
    /// A client asked for more of one, or began to read.
    more: Notify,
    turns: Semaphore,
}

impl LookAhead {
    pub(crate) fn new(
        lookups: Arc<Lookups>,
        engine: Arc<Engine>,
        current: Arc<Current>,
        tasks: Tasks,
        metrics: Arc<EdgeMetrics>,
    ) -> Arc<LookAhead> {
        Arc::new(LookAhead {
            lookups,
            engine,
            current,
            tasks,
            metrics,
            closures: Mutex::default(),
            open: AtomicUsize::new(0),
            more: Notify::new(),
            turns: Semaphore::new(MOST_LOOKUPS),
        })
    }

    /// A client got a narinfo that was not near.
    pub(crate) fn asked(self: &Arc<Self>, served: &Served) {
        if self.policy() == Policy::Off || self.goes_on(served) {
            return;
        }
        let Some(asked) = Asked::of(served) else { return };
        let begun = {
            let mut closures = self.closures.lock();
            let begun = closures.begin(asked, Instant::now());
            self.open.store(closures.count(), Ordering::Relaxed);
            begun
        };
        if let Some(id) = begun {
            self.tasks.spawn("look-ahead", Arc::clone(self).walk(id));
        }
    }

    /// A client got a narinfo that was near, as what was looked up ahead is.
    pub(crate) fn asked_warm(&self, served: &Served) {
        if self.open.load(Ordering::Relaxed) > 0 {
            self.goes_on(served);
        }
    }

    /// A client downloads a NAR.
    pub(crate) fn reads(&self, nar: NarFileName) {
        if self.open.load(Ordering::Relaxed) == 0 || self.policy() != Policy::Nars {
            return;
        }
        if let Some(closure) = self.closures.lock().reading(&nar, Instant::now()) {
            closure.wants.reads(nar);
            self.more.notify_waiters();
        }
    }

    /// Whether it belongs to a closure that is being looked ahead in, which counts as asking for it.
    fn goes_on(&self, served: &Served) -> bool {
        let mut closures = self.closures.lock();
        let Some(closure) = closures.of(served.hash, Instant::now()) else { return false };
        if self.policy() == Policy::Nars
            && !closure.wants.knows(served.hash)
            && let Some(asked) = Asked::of(served)
        {
            closure.wants.add(asked);
            self.more.notify_waiters();
        }
        true
    }

    fn policy(&self) -> Policy {
        self.current.get().map_or(Policy::Off, |live| live.settings.look_ahead)
    }
}
