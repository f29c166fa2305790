//! A named Ed25519 signature: the value of a `Sig` line.

use std::fmt;

use data_encoding::BASE64;

use super::is_key_name;
use crate::base64;

/// Why a text is no signature. Nix 2.34 and later refuse a narinfo for any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No `:` between key name and signature.
    #[error("signature without a key name")]
    NoName,
    /// An empty key name, or one with whitespace or control characters.
    #[error("signature with a malformed key name")]
    Name,
    /// Not padded standard base64.
    #[error("signature is not base64")]
    Base64,
    /// Not 64 bytes.
    #[error("signature of the wrong length")]
    Length,
}

/// A signature and the name of the key it claims to be made with; `Display` gives
/// `<key name>:<base64>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// Not empty, no `:`, no whitespace or control characters.
    pub key_name: String,
    /// R and S, as in RFC 8032.
    pub bytes: [u8; 64],
}

impl Signature {
    /// Reads `<key name>:<base64>`, split at the first colon.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let (name, encoded) = text.split_once(':').ok_or(SignatureError::NoName)?;
        if !is_key_name(name) {
            return Err(SignatureError::Name);
        }
        let bytes = base64::decode(encoded).ok_or(SignatureError::Base64)?.try_into();
        Ok(Self { key_name: name.to_owned(), bytes: bytes.map_err(|_| SignatureError::Length)? })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, BASE64.encode(&self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
