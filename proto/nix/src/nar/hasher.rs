//! Hash and length of a NAR, as its bytes pass by.

use sha2::{Digest, Sha256};

use crate::{NarHash, Sha256Hash};

/// SHA-256 and a byte count. Says nothing about whether the bytes are a NAR.
#[derive(Clone, Default)]
pub struct Hasher {
    digest: Sha256,
    bytes: u64,
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; how they are cut into chunks does not matter.
    pub fn update(&mut self, chunk: &[u8]) {
        self.digest.update(chunk);
        self.bytes += chunk.len() as u64;
    }

    /// How many bytes have been taken.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hash and length of all that was taken.
    pub fn finish(self) -> (NarHash, u64) {
        let digest = self.digest.finalize().into();
        (NarHash(Sha256Hash::from_bytes(digest)), self.bytes)
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
