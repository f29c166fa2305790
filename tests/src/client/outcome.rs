//! What became of a body.

use std::time::Instant;

use bytes::Bytes;
use ncps_nix::Sha256Hash;

/// Why there is no more of a body, although it has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// The connection ended or broke first, or the framing is wrong.
    Truncated(String),
    /// Nothing came for as long as the harness waits.
    Stalled,
}

/// A body as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it, ended in order.
    Whole(Bytes),
    /// What came before the end that was none.
    Truncated(Bytes),
}

impl Outcome {
    /// The whole body.
    ///
    /// # Panics
    /// If it was truncated.
    pub fn whole(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Truncated(bytes) => panic!("the body was cut after {} bytes", bytes.len()),
        }
    }

    /// What came of a body that was truncated.
    ///
    /// # Panics
    /// If it looks complete.
    pub fn truncated(self) -> Bytes {
        match self {
            Self::Truncated(bytes) => bytes,
            Self::Whole(bytes) => panic!("a body of {} bytes that looks complete", bytes.len()),
        }
    }
}

/// What is known of a body that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Hash of all that came.
    pub sha256: Sha256Hash,
    /// Bytes that came.
    pub len: u64,
    /// Whether the body ended in order.
    pub whole: bool,
    /// When the first of them came.
    pub first: Option<Instant>,
}
