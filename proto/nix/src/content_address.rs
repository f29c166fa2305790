//! The `CA` field: how a store path follows from its contents.
//!
//! The field is read and kept for every algorithm that Nix knows. Absent on purpose: computing
//! any digest but SHA-256 of it; a store path is derived from the digest's text alone.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::{base64, nix32};

/// Why a text is no content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentAddressError {
    /// Neither `text:` nor `fixed:`.
    #[error("unknown kind of content address")]
    UnknownKind,
    /// Not md5, sha1, sha256, sha512 or blake3; or `text:` with another than sha256.
    #[error("content address with an unknown or unfit hash algorithm")]
    Algorithm,
    /// A digest of the wrong length or alphabet.
    #[error("content address with a malformed digest")]
    Digest,
}

/// A hash algorithm that Nix knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// 16 bytes.
    Md5,
    /// 20 bytes.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
    /// 32 bytes; experimental since Nix 2.30.
    Blake3,
}

impl HashAlgorithm {
    /// The name in front of the digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512, Self::Blake3]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

/// A digest with its algorithm; `Display` gives `<algorithm>:<nix32>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaHash {
    algorithm: HashAlgorithm,
    digest: Box<[u8]>,
}

impl CaHash {
    /// None if the digest's length is not that of the algorithm.
    pub fn new(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Self> {
        (digest.len() == algorithm.digest_len()).then(|| Self { algorithm, digest: digest.into() })
    }

    /// What the digest was made with.
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The digest's bytes, [`HashAlgorithm::digest_len`] many.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// `<algorithm>:<base16>`: the spelling inside store path fingerprints.
    pub(crate) fn base16(&self) -> String {
        format!("{}:{}", self.algorithm.name(), HEXLOWER.encode(&self.digest))
    }

    /// Reads `<algorithm>:` with nix32, lower-case base16 or base64, told apart by length.
    fn parse(text: &str) -> Result<Self, ContentAddressError> {
        let (name, digest) = text.split_once(':').ok_or(ContentAddressError::Digest)?;
        let algorithm = HashAlgorithm::from_name(name).ok_or(ContentAddressError::Algorithm)?;
        let digest = decode_digest(digest, algorithm.digest_len()).ok_or(ContentAddressError::Digest)?;
        Ok(Self { algorithm, digest: digest.into() })
    }
}

fn decode_digest(text: &str, len: usize) -> Option<Vec<u8>> {
    let bytes = match text.len() {
        chars if chars == nix32::encoded_len(len) => {
            let mut bytes = vec![0; len];
            nix32::decode_into(text, &mut bytes)?;
            bytes
        }
        chars if chars == len * 2 => HEXLOWER.decode(text.as_bytes()).ok()?,
        _ => base64::decode(text)?,
    };
    (bytes.len() == len).then_some(bytes)
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = nix32::encode(&self.digest);
        write!(f, "{}:{digest}", self.algorithm.name())
    }
}

/// How a tree becomes the bytes that are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ingestion {
    /// The contents of a single file.
    Flat,
    /// The NAR (`r:`), with self-references blanked.
    Recursive,
    /// A git tree or blob object (`git:`).
    Git,
}

impl Ingestion {
    /// What stands in front of the hash, in the field and in store path fingerprints.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Flat => "",
            Self::Recursive => "r:",
            Self::Git => "git:",
        }
    }
}

/// A content address, as in a narinfo's `CA` field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentAddress {
    /// `text:sha256:…`: a file's contents and its references (derivations, `builtins.toFile`).
    Text(crate::Sha256Hash),
    /// `fixed:…`: a fixed output, or a source.
    Fixed {
        /// What was hashed.
        method: Ingestion,
        /// Its hash.
        hash: CaHash,
    },
}

impl ContentAddress {
    /// Reads the value of a `CA` field.
    ///
    /// # Errors
    /// See [`ContentAddressError`].
    pub fn parse(text: &str) -> Result<Self, ContentAddressError> {
        if let Some(hash) = text.strip_prefix("text:") {
            return parse_text(hash);
        }
        let rest = text.strip_prefix("fixed:").ok_or(ContentAddressError::UnknownKind)?;
        let method = [Ingestion::Recursive, Ingestion::Git]
            .into_iter()
            .find(|method| rest.starts_with(method.prefix()))
            .unwrap_or(Ingestion::Flat);
        let hash = CaHash::parse(&rest[method.prefix().len()..])?;
        Ok(Self::Fixed { method, hash })
    }
}

fn parse_text(hash: &str) -> Result<ContentAddress, ContentAddressError> {
    let hash = CaHash::parse(hash)?;
    match <[u8; 32]>::try_from(&*hash.digest) {
        Ok(digest) if hash.algorithm == HashAlgorithm::Sha256 => {
            Ok(ContentAddress::Text(crate::Sha256Hash::from_bytes(digest)))
        }
        _ => Err(ContentAddressError::Algorithm),
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(hash) => write!(f, "text:{hash}"),
            Self::Fixed { method, hash } => write!(f, "fixed:{}{hash}", method.prefix()),
        }
    }
}
