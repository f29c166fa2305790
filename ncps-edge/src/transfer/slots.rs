//! Bounded decoding: a slot is the right to keep one core busy. A decoder gives its slot back while it waits
//! for bytes or for a reader, so that a slow upstream holds no slot and nobody starves.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One decoder's claim on the slots. Used on a blocking thread.
pub(super) struct Slot {
    all: Arc<Semaphore>,
    runtime: Handle,
    held: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Claims nothing yet.
    pub(super) fn new(all: Arc<Semaphore>, runtime: Handle) -> Slot {
        Slot { all, runtime, held: None }
    }

    /// Waits for a slot, unless one is held.
    pub(super) fn take(&mut self) {
        if self.held.is_none() {
            // The semaphore is never closed; were it, decoding would go on unbounded rather than hang.
            self.held = self.runtime.block_on(Arc::clone(&self.all).acquire_owned()).ok();
        }
    }

    /// Waits for something else without holding a slot.
    pub(super) fn wait<T>(&mut self, what: impl Future<Output = T>) -> T {
        self.held = None;
        self.runtime.block_on(what)
    }
}
