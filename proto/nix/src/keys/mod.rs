//! Ed25519 keys and signatures in Nix's text form, `<key name>:<base64>`.
//!
//! Who may sign what is decided elsewhere; here is only whether a signature verifies. Absent on
//! purpose: key files (callers read and write them) and any other algorithm.

mod public_key;
mod secret_key;
mod signature;
mod trusted_keys;

use zeroize::Zeroizing;

use crate::base64;

pub use public_key::PublicKey;
pub use secret_key::SecretKey;
pub use signature::{Signature, SignatureError};
pub use trusted_keys::TrustedKeys;

/// Why a text is no key. Never quotes the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `:` between name and key.
    #[error("key without a name")]
    NoName,
    /// An empty name, or one with `:`, whitespace or control characters.
    #[error("malformed key name")]
    Name,
    /// Not padded standard base64.
    #[error("key is not base64")]
    Base64,
    /// Not 32 bytes (public) or 64 bytes (secret).
    #[error("key of the wrong length")]
    Length,
    /// The bytes are no Ed25519 public key.
    #[error("not an Ed25519 public key")]
    NotAKey,
    /// The public half of a secret key belongs to another seed.
    #[error("secret key whose halves do not fit each other")]
    Mismatch,
    /// The operating system gave no random bytes for a new key.
    #[error("no randomness for a new key")]
    NoRandomness,
}

/// Nix stores signatures separated by spaces, and a name ends at the first colon.
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == ':' || c.is_whitespace() || c.is_control())
}

/// Splits at the first colon, as Nix does.
fn split_key<const N: usize>(text: &str) -> Result<(&str, Zeroizing<[u8; N]>), KeyError> {
    let (name, encoded) = text.split_once(':').ok_or(KeyError::NoName)?;
    if !is_key_name(name) {
        return Err(KeyError::Name);
    }
    let decoded = Zeroizing::new(base64::decode(encoded).ok_or(KeyError::Base64)?);
    let bytes = decoded.as_slice().try_into();
    Ok((name, Zeroizing::new(bytes.map_err(|_| KeyError::Length)?)))
}
