//! An upstream's narinfo into what we serve: checked, named by its file's hash, signed. Pure: a publication
//! in, an offer or a refusal out.
//!
//! Knows who is trusted and our key. Absent on purpose: what is stored already (see [`crate::control`]).
//! Store path, NAR hash, NAR size, references, deriver and CA are never changed: they are what the upstream
//! signed, or what the signature leaves to the upstream.

use std::collections::HashSet;
use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarInfo, SecretKey, Signature, TrustedKeys};
use ncps_proto::admin::FormerKey;
use ncps_proto::{Code, EdgeSettings, Error, NarFacts, Origin, Publication, Result};

use parking_lot::RwLock;

use crate::admission::Admission;
use crate::record::{facts_of, file_of, point_at, uncompressed};

/// Who is believed, and who signs.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The upstreams' keys: one pool for all, as in Nix.
    pub(crate) trusted: TrustedKeys,
    signer: Signer,
    /// Upstreams whose narinfos are passed on although nobody vouches for them.
    pub(crate) unsigned: HashSet<String>,
    /// What of clients is admitted.
    pub(crate) admission: Admission,
}

/// Our keys, which may change while we run.
#[derive(Debug)]
struct Signer(RwLock<Signing>);

#[derive(Debug)]
struct Signing {
    key: Option<Arc<SecretKey>>,
    former: Vec<FormerKey>,
}

impl Signer {
    fn of(key: Option<SecretKey>, former: Vec<FormerKey>) -> Signer {
        Signer(RwLock::new(Signing { key: key.map(Arc::new), former }))
    }
}

/// A narinfo as it would be served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) narinfo: NarInfo,
    pub(crate) origin: Origin,
}

impl Offer {
    /// The file that the narinfo names.
    pub(crate) fn file(&self) -> NarFileName {
        file_of(&self.narinfo)
    }

    /// The signed facts of its NAR.
    pub(crate) fn facts(&self) -> NarFacts {
        facts_of(&self.narinfo)
    }

    /// The same path under another file of the same NAR: the upstream's file hash is known to be wrong.
    pub(crate) fn renamed(mut self, file: NarFileName, file_size: Option<u64>) -> Self {
        point_at(&mut self.narinfo, file, file_size);
        self
    }

    /// The same path with its NAR uncompressed, as for an upstream that gives no file hash.
    pub(crate) fn decoded(self) -> Self {
        let (hash, size) = (uncompressed(self.narinfo.nar_hash), self.narinfo.nar_size);
        self.renamed(NarFileName { hash, compression: Compression::None }, Some(size))
    }
}

impl Policy {
    /// What the configuration says, and the key.
    pub(crate) fn of(
        settings: &EdgeSettings,
        key: Option<SecretKey>,
        former: Vec<FormerKey>,
        admission: Admission,
    ) -> Policy {
        let unsigned = settings.upstreams.iter().filter(|upstream| upstream.unsigned);
        Policy {
            trusted: TrustedKeys::from_iter(settings.trusted_keys.iter().cloned()),
            signer: Signer::of(key, former),
            unsigned: unsigned.map(|upstream| upstream.url.clone()).collect(),
            admission,
        }
    }

    /// What signs; `None` where narinfos are not signed.
    pub(crate) fn key(&self) -> Option<Arc<SecretKey>> {
        self.signer.0.read().key.clone()
    }

    /// What signed before, the newest first.
    pub(crate) fn former(&self) -> Vec<FormerKey> {
        self.signer.0.read().former.clone()
    }

    /// From here on this key signs, and `former` signed before.
    pub(crate) fn sign_with(&self, key: SecretKey, former: Vec<FormerKey>) {
        *self.signer.0.write() = Signing { key: Some(Arc::new(key)), former };
    }

    /// A stored narinfo with our signature beside those that it has, where a former key of ours vouches for it and
    /// the one that signs now has not signed it yet.
    pub(crate) fn renewed(&self, narinfo: &NarInfo) -> Option<NarInfo> {
        let signing = self.signer.0.read();
        let key = signing.key.as_ref().filter(|_| !signing.former.is_empty())?;
        if narinfo.signatures.iter().any(|signature| signature.key_name == key.name()) {
            return None;
        }
        let ours = TrustedKeys::from_iter(signing.former.iter().map(|former| former.key.clone()));
        ours.verify(narinfo)?;
        let mut renewed = narinfo.clone();
        renewed.signatures.push(key.sign(&narinfo.fingerprint()));
        Some(renewed)
    }

    /// Checks a publication and makes of it what we serve.
    ///
    /// # Errors
    /// [`Code::Invalid`], naming upstream, path and reason, where neither a trusted key nor a CA
    /// vouches, and the upstream is not one from which that is taken.
    pub(crate) fn offer(&self, publication: Publication) -> Result<Offer> {
        let Publication { mut narinfo, upstream, .. } = publication;
        let signed = self.trusted.verify(&narinfo).is_some();
        if !signed && !narinfo.proves_itself() && !self.unsigned.contains(&upstream) {
            return Err(self.refusal(&narinfo, &upstream));
        }
        // A CA that says nothing of the NAR's hash is enough for a client, which compares the contents with
        // it. Our signature would vouch for the hash, too, so it needs a proof of that.
        let vouched = signed || narinfo.proves_nar_hash();
        narinfo.references.sort_unstable();
        narinfo.references.dedup();
        narinfo.signatures = self.signatures(&narinfo, vouched);
        Ok(named(narinfo, upstream))
    }

    /// What somebody kept of a narinfo that we made, or could have made: as it would be served, if a trusted key, or
    /// one of `ours`, signed it, or its CA proves it. `None` where nobody vouches.
    pub(crate) fn again(&self, mut narinfo: NarInfo, ours: &TrustedKeys) -> Option<NarInfo> {
        let signed = self.trusted.verify(&narinfo).is_some() || ours.verify(&narinfo).is_some();
        if !signed && !narinfo.proves_itself() {
            return None;
        }
        let vouched = signed || narinfo.proves_nar_hash();
        narinfo.references.sort_unstable();
        narinfo.references.dedup();
        narinfo.signatures = self.signatures(&narinfo, vouched);
        Some(narinfo)
    }

    /// The upstream's signatures, each once, and ours in the place of any former one of our key's name.
    pub(crate) fn signatures(&self, narinfo: &NarInfo, vouched: bool) -> Vec<Signature> {
        let mut kept: Vec<Signature> = Vec::with_capacity(narinfo.signatures.len() + 1);
        let key = self.key();
        let own_name = key.as_ref().map(|key| key.name());
        for signature in &narinfo.signatures {
            if Some(signature.key_name.as_str()) != own_name && !kept.contains(signature) {
                kept.push(signature.clone());
            }
        }
        if let Some(key) = key.as_ref().filter(|_| vouched) {
            kept.push(key.sign(&narinfo.fingerprint()));
        }
        kept
    }

    fn refusal(&self, narinfo: &NarInfo, upstream: &str) -> Error {
        let names: Vec<&str> =
            narinfo.signatures.iter().map(|signature| signature.key_name.as_str()).collect();
        let reason = match names.as_slice() {
            [] => "it carries no signature and no CA that proves it".to_owned(),
            names if self.trusted.iter().any(|key| names.contains(&key.name())) => {
                "a signature in a trusted key's name does not fit it".to_owned()
            }
            names => format!("none of its keys is trusted ({})", names.join(", ")),
        };
        Error::new(Code::Invalid, format!("{upstream}: narinfo of {} refused: {reason}", narinfo.store_path))
    }
}

/// Gives the narinfo our URL and keeps the upstream's as the origin.
fn named(mut narinfo: NarInfo, upstream: String) -> Offer {
    let url = std::mem::take(&mut narinfo.url);
    let origin = Origin { upstream, url, compression: narinfo.compression };
    let (file, size) = narinfo.offered();
    Offer { narinfo, origin }.renamed(file, size)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
