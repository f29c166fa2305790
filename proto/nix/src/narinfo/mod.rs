//! A narinfo: what a cache says about one store path.
//!
//! Parsed into values and rendered from them, never passed through as text: what a client gets
//! is what was checked. Unknown fields are therefore dropped. Absent on purpose: fetching,
//! trust policy, and the queries and hosts of URLs (a URL is opaque here).

mod offered;
mod parse;
mod proof;
mod render;

pub use parse::{MAX_NARINFO_BYTES, NarInfoError, NarInfoLineError};

use crate::{Compression, ContentAddress, FileHash, NarHash, Signature, StorePath};

/// A parsed narinfo.
///
/// Whoever builds one by hand keeps to what [`NarInfo::parse`] accepts (in particular a `url`
/// without whitespace or control characters, and sizes up to 2⁶³ − 1), else the rendered text
/// does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path described.
    pub store_path: StorePath,
    /// Where the NAR file is, relative to the cache or absolute; opaque, not empty.
    pub url: String,
    /// How the NAR file is compressed.
    pub compression: Compression,
    /// Hash of the NAR file, if the cache gave a sha256; the NAR hash if compression is none.
    pub file_hash: Option<FileHash>,
    /// Length of the NAR file in bytes, if given; the NAR size if compression is none.
    pub file_size: Option<u64>,
    /// Hash of the uncompressed NAR.
    pub nar_hash: NarHash,
    /// Length of the uncompressed NAR in bytes, more than 0.
    pub nar_size: u64,
    /// What the path refers to, possibly itself; in the order given, each once.
    pub references: Vec<StorePath>,
    /// The derivation that made the path.
    pub deriver: Option<StorePath>,
    /// In the order given, each once.
    pub signatures: Vec<Signature>,
    /// How the path follows from its contents, if it does.
    pub ca: Option<ContentAddress>,
}
