//! Whether a narinfo proves itself: its store path follows from its `CA`.
//!
//! The store path is computed as Nix does (`makeTextPath`, `makeFixedOutputPath`). Absent on
//! purpose: git ingestion, and hashing any contents, which are not here.

use sha2::{Digest, Sha256};

use crate::{
    CaHash, ContentAddress, HashAlgorithm, Ingestion, NarInfo, STORE_DIR, Sha256Hash, StorePath,
    StorePathHash,
};

impl NarInfo {
    /// Whether the `CA` field proves the store path, so that no signature is needed.
    ///
    /// For `fixed:r:sha256` the `CA`'s hash must also be the NAR hash. Nix hashes a NAR that
    /// refers to itself with those references blanked, so such a path never proves itself here:
    /// its NAR hash can't be told from the narinfo.
    ///
    /// # Hidden contract
    /// For every other `CA` (text, flat, other algorithms) the proof ties the path to the
    /// contents, but nothing in the narinfo ties [`NarInfo::nar_hash`] to them. Who is to vouch
    /// for the NAR hash compares the contents with the `CA`, too: see
    /// [`NarInfo::proves_nar_hash`].
    pub fn proves_itself(&self) -> bool {
        self.ca_gives_store_path() && (!self.is_nar_addressed() || self.ca_is_nar_hash())
    }

    /// Whether [`NarInfo::proves_itself`] covers the NAR hash as well, not only the path.
    pub fn proves_nar_hash(&self) -> bool {
        self.ca_gives_store_path() && self.is_nar_addressed() && self.ca_is_nar_hash()
    }

    /// What Nix calls content-addressed: the path computed from `CA`, name and references is
    /// this path.
    pub(crate) fn ca_gives_store_path(&self) -> bool {
        match &self.ca {
            None => false,
            Some(ContentAddress::Text(hash)) => self.text_path_hash(hash) == self.store_path.hash(),
            Some(ContentAddress::Fixed { method, hash }) => {
                self.fixed_path_hash(*method, hash) == Some(self.store_path.hash())
            }
        }
    }

    fn is_nar_addressed(&self) -> bool {
        matches!(&self.ca, Some(ContentAddress::Fixed { method: Ingestion::Recursive, hash })
            if hash.algorithm() == HashAlgorithm::Sha256)
    }

    fn ca_is_nar_hash(&self) -> bool {
        matches!(&self.ca, Some(ContentAddress::Fixed { hash, .. })
            if hash.digest() == self.nar_hash.0.as_bytes())
    }

    fn text_path_hash(&self, hash: &Sha256Hash) -> StorePathHash {
        let kind = with_references("text", self.sorted_references());
        self.path_hash(&kind, hash)
    }

    /// None where Nix makes no such path: git, and references to what is no recursive sha256.
    fn fixed_path_hash(&self, method: Ingestion, hash: &CaHash) -> Option<StorePathHash> {
        if let Some(digest) = recursive_sha256(method, hash) {
            return Some(self.source_path_hash(&digest));
        }
        if method == Ingestion::Git || !self.references.is_empty() {
            return None;
        }
        let inner = format!("fixed:out:{}{}:", method.prefix(), hash.base16());
        Some(self.path_hash("output:out", &Sha256Hash::of(inner.as_bytes())))
    }

    /// A self-reference can't be part of the path that it is computed for, so it is only marked.
    fn source_path_hash(&self, digest: &Sha256Hash) -> StorePathHash {
        let mut references = self.sorted_references();
        let all = references.len();
        references.retain(|reference| **reference != self.store_path);
        let has_self = references.len() < all;
        let kind = with_references("source", references);
        self.path_hash(&format!("{kind}{}", if has_self { ":self" } else { "" }), digest)
    }

    /// `makeStorePath`.
    fn path_hash(&self, kind: &str, hash: &Sha256Hash) -> StorePathHash {
        let name = self.store_path.name();
        let fingerprint = format!("{kind}:sha256:{}:{STORE_DIR}:{name}", hash.hex());
        fold(&Sha256::digest(fingerprint.as_bytes()))
    }
}

fn recursive_sha256(method: Ingestion, hash: &CaHash) -> Option<Sha256Hash> {
    let fits = method == Ingestion::Recursive && hash.algorithm() == HashAlgorithm::Sha256;
    let digest = hash.digest().try_into().ok().filter(|_| fits)?;
    Some(Sha256Hash::from_bytes(digest))
}

fn with_references<'a>(kind: &str, references: impl IntoIterator<Item = &'a StorePath>) -> String {
    references.into_iter().fold(kind.to_owned(), |kind, path| format!("{kind}:{STORE_DIR}/{path}"))
}

/// Nix's way to shorten a digest to 20 bytes: what is over is XORed onto the front.
fn fold(digest: &[u8]) -> StorePathHash {
    let mut folded = [0; 20];
    for (index, byte) in digest.iter().enumerate() {
        folded[index % 20] ^= byte;
    }
    StorePathHash::from_bytes(folded)
}
