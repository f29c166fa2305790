//! Store paths of a made-up index: each with a narinfo and an xz file of its own. Everything follows from a number, so
//! that rows of the database, files of a store and words of edges agree.
//!
//! Absent on purpose: files that decode to the NAR that a narinfo names. Nothing here is ever fetched.

use ncps_nix::{
    Compression, FileHash, NarFileName, NarHash, NarInfo, Sha256Hash, Signature, StorePath, StorePathHash,
};

use crate::SplitMix;

/// In bytes, of every NAR file.
pub const FILE_SIZE: u64 = 50_000;
/// Of what it decodes to.
pub const NAR_SIZE: u64 = 200_000;
/// Who has them all.
pub const UPSTREAM: &str = "https://cache.nixos.org";
/// What a path refers to.
const REFERENCES: usize = 6;
/// Paths that follow one another and refer to one another, and to no others.
pub const CLOSURE: usize = 50;

/// The hash part of a path.
pub fn hash(n: usize) -> StorePathHash {
    StorePathHash::from_bytes(bytes(b'p', n))
}

/// Its NAR file.
pub fn file(n: usize) -> NarFileName {
    NarFileName { hash: FileHash(Sha256Hash::from_bytes(bytes(b'f', n))), compression: Compression::Xz }
}

/// What its NAR hashes to.
pub fn nar(n: usize) -> NarHash {
    NarHash(Sha256Hash::from_bytes(bytes(b'n', n)))
}

/// Its narinfo, of an index of so many paths, with noise for signatures: control verifies narinfos when they come, and
/// never again.
///
/// # Panics
/// Never: the names are right.
pub fn narinfo(n: usize, of: usize) -> NarInfo {
    let path = |n: usize, name: String| StorePath::new(hash(n), &name).expect("a name");
    let plain = |n: usize| path(n, format!("package-{n}-1.0"));
    let signature =
        |(kind, key): (u8, &str)| Signature { key_name: key.to_owned(), bytes: bytes::<64>(kind, n) };
    NarInfo {
        store_path: plain(n),
        url: file(n).url(),
        compression: Compression::Xz,
        file_hash: Some(file(n).hash),
        file_size: Some(FILE_SIZE),
        nar_hash: nar(n),
        nar_size: NAR_SIZE,
        references: (1..=REFERENCES).map(|step| beside(n, step)).filter(|n| *n < of).map(plain).collect(),
        deriver: Some(path(n, format!("package-{n}-1.0.drv"))),
        signatures: [(b's', "cache.nixos.org-1"), (b't', "bench-1")].map(signature).to_vec(),
        ca: None,
    }
}

/// So many paths further in the same closure.
fn beside(n: usize, step: usize) -> usize {
    n / CLOSURE * CLOSURE + (n + step) % CLOSURE
}

/// Spread like hashes, and cheaper.
fn bytes<const N: usize>(kind: u8, n: usize) -> [u8; N] {
    let mut chance = SplitMix((n as u64) << 8 | u64::from(kind));
    let mut bytes = [0; N];
    for some in bytes.chunks_mut(8) {
        some.copy_from_slice(&chance.next().to_le_bytes()[..some.len()]);
    }
    bytes
}
