//! Whether an upstream's narinfos are ever signed by a key that we trust. One of which none is, is mostly a key
//! that is missing from the configuration: that is said loudly, since all that is seen of it elsewhere is that
//! builds don't find their paths here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// It is said with the first one, and again with every so many.
const AGAIN: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Trust {
    fits: AtomicBool,
    untrusted: AtomicU64,
}

impl Trust {
    /// A narinfo proved right.
    pub(super) fn fits(&self) {
        self.fits.store(true, Ordering::Relaxed);
    }

    /// Nobody whom we trust vouches for a narinfo. Returns how many there were, where it is time to say so.
    pub(super) fn misses(&self) -> Option<u64> {
        let before = self.untrusted.fetch_add(1, Ordering::Relaxed);
        let never = !self.fits.load(Ordering::Relaxed);
        (never && before.is_multiple_of(AGAIN)).then_some(before + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_first_and_now_and_then() {
        let trust = Trust::default();
        let said: Vec<_> = (0..2_500).filter_map(|_| trust.misses()).collect();
        assert_eq!(said, [1, 1001, 2001]);
        trust.fits();
        assert!(
            (0..2_000).all(|_| trust.misses().is_none()),
            "some key fits: these are forged, and logged as such"
        );
    }
}
