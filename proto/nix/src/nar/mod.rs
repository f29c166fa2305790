//! NAR streams: proving that bytes are one, and hashing them.
//!
//! Both work on chunks as they arrive, in bounded memory. Absent on purpose: unpacking, listings,
//! and making NARs outside of tests.

#[cfg(any(test, feature = "test-util"))]
pub mod build;
mod hasher;
mod validator;

pub use hasher::Hasher;
pub use validator::{MAX_DEPTH, NarError, NarErrorKind, Validator};

/// The first string of every NAR.
const MAGIC: &[u8] = b"nix-archive-1";

/// Zero bytes after a string of this length: strings fill up to 8.
const fn padding(len: u64) -> u8 {
    (len.wrapping_neg() % 8) as u8
}
