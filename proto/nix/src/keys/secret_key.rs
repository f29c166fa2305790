//! A named Ed25519 secret key, wiped from memory when dropped and never printed.

use std::fmt;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey, Signature, is_key_name, split_key};

/// A key that signs. It can't be cloned, `Debug` shows its name only, and its text leaves by
/// [`SecretKey::to_text`] alone.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// Reads `<name>:<base64 of seed and public key, 64 bytes>`; a trailing newline is tolerated.
    ///
    /// # Errors
    /// See [`KeyError`]; in particular [`KeyError::Mismatch`] if the public half is not that of
    /// the seed, since such a key would leak its secret with every signature.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let (name, bytes) = split_key::<64>(text)?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| KeyError::Mismatch)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Name`] or [`KeyError::NoRandomness`].
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::Name);
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// The name that signatures carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Signs a fingerprint. The same fingerprint always gives the same signature.
    pub fn sign(&self, fingerprint: &str) -> Signature {
        Signature { key_name: self.name.clone(), bytes: self.key.sign(fingerprint.as_bytes()).to_bytes() }
    }

    /// What clients put into `trusted-public-keys`.
    pub fn public(&self) -> PublicKey {
        PublicKey::new(&self.name, self.key.verifying_key())
    }

    /// The text that [`SecretKey::parse`] reads, without a newline: for the key file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.key.to_keypair_bytes());
        let encoded_len = BASE64.encode_len(bytes.len());
        // Reserved at once: growing would leave a copy behind.
        let mut text = Zeroizing::new(String::with_capacity(self.name.len() + 1 + encoded_len));
        text.push_str(&self.name);
        text.push(':');
        BASE64.encode_append(bytes.as_slice(), &mut text);
        text
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).finish_non_exhaustive()
    }
}
