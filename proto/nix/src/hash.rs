//! SHA-256 hashes and the two roles they play: of a NAR, and of a NAR file as transferred.
//!
//! A hash is kept as bytes; its spelling is chosen when it is printed. Other algorithms are
//! recognised by name only, so that callers can tell "another algorithm" from "garbage".

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{base64, nix32};

/// Why a text is no SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// No algorithm prefix, or a digest of the wrong length or alphabet.
    #[error("malformed sha256 hash")]
    Malformed,
    /// A hash of an algorithm other than sha256 (its digest is not looked at).
    #[error("hash of another algorithm than sha256")]
    OtherAlgorithm,
}

/// A SHA-256 digest.
///
/// `Display` gives `sha256:<nix32>`, `Debug` the bare nix32. The order is that of the bytes, not
/// of any text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    /// A digest computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest itself.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of `data`.
    pub fn of(data: &[u8]) -> Self {
        Self(Sha256::digest(data).into())
    }

    /// 52 characters, without the algorithm.
    pub fn nix32(&self) -> String {
        nix32::encode(&self.0)
    }

    /// 64 lower-case characters, without the algorithm.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads 52 nix32 or 64 lower-case base16 characters, as they stand in NAR file names.
    ///
    /// # Errors
    /// [`HashError::Malformed`] for anything else.
    pub fn parse_bare(text: &str) -> Result<Self, HashError> {
        match text.len() {
            52 => nix32::decode_32(text).map(Self),
            64 => HEXLOWER.decode(text.as_bytes()).ok().and_then(from_slice),
            _ => None,
        }
        .ok_or(HashError::Malformed)
    }

    /// Reads `sha256:` with nix32, base16 or base64, or SRI `sha256-<base64>`: the spellings that
    /// Nix reads in a narinfo.
    ///
    /// # Errors
    /// [`HashError::OtherAlgorithm`] if the prefix names another algorithm, else
    /// [`HashError::Malformed`].
    pub fn parse_typed(text: &str) -> Result<Self, HashError> {
        let separator = text.find([':', '-']).ok_or(HashError::Malformed)?;
        let (algorithm, rest) = text.split_at(separator);
        match (algorithm, rest.split_at(1)) {
            ("sha256", ("-", digest)) => parse_base64(digest),
            ("sha256", (_, digest)) if digest.len() == 44 => parse_base64(digest),
            ("sha256", (_, digest)) => Self::parse_bare(digest),
            _ if is_algorithm_name(algorithm) => Err(HashError::OtherAlgorithm),
            _ => Err(HashError::Malformed),
        }
    }
}

fn parse_base64(digest: &str) -> Result<Sha256Hash, HashError> {
    base64::decode(digest).and_then(from_slice).ok_or(HashError::Malformed)
}

fn from_slice(bytes: Vec<u8>) -> Option<Sha256Hash> {
    bytes.try_into().ok().map(Sha256Hash)
}

/// Any name that an algorithm could have: what Nix may add later is "another" one, too.
fn is_algorithm_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

impl fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.nix32())
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.nix32())
    }
}

/// SHA-256 of an uncompressed NAR: what a narinfo's signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash(pub Sha256Hash);

/// SHA-256 of a NAR file as transferred; equals the [`NarHash`] where compression is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileHash(pub Sha256Hash);

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
