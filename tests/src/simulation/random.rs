//! Chance, as a seed decides it.

use crate::noise::SplitMix;

/// A stream of numbers.
#[derive(Debug)]
pub(super) struct Random(SplitMix);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        // Seeds that follow each other are to have nothing in common.
        Random(SplitMix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d))
    }

    /// Less than `below`, which is at least 1.
    pub(super) fn below(&mut self, below: usize) -> usize {
        (self.0.next() % below as u64) as usize
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
