//! The Nix formats that both planes speak: hashes, store paths, narinfos, keys, NARs.
//!
//! Everything here is pure: bytes or text in, a checked type out, and back to the one canonical
//! text. Input is read strictly (what a Nix client would read in two ways is refused), output is
//! always canonical, and no function panics on input from outside.
//!
//! | module | format |
//! | --- | --- |
//! | [`nix32`] | Nix's base 32 |
//! | `hash` | [`Sha256Hash`] and its two roles, [`NarHash`] and [`FileHash`] |
//! | `store_path` | [`StorePath`], [`StorePathHash`] |
//! | `compression`, `nar_file_name` | how a NAR file is compressed and named |
//! | `keys` | [`Signature`], [`PublicKey`], [`SecretKey`], [`TrustedKeys`] |
//! | `content_address` | the `CA` field |
//! | `narinfo` | [`NarInfo`]: parse, render, fingerprint, self-proof |
//! | `cache_info` | `nix-cache-info` |
//! | `object_name` | names of logs, listings, debug info, realisations |
//! | [`nar`] | NAR streams: validate, hash |
//! | [`client_config`] | what clients are told of a cache: `nix.conf`, NixOS, flakes, netrc |
//!
//! Absent on purpose: tokio, http, sql, the file system, compression codecs, derivations, and
//! any store directory other than [`STORE_DIR`].

mod base64;
mod cache_info;
pub mod client_config;
mod compression;
mod content_address;
mod hash;
mod keys;
pub mod nar;
mod nar_file_name;
mod narinfo;
pub mod nix32;
mod object_name;
mod store_path;
#[cfg(test)]
mod tests;

pub use cache_info::{CacheInfo, CacheInfoError};
pub use compression::Compression;
pub use content_address::{CaHash, ContentAddress, ContentAddressError, HashAlgorithm, Ingestion};
pub use hash::{FileHash, HashError, NarHash, Sha256Hash};
pub use keys::{KeyError, PublicKey, SecretKey, Signature, SignatureError, TrustedKeys};
pub use nar_file_name::{NarFileName, NarFileNameError};
pub use narinfo::{MAX_NARINFO_BYTES, NarInfo, NarInfoError, NarInfoLineError};
pub use object_name::{BuildId, ObjectName, ObjectNameError, OutputName};
pub use store_path::{STORE_DIR, StorePath, StorePathError, StorePathHash};
