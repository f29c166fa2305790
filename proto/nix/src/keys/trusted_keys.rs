//! The public keys that an upstream, or an uploader, is trusted by.
//!
//! Nix keeps one key per name. Here two different keys under one name are both kept and both
//! tried: which of them a list names last should not decide what is trusted.

use super::PublicKey;
use crate::NarInfo;

/// A set of trusted keys, in the order given. The empty set trusts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
}

impl TrustedKeys {
    /// Name of the key of the first signature that verifies; None if none does.
    pub fn verify(&self, narinfo: &NarInfo) -> Option<&str> {
        let candidates = || {
            narinfo.signatures.iter().flat_map(|signature| {
                self.keys
                    .iter()
                    .filter(|key| key.name() == signature.key_name)
                    .map(move |key| (key, signature))
            })
        };
        candidates().next()?;
        let fingerprint = narinfo.fingerprint();
        candidates().find(|(key, signature)| key.verify(&fingerprint, signature)).map(|(key, _)| key.name())
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, each once.
    pub fn iter(&self) -> std::slice::Iter<'_, PublicKey> {
        self.keys.iter()
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut pool = Self::default();
        pool.extend(keys);
        pool
    }
}

impl Extend<PublicKey> for TrustedKeys {
    fn extend<I: IntoIterator<Item = PublicKey>>(&mut self, keys: I) {
        for key in keys {
            if !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
    }
}

impl<'a> IntoIterator for &'a TrustedKeys {
    type Item = &'a PublicKey;
    type IntoIter = std::slice::Iter<'a, PublicKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
