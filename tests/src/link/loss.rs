//! What a link loses. Streams have no packets: a packet that is lost is sent again, so that what it carried is late, and
//! all behind it; where too many are, a connection breaks, or nobody hears of it any more.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::SplitMix;

/// How often things happen to a piece that goes through, of a thousand.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// It is late by a retransmission.
    pub late: u64,
    /// Its connection is reset.
    pub breaks: u64,
    /// Its connection falls silent: it is not closed, and nothing passes any more.
    pub silent: u64,
}

/// What happens to a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    Late,
    Breaks,
    Silent,
}

#[derive(Debug, Default)]
pub(super) struct Losses {
    now: Mutex<Option<(Loss, SplitMix)>>,
    connections: AtomicUsize,
}

impl Losses {
    pub(super) fn begin(&self, loss: Loss, seed: u64) {
        *self.now.lock() = Some((loss, SplitMix(seed)));
    }

    pub(super) fn end(&self) {
        *self.now.lock() = None;
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Of the next piece.
    pub(super) fn next(&self) -> Fate {
        let Some((loss, random)) = &mut *self.now.lock() else { return Fate::Passes };
        let drawn = random.next() % 1000;
        if drawn < loss.late {
            return Fate::Late;
        }
        let fate = match drawn - loss.late {
            drawn if drawn < loss.breaks => Fate::Breaks,
            drawn if drawn < loss.breaks + loss.silent => Fate::Silent,
            _ => return Fate::Passes,
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        fate
    }
}
