//! What is served of an upstream's narinfo, and what is refused.

use ncps_nix::{CaHash, ContentAddress, FileHash, HashAlgorithm, Ingestion, NarHash, Sha256Hash, StorePath};

use super::*;
use crate::testing::*;

struct Case {
    upstream: Upstream,
    policy: Policy,
}

impl Case {
    fn new() -> Self {
        let upstream = Upstream::new();
        let trusted = TrustedKeys::from_iter([upstream.key.public()]);
        Self {
            upstream,
            policy: Policy {
                trusted,
                signer: Signer::of(Some(own_key()), Vec::new()),
                unsigned: HashSet::new(),
                admission: crate::Admission::default(),
            },
        }
    }

    fn offer(&self, narinfo: NarInfo) -> Offer {
        self.policy.offer(publication(narinfo)).expect("trusted")
    }

    fn refused(&self, narinfo: NarInfo) -> String {
        let error = self.policy.offer(publication(narinfo)).expect_err("must be refused");
        assert_eq!(error.code(), Code::Invalid);
        error.to_string()
    }

    fn own(&self) -> Arc<SecretKey> {
        self.policy.key().expect("signs")
    }
}

#[test]
fn a_compressed_nar_with_a_file_hash_passes_unchanged() {
    let case = Case::new();
    let theirs = case.upstream.narinfo(1);
    let Offer { narinfo, origin } = case.offer(theirs.clone());
    let own = case.own().sign(&theirs.fingerprint());
    let expected = NarInfo {
        url: file_of(&theirs).url(),
        signatures: vec![theirs.signatures[0].clone(), own],
        references: narinfo.references.clone(),
        ..theirs.clone()
    };
    assert_eq!(narinfo, expected);
    assert_eq!(origin, crate::testing::origin(&theirs));
    assert!(case.own().public().verify(&narinfo.fingerprint(), &narinfo.signatures[1]));
}

#[test]
fn an_uncompressed_nar_is_named_by_its_nar_hash() {
    let case = Case::new();
    let mut theirs = case.upstream.narinfo(1);
    theirs.compression = Compression::None;
    theirs.file_hash = Some(FileHash(Sha256Hash::of(b"differs")));
    let offer = case.offer(theirs.clone());
    assert_eq!(offer.file().hash, uncompressed(theirs.nar_hash), "NarHash wins over FileHash");
    assert_eq!((offer.narinfo.file_size, offer.origin.compression), (Some(5000), Compression::None));
}

#[test]
fn a_compressed_nar_without_file_hash_is_offered_decoded() {
    let case = Case::new();
    let theirs = NarInfo { file_hash: None, ..case.upstream.narinfo(1) };
    let offer = case.offer(theirs.clone());
    assert_eq!(
        offer.file(),
        NarFileName { hash: uncompressed(theirs.nar_hash), compression: Compression::None }
    );
    assert_eq!(offer.narinfo.url, offer.file().url());
    assert_eq!((offer.narinfo.file_size, offer.origin.compression), (Some(5000), Compression::Xz));
}

#[test]
fn references_are_sorted_and_each_there_once() {
    let case = Case::new();
    let mut theirs = unsigned(1);
    theirs.references = vec![path(9), path(3), path(9), path(1)];
    case.upstream.sign(&mut theirs);
    let narinfo = case.offer(theirs).narinfo;
    let mut sorted = vec![path(9), path(3), path(1)];
    sorted.sort();
    assert_eq!(narinfo.references, sorted);
}

#[test]
fn signatures_are_kept_once_and_ours_replaces_a_former_one() {
    let case = Case::new();
    let mut theirs = case.upstream.narinfo(1);
    let stranger = SecretKey::generate("stranger").expect("made").sign("another text");
    let former = Signature { key_name: case.own().name().to_owned(), bytes: [7; 64] };
    let trusted = theirs.signatures[0].clone();
    theirs.signatures = vec![former, stranger.clone(), trusted.clone(), stranger.clone()];
    let own = case.own().sign(&theirs.fingerprint());
    assert_eq!(case.offer(theirs).narinfo.signatures, [stranger, trusted, own]);
}

#[test]
fn without_a_key_upstream_signatures_pass_only() {
    let mut case = Case::new();
    case.policy.signer = Signer::of(None, Vec::new());
    let theirs = case.upstream.narinfo(1);
    assert_eq!(case.offer(theirs.clone()).narinfo.signatures, theirs.signatures);
}

#[test]
fn refusals_name_upstream_path_and_reason() {
    let case = Case::new();
    let nothing = case.refused(unsigned(1));
    assert!(nothing.contains(UPSTREAM) && nothing.contains(&path(1).to_string()), "{nothing}");
    assert!(nothing.contains("no signature"), "{nothing}");
    let stranger = SecretKey::generate("stranger").expect("made");
    let mut theirs = unsigned(1);
    theirs.signatures = vec![stranger.sign(&theirs.fingerprint())];
    assert!(case.refused(theirs).contains("(stranger)"));
    let impostor = SecretKey::generate("upstream-1").expect("made");
    let mut theirs = unsigned(1);
    theirs.signatures = vec![impostor.sign(&theirs.fingerprint())];
    assert!(case.refused(theirs).contains("does not fit"));
}

#[test]
fn every_signed_part_is_held() {
    let case = Case::new();
    let changes: [fn(&mut NarInfo); 4] = [
        |n| n.nar_size += 1,
        |n| n.nar_hash = NarHash(Sha256Hash::of(b"other")),
        |n| drop(n.references.pop()),
        |n| n.store_path = path(2),
    ];
    for change in changes {
        let mut theirs = case.upstream.narinfo(1);
        change(&mut theirs);
        case.refused(theirs);
    }
}

/// A fixed-output path without references, and the CA that gives it.
fn content_addressed(recursive: bool) -> NarInfo {
    let mut narinfo = NarInfo { references: vec![], deriver: None, ..unsigned(1) };
    let method = if recursive { Ingestion::Recursive } else { Ingestion::Flat };
    let hash = CaHash::new(HashAlgorithm::Sha256, narinfo.nar_hash.0.as_bytes()).expect("32 bytes");
    narinfo.ca = Some(ContentAddress::Fixed { method, hash });
    let digest = narinfo.nar_hash.0;
    let (kind, inner) = if recursive {
        ("source", digest)
    } else {
        ("output:out", Sha256Hash::of(format!("fixed:out:sha256:{}:", digest.hex()).as_bytes()))
    };
    let name = narinfo.store_path.name();
    let full = Sha256Hash::of(format!("{kind}:sha256:{}:/nix/store:{name}", inner.hex()).as_bytes());
    let mut folded = [0; 20];
    full.as_bytes().iter().enumerate().for_each(|(at, byte)| folded[at % 20] ^= byte);
    let hash = ncps_nix::StorePathHash::from_bytes(folded);
    narinfo.store_path = StorePath::new(hash, name).expect("valid");
    narinfo
}

#[test]
fn a_ca_that_proves_the_nar_is_signed() {
    let case = Case::new();
    let theirs = content_addressed(true);
    let own = case.own().sign(&theirs.fingerprint());
    assert_eq!(case.offer(theirs.clone()).narinfo.signatures, [own]);
    let mut lies = theirs;
    lies.nar_hash = NarHash(Sha256Hash::of(b"another NAR"));
    case.refused(lies);
}

#[test]
fn a_ca_that_proves_the_path_alone_is_served_but_not_signed() {
    let case = Case::new();
    let theirs = content_addressed(false);
    assert_eq!(case.offer(theirs).narinfo.signatures, [], "our signature would vouch for the NAR hash");
}

#[test]
fn who_may_be_unsigned_is_passed_on_and_not_signed() {
    let mut case = Case::new();
    case.policy.unsigned.insert(UPSTREAM.to_owned());
    let signed = case.upstream.narinfo(1);
    let mut unsigned = signed.clone();
    unsigned.signatures.clear();
    assert_eq!(case.offer(unsigned).narinfo.signatures, vec![], "nobody vouches for it, and neither do we");
    let ours = case.own().name().to_owned();
    assert!(case.offer(signed).narinfo.signatures.iter().any(|s| s.key_name == ours), "somebody does");
}

#[test]
fn after_a_rotation_what_a_former_key_signed_is_signed_anew() {
    let case = Case::new();
    let stored = case.offer(case.upstream.narinfo(1)).narinfo;
    assert_eq!(case.policy.renewed(&stored), None, "nothing was rotated");
    let (old, new) = (case.own(), SecretKey::generate("host-2").expect("made"));
    let public = new.public();
    case.policy.sign_with(new, vec![FormerKey { key: old.public(), retired_at: 1 }]);
    let renewed = case.policy.renewed(&stored).expect("another signature");
    assert_eq!(renewed.signatures[..stored.signatures.len()], stored.signatures, "the former ones stay");
    let last = renewed.signatures.last().expect("ours");
    assert!(public.verify(&renewed.fingerprint(), last));
    assert_eq!(case.policy.renewed(&renewed), None, "once");
}

#[test]
fn what_no_former_key_vouches_for_is_not_signed_anew() {
    let case = Case::new();
    let (old, new) = (case.own(), SecretKey::generate("host-2").expect("made"));
    let mut forged = case.offer(case.upstream.narinfo(1)).narinfo;
    forged.nar_size += 1;
    let foreign = case.upstream.narinfo(2);
    case.policy.sign_with(new, vec![FormerKey { key: old.public(), retired_at: 1 }]);
    assert_eq!((case.policy.renewed(&forged), case.policy.renewed(&foreign)), (None, None));
}
