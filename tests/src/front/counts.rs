//! What a front has seen.

use std::sync::Arc;

use http::Version;
use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    connections: usize,
    refused: usize,
    http2: usize,
    http1: usize,
    active: usize,
    max_active: usize,
}

/// A request that is being answered; counted until dropped.
pub(super) struct Active(Arc<Counts>);

impl Counts {
    pub(super) fn connection(&self) {
        self.0.lock().connections += 1;
    }

    pub(super) fn refuse(&self) {
        self.0.lock().refused += 1;
    }

    pub(super) fn request(self: &Arc<Self>, version: Version) -> Active {
        let mut numbers = self.0.lock();
        match version {
            Version::HTTP_2 => numbers.http2 += 1,
            _ => numbers.http1 += 1,
        }
        numbers.active += 1;
        numbers.max_active = numbers.max_active.max(numbers.active);
        Active(Arc::clone(self))
    }

    pub(super) fn connections(&self) -> usize {
        self.0.lock().connections
    }

    pub(super) fn refused(&self) -> usize {
        self.0.lock().refused
    }

    pub(super) fn requests(&self) -> (usize, usize) {
        let numbers = self.0.lock();
        (numbers.http2, numbers.http1)
    }

    pub(super) fn active(&self) -> usize {
        self.0.lock().active
    }

    pub(super) fn max_active(&self) -> usize {
        self.0.lock().max_active
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.0.lock().active -= 1;
    }
}
