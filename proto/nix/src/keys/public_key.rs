//! A named Ed25519 public key: one entry of `trusted-public-keys`.

use std::fmt;

use data_encoding::BASE64;
use ed25519_dalek::VerifyingKey;

use super::{KeyError, Signature, split_key};

/// A key that verifies; `Display` gives `<name>:<base64 of 32 bytes>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads `<name>:<base64 of 32 bytes>`.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = split_key::<32>(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotAKey)?;
        Ok(Self::new(name, key))
    }

    pub(super) fn new(name: &str, key: VerifyingKey) -> Self {
        Self { name: name.to_owned(), key }
    }

    /// By which signatures refer to the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the signature names this key and was made with it over this fingerprint.
    ///
    /// Low-order keys and points are refused, as libsodium (Nix) refuses them.
    pub fn verify(&self, fingerprint: &str, signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key_name == self.name && self.key.verify_strict(fingerprint.as_bytes(), &bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
