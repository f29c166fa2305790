//! What of clients is admitted, and what we sign of it. Pure: an uploaded narinfo and what its writer may do in, a
//! narinfo to be served or a refusal out.
//!
//! A narinfo is admitted where somebody vouches for it: a key that is trusted for upstreams or for uploads, its own
//! CA, or a writer who may have things signed. Our own signature admits nothing: what was deleted with a reason would
//! come back by it. Absent on purpose: whether its NAR is stored and what is known of its path already (see
//! [`crate::control`]).

use ncps_nix::{NarInfo, PublicKey, TrustedKeys};
use ncps_proto::{Code, Error, Result};

use crate::publish::Policy;

/// The rules, as they are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Keys that vouch for uploads, beside those of the upstreams.
    pub keys: Vec<PublicKey>,
    /// Only keys and CAs vouch.
    pub only_trusted: bool,
    /// Whatever is uploaded is signed.
    pub anything: bool,
}

impl Policy {
    /// An uploaded narinfo with the signatures that it is served with.
    ///
    /// # Errors
    /// [`Code::Refused`], with the ways that there are, where nobody vouches for it.
    pub(crate) fn admit(&self, mut narinfo: NarInfo, may_sign: bool) -> Result<NarInfo> {
        let Admission { keys, only_trusted, anything } = &self.admission;
        let keys = TrustedKeys::from_iter(self.trusted.iter().chain(keys).cloned());
        let signed = keys.verify(&narinfo).is_some();
        let by_writer = !only_trusted && (may_sign || *anything);
        if !signed && !by_writer && !narinfo.proves_itself() {
            return Err(self.nobody_vouches(&narinfo));
        }
        narinfo.references.sort_unstable();
        narinfo.references.dedup();
        // As for upstreams: our signature would vouch for the NAR's hash, of which not every CA says something.
        let vouched = signed || by_writer || narinfo.proves_nar_hash();
        narinfo.signatures = self.signatures(&narinfo, vouched);
        Ok(narinfo)
    }

    fn nobody_vouches(&self, narinfo: &NarInfo) -> Error {
        let third = if self.admission.only_trusted { "" } else { ", or write with a token of scope sign" };
        let ways = format!("sign it with a key that is trusted here, make it content-addressed{third}");
        Error::new(Code::Refused, format!("nobody vouches for {}: {ways}", narinfo.store_path))
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::SecretKey;

    use super::*;
    use crate::testing::{Upstream, own_key, settings, unsigned};

    fn key(name: &str) -> SecretKey {
        SecretKey::generate(name).expect("randomness is there")
    }

    fn policy(upstream: &Upstream, admission: Admission) -> Policy {
        Policy::of(&settings(upstream.key.public()), Some(own_key()), Vec::new(), admission)
    }

    fn signed_by(key: &SecretKey) -> NarInfo {
        let mut narinfo = unsigned(1);
        narinfo.signatures = vec![key.sign(&narinfo.fingerprint())];
        narinfo
    }

    #[test]
    fn keys_of_upstreams_and_of_uploads_vouch() {
        let (upstream, ci) = (Upstream::new(), key("ci-1"));
        let trusting = policy(&upstream, Admission { keys: vec![ci.public()], ..Admission::default() });
        for key in [&upstream.key, &ci] {
            let admitted = trusting.admit(signed_by(key), false).expect("a trusted key signed it");
            assert_eq!(admitted.signatures.len(), 2, "theirs and ours");
        }
        let strict = policy(&upstream, Admission::default());
        for narinfo in [signed_by(&ci), signed_by(&key("ci-1")), unsigned(1)] {
            let refused = strict.admit(narinfo, false).expect_err("nobody vouches for it");
            assert_eq!(refused.code(), Code::Refused);
            let line = refused.to_string();
            assert!(
                ["trusted", "content-addressed", "scope sign"].iter().all(|way| line.contains(way)),
                "{line}"
            );
        }
    }

    #[test]
    fn our_own_signature_admits_nothing() {
        let upstream = Upstream::new();
        let policy = policy(&upstream, Admission::default());
        let ours = policy.key().map(|key| signed_by(&key)).expect("there is a key");
        policy.admit(ours, false).expect_err("it may have been deleted with a reason");
    }

    #[test]
    fn a_writer_who_may_sign_is_enough_unless_only_the_trusted_are() {
        let upstream = Upstream::new();
        let lax = policy(&upstream, Admission::default());
        assert_eq!(lax.admit(unsigned(1), true).expect("he may").signatures.len(), 1);
        let strict = policy(&upstream, Admission { only_trusted: true, ..Admission::default() });
        let refused = strict.admit(unsigned(1), true).expect_err("only keys and CAs count");
        assert!(!refused.to_string().contains("scope sign"), "{refused}");
        strict.admit(signed_by(&upstream.key), false).expect("a trusted key signed it");
        let anything = policy(&upstream, Admission { anything: true, ..Admission::default() });
        assert_eq!(anything.admit(unsigned(1), false).expect("anything goes").signatures.len(), 1);
    }

    #[test]
    fn a_forged_signature_of_ours_is_not_served() {
        let upstream = Upstream::new();
        let policy = policy(&upstream, Admission::default());
        let mut narinfo = signed_by(&upstream.key);
        let mut forged = key("cache.test").sign(&narinfo.fingerprint());
        forged.key_name = "cache.test".to_owned();
        narinfo.signatures.push(forged.clone());
        let admitted = policy.admit(narinfo, false).expect("a trusted key signed it");
        assert!(!admitted.signatures.contains(&forged));
        assert_eq!(admitted.signatures.len(), 2);
    }
}
