//! Store paths: `/nix/store/<32 nix32>-<name>`.
//!
//! Both the hash part and the whole path are ordered as their texts are, because signatures are
//! made over references in text order. Absent on purpose: other store directories, paths below a
//! store path, derivation outputs.

use std::cmp::Ordering;
use std::fmt;

use crate::nix32;

/// The store directory that every path here is in.
pub const STORE_DIR: &str = "/nix/store";

const MAX_NAME_BYTES: usize = 211;

/// Why a text is no store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// Not 32 nix32 characters.
    #[error("malformed store path hash")]
    Hash,
    /// Empty, longer than 211 bytes, a character outside `[0-9a-zA-Z+-._?=]`, or a dot form
    /// that Nix refuses (`.`, `..`, `.-…`, `..-…`).
    #[error("malformed store path name")]
    Name,
    /// No `-` between hash and name.
    #[error("store path without a name")]
    NoName,
    /// An absolute path that is not directly in [`STORE_DIR`].
    #[error("path is not in {STORE_DIR}")]
    NotInStore,
}

/// The 20 bytes that name a narinfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorePathHash([u8; 20]);

impl StorePathHash {
    /// Reads 32 nix32 characters.
    ///
    /// # Errors
    /// [`StorePathError::Hash`] for anything else.
    pub fn parse(text: &str) -> Result<Self, StorePathError> {
        nix32::decode_20(text).map(Self).ok_or(StorePathError::Hash)
    }

    /// A hash stored as bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

/// As the texts are ordered: the last byte holds the first character's bits, and the alphabet
/// ascends.
impl Ord for StorePathHash {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for StorePathHash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&nix32::encode(&self.0))
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A path directly in [`STORE_DIR`]; `Display` gives its base name, and the order is that of the
/// base names (field order matters for the derived `Ord`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    hash: StorePathHash,
    name: Box<str>,
}

impl StorePath {
    /// Puts a path together.
    ///
    /// # Errors
    /// [`StorePathError::Name`] if Nix would refuse the name.
    pub fn new(hash: StorePathHash, name: &str) -> Result<Self, StorePathError> {
        check_name(name)?;
        Ok(Self { hash, name: name.into() })
    }

    /// Reads a base name, `<32 nix32>-<name>`.
    ///
    /// # Errors
    /// See [`StorePathError`].
    pub fn parse(base_name: &str) -> Result<Self, StorePathError> {
        let (hash, name) = base_name.split_once('-').ok_or(StorePathError::NoName)?;
        Self::new(StorePathHash::parse(hash)?, name)
    }

    /// Reads `/nix/store/<32 nix32>-<name>`.
    ///
    /// # Errors
    /// See [`StorePathError`].
    pub fn parse_absolute(path: &str) -> Result<Self, StorePathError> {
        let base_name = path
            .strip_prefix(STORE_DIR)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(StorePathError::NotInStore)?;
        Self::parse(base_name)
    }

    /// The part that names the narinfo.
    pub const fn hash(&self) -> StorePathHash {
        self.hash
    }

    /// The part after the hash and its `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole path, under [`STORE_DIR`].
    pub fn absolute(&self) -> String {
        format!("{STORE_DIR}/{self}")
    }
}

/// The rule of Nix 2.19 and later: 2.18 took any leading dot, older ones none.
pub(crate) fn check_name(name: &str) -> Result<(), StorePathError> {
    let well_formed = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_name_byte)
        && !matches!(name.split('-').next(), Some("." | ".."));
    well_formed.then_some(()).ok_or(StorePathError::Name)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
