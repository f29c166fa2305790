//! `<file hash>.nar[.ext]`: the name of a NAR file, in our URLs and on disk.
//!
//! What we write is always nix32. What we read is also what other caches have handed out and
//! clients remember for 30 days: base16 hashes (cachix) and `<store hash>-<NAR hash>.nar`
//! (nix-serve). Queries are the router's business and absent here.

use std::fmt;

use crate::{Compression, FileHash, Sha256Hash, StorePathHash};

/// One representation of a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarFileName {
    /// Hash of the file's bytes.
    pub hash: FileHash,
    /// What these bytes are.
    pub compression: Compression,
}

/// Why a text names no NAR file of ours. Either way there is no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarFileNameError {
    /// Not the shape of a NAR file name.
    #[error("not the name of a NAR file")]
    NotFound,
    /// A well-formed hash and `.nar`, but a compression that we can't decode.
    #[error("NAR file name with an unknown extension")]
    UnknownExtension,
}

impl NarFileName {
    /// `<nix32>.nar[.ext]`.
    pub fn file_name(&self) -> String {
        self.to_string()
    }

    /// `nar/<nix32>.nar[.ext]`: relative without a leading slash, the one form that every Nix
    /// version resolves alike.
    pub fn url(&self) -> String {
        format!("nar/{self}")
    }

    /// Reads what follows `nar/` in a request path. `.nar.none` is read as no compression.
    ///
    /// # Errors
    /// See [`NarFileNameError`].
    pub fn parse(text: &str) -> Result<Self, NarFileNameError> {
        let (stem, suffix) = text.split_once('.').ok_or(NarFileNameError::NotFound)?;
        if let Some(hash) = nix_serve_hash(stem) {
            return uncompressed(hash, suffix);
        }
        let hash = Sha256Hash::parse_bare(stem).map_err(|_| NarFileNameError::NotFound)?;
        Ok(Self { hash: FileHash(hash), compression: parse_suffix(suffix)? })
    }
}

/// The NAR hash in `<32 nix32>-<52 nix32>`.
fn nix_serve_hash(stem: &str) -> Option<Sha256Hash> {
    let (store_hash, nar_hash) = stem.split_once('-')?;
    StorePathHash::parse(store_hash).ok()?;
    crate::nix32::decode_32(nar_hash).map(Sha256Hash::from_bytes)
}

/// nix-serve has no compressed files, so any other suffix is not its shape.
fn uncompressed(hash: Sha256Hash, suffix: &str) -> Result<NarFileName, NarFileNameError> {
    match suffix {
        "nar" => Ok(NarFileName { hash: FileHash(hash), compression: Compression::None }),
        _ => Err(NarFileNameError::NotFound),
    }
}

fn parse_suffix(suffix: &str) -> Result<Compression, NarFileNameError> {
    let Some(extension) = suffix.strip_prefix("nar.") else {
        return match suffix {
            "nar" => Ok(Compression::None),
            _ => Err(NarFileNameError::NotFound),
        };
    };
    match extension {
        "none" => Ok(Compression::None),
        _ if !is_extension(extension) => Err(NarFileNameError::NotFound),
        _ => Compression::from_extension(extension).ok_or(NarFileNameError::UnknownExtension),
    }
}

fn is_extension(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

impl fmt::Display for NarFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.nar", self.hash.0.nix32())?;
        match self.compression.extension() {
            Some(extension) => write!(f, ".{extension}"),
            None => Ok(()),
        }
    }
}
