//! The CA field: every kind, every spelling, round trips.

use data_encoding::{BASE64, HEXLOWER};
use proptest::prelude::*;

use super::strategies;
use crate::{ContentAddress, ContentAddressError, HashAlgorithm, Ingestion};

#[test]
fn kinds() {
    let kind = |text: &str| match ContentAddress::parse(text).expect("well-formed") {
        ContentAddress::Text(_) => None,
        ContentAddress::Fixed { method, hash } => Some((method, hash.algorithm())),
    };
    let sha256 = "sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";
    let sha1 = "sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm";
    assert_eq!(kind(&format!("text:{sha256}")), None);
    let fixed = |prefix: &str, hash: &str| kind(&format!("fixed:{prefix}{hash}"));
    assert_eq!(fixed("r:", sha256), Some((Ingestion::Recursive, HashAlgorithm::Sha256)));
    assert_eq!(fixed("", sha1), Some((Ingestion::Flat, HashAlgorithm::Sha1)));
    assert_eq!(fixed("git:", sha1), Some((Ingestion::Git, HashAlgorithm::Sha1)));
}

#[test]
fn refused() {
    use ContentAddressError::{Algorithm, Digest, UnknownKind};
    let nix32 = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";
    for (text, error) in [
        ("", UnknownKind),
        ("garbage", UnknownKind),
        ("Text:sha256:", UnknownKind),
        ("text:sha256", Digest),
        ("text:sha256:", Digest),
        (&*format!("text:sha256:{nix32}0"), Digest),
        (&*format!("text:sha256:2{}", "0".repeat(51)), Digest),
        (&*format!("text:blake3:{nix32}"), Algorithm),
        (&*format!("fixed:r:sha3:{nix32}"), Algorithm),
        (&*format!("fixed:x:sha256:{nix32}"), Algorithm),
        (&*format!("fixed:r:sha1:{nix32}"), Digest),
        (&*format!("fixed:r:git:sha256:{nix32}"), Algorithm),
        ("fixed:r:", Digest),
    ] {
        assert_eq!(ContentAddress::parse(text), Err(error), "{text}");
    }
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(ca in strategies::content_address()) {
        prop_assert_eq!(ContentAddress::parse(&ca.to_string()), Ok(ca));
    }

    #[test]
    fn every_spelling_of_a_digest(hash in strategies::ca_hash()) {
        let expected = ContentAddress::parse(&format!("fixed:{hash}"));
        prop_assert!(expected.is_ok());
        for digest in [HEXLOWER.encode(hash.digest()), BASE64.encode(hash.digest())] {
            let text = format!("fixed:{}:{digest}", hash.algorithm().name());
            prop_assert_eq!(ContentAddress::parse(&text), expected.clone());
        }
    }

    #[test]
    fn damaged_texts_never_panic(ca in strategies::content_address(), damage in strategies::damage()) {
        let mut bytes = ca.to_string().into_bytes();
        strategies::apply(&mut bytes, damage);
        if let Ok(ca) = ContentAddress::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(ContentAddress::parse(&ca.to_string()), Ok(ca));
        }
    }
}
