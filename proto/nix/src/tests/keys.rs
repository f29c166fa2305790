//! Keys and signatures: published vectors, malformed texts, secrecy.

use proptest::prelude::*;

use super::{FULL, strategies};
use crate::{KeyError, NarInfo, PublicKey, SecretKey, Signature, SignatureError, TrustedKeys};

const SECRET: &str =
    "test-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const PUBLIC: &str = "test-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const FINGERPRINT: &str = "1;/nix/store/00000000000000000000000000000000-hello;sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw;120;";
const SIGNATURE: &str =
    "test-1:SUGOq4P58m37Lr3FNyjcaJpd/e8nJYGkkeum5Yab7qrDaf0Z6aHEaGKESqfgrOBjxnVz5aTOT/+VpjgjRB31Bw==";
const CURL: &str = "\
StorePath: /nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin
URL: nar/x.nar.xz
Compression: xz
NarHash: sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0
NarSize: 196040
References: 0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0 6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115 j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12 yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n
Sig: cache.nixos.org-1:TsTTb3WGTZKphvYdBHXwo6weVILmTytUjLB+vcX89fOjjRicCHmKA4RCPMVLkj6TMJ4GMX3HPVWRdD1hkeKZBQ==
";

fn secret() -> SecretKey {
    SecretKey::parse(SECRET).expect("the published key")
}

fn public(text: &str) -> PublicKey {
    PublicKey::parse(text).expect("a well-formed key")
}

fn narinfo(text: &str) -> NarInfo {
    NarInfo::parse(text.as_bytes()).expect("a well-formed narinfo")
}

fn trusted(keys: &[PublicKey]) -> TrustedKeys {
    keys.iter().cloned().collect()
}

#[test]
fn signs_as_nix_does() {
    assert_eq!(secret().sign(FINGERPRINT).to_string(), SIGNATURE);
    assert_eq!(secret().public().to_string(), PUBLIC);
    assert_eq!(secret().public(), public(PUBLIC));
    assert_eq!(*secret().to_text(), SECRET);
}

#[test]
fn verifies_only_what_was_signed_by_that_name() {
    let key = public(PUBLIC);
    let signature = Signature::parse(SIGNATURE).expect("the published signature");
    assert!(key.verify(FINGERPRINT, &signature));
    assert!(!key.verify(&FINGERPRINT.replace("120", "121"), &signature));
    let other_name = public(&PUBLIC.replace("test-1", "test-2"));
    assert!(!other_name.verify(FINGERPRINT, &signature));
    for bit in 0..512 {
        let mut damaged = signature.clone();
        damaged.bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.verify(FINGERPRINT, &damaged), "bit {bit}");
    }
}

#[test]
fn a_path_of_cache_nixos_org_verifies() {
    let key = public("cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=");
    let keys = trusted(&[public(PUBLIC), key]);
    assert_eq!(keys.verify(&narinfo(CURL)), Some("cache.nixos.org-1"));
    let unsorted = CURL.replace("0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0 ", "");
    let unsorted =
        unsorted.replace("openssl-1.1.1n\n", "openssl-1.1.1n 0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0\n");
    assert_ne!(unsorted, CURL);
    assert_eq!(keys.verify(&narinfo(&unsorted)), Some("cache.nixos.org-1"));
    assert_eq!(keys.verify(&narinfo(&CURL.replace("196040", "196041"))), None);
    assert_eq!(trusted(&[public(PUBLIC)]).verify(&narinfo(CURL)), None);
    assert_eq!(TrustedKeys::default().verify(&narinfo(CURL)), None);
}

#[test]
fn self_references_are_signed_too() {
    let keys = trusted(&[public(PUBLIC)]);
    assert_eq!(keys.verify(&narinfo(FULL)), Some("test-1"));
}

#[test]
fn two_keys_of_one_name_are_both_tried() {
    let other = SecretKey::generate("test-1").expect("random bytes").public();
    for keys in [[other.clone(), public(PUBLIC)], [public(PUBLIC), other]] {
        let keys = trusted(&keys);
        assert_eq!(keys.iter().count(), 2);
        assert_eq!(keys.verify(&narinfo(FULL)), Some("test-1"));
    }
    assert_eq!(trusted(&[public(PUBLIC), public(PUBLIC)]).iter().count(), 1);
}

#[test]
fn new_keys_work_and_differ() {
    let key = SecretKey::generate("host-1").expect("random bytes");
    let other = SecretKey::generate("host-1").expect("random bytes");
    assert_ne!(key.public(), other.public());
    let read = SecretKey::parse(&key.to_text()).expect("its own text");
    assert_eq!(read.public(), key.public());
    assert!(key.public().verify("x", &read.sign("x")));
    assert!(!other.public().verify("x", &read.sign("x")));
    assert_eq!(SecretKey::generate("a b").err(), Some(KeyError::Name));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", secret());
    assert!(shown.contains("test-1") && !shown.contains("AAEC"), "{shown}");
}

#[test]
fn malformed_secret_keys() {
    let error = |text: &str| SecretKey::parse(text).err();
    assert_eq!(error(&format!("{SECRET}\n")), None);
    assert_eq!(error(&format!("{SECRET}\r\n")), None);
    assert_eq!(error(&format!("{SECRET}\n\n")), Some(KeyError::Base64));
    assert_eq!(error(&format!(" {SECRET}")), Some(KeyError::Name));
    assert_eq!(error(PUBLIC), Some(KeyError::Length));
    assert_eq!(error(""), Some(KeyError::NoName));
    // The seed of one key, the public half of another.
    let mixed = SECRET.replace("test-1:AAEC", "test-1:BAEC");
    assert_eq!(error(&mixed), Some(KeyError::Mismatch));
}

#[test]
fn malformed_public_keys() {
    let error = |text: &str| PublicKey::parse(text).err();
    assert_eq!(error("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="), Some(KeyError::NoName));
    assert_eq!(error(&PUBLIC.replace("test-1", "")), Some(KeyError::Name));
    assert_eq!(error(&PUBLIC.replace("test-1", "te\tst")), Some(KeyError::Name));
    assert_eq!(error(&PUBLIC.replace('=', "")), Some(KeyError::Base64));
    assert_eq!(error("a:"), Some(KeyError::Length));
    assert_eq!(error(&format!("a:AAA={}", "A".repeat(40))), Some(KeyError::Base64));
    assert_eq!(error(SECRET), Some(KeyError::Length));
    // y = 2 is on no point of the curve.
    let off_curve = "a:AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(error(off_curve), Some(KeyError::NotAKey));
}

#[test]
fn malformed_signatures() {
    let error = |text: &str| Signature::parse(text).err();
    assert_eq!(error("abc"), Some(SignatureError::NoName));
    assert_eq!(error(":AAAA"), Some(SignatureError::Name));
    assert_eq!(error("a b:AAAA"), Some(SignatureError::Name));
    assert_eq!(error("a:!"), Some(SignatureError::Base64));
    assert_eq!(error("a:b:AAAA"), Some(SignatureError::Base64));
    assert_eq!(error("a:AAAA"), Some(SignatureError::Length));
    // 64 bytes, but as two padded texts one after the other.
    let two = format!("a:{0}={0}=", "A".repeat(43));
    assert_eq!(error(&two), Some(SignatureError::Base64));
    assert_eq!(error(&format!("{SIGNATURE} ")), Some(SignatureError::Base64));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn signatures_round_trip(signature in strategies::signature()) {
        prop_assert_eq!(Signature::parse(&signature.to_string()), Ok(signature));
    }

    #[test]
    fn what_is_signed_verifies(text: String, other: String) {
        let signature = secret().sign(&text);
        prop_assert!(public(PUBLIC).verify(&text, &signature));
        prop_assert_eq!(public(PUBLIC).verify(&other, &signature), text == other);
    }

    #[test]
    fn damaged_texts_never_panic(damage in strategies::damage()) {
        for text in [SECRET, PUBLIC, SIGNATURE] {
            let mut bytes = text.as_bytes().to_vec();
            strategies::apply(&mut bytes, damage.clone());
            let text = String::from_utf8_lossy(&bytes);
            let _ = (SecretKey::parse(&text), PublicKey::parse(&text), Signature::parse(&text));
        }
    }
}
