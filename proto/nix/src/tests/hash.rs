//! Hashes: published vectors and every spelling.

use data_encoding::BASE64;
use proptest::prelude::*;

use super::strategies;
use crate::{HashError, Sha256Hash};

const ABC_HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_NIX32: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";

#[test]
fn known_values() {
    let empty = Sha256Hash::of(b"");
    let abc = Sha256Hash::of(b"abc");
    assert_eq!(empty.nix32(), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    assert_eq!(abc.nix32(), ABC_NIX32);
    assert_eq!(abc.hex(), ABC_HEX);
    assert_eq!(abc.to_string(), format!("sha256:{ABC_NIX32}"));
    assert_eq!(format!("{abc:?}"), ABC_NIX32);
}

#[test]
fn every_spelling_of_nix_is_read() {
    let abc = Ok(Sha256Hash::of(b"abc"));
    for text in [
        "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
    ] {
        assert_eq!(Sha256Hash::parse_typed(text), abc, "{text}");
    }
    assert_eq!(Sha256Hash::parse_bare(ABC_HEX), abc);
    assert_eq!(Sha256Hash::parse_bare(ABC_NIX32), abc);
}

#[test]
fn other_algorithms_are_told_apart() {
    for text in ["md5:1", "sha1:x", "sha512:y", "sha512-z", "blake3:", "sha3:"] {
        let error = Sha256Hash::parse_typed(text);
        assert_eq!(error, Err(HashError::OtherAlgorithm), "{text}");
    }
}

#[test]
fn garbage_is_malformed() {
    let upper_case = format!("sha256:{}", ABC_HEX.to_uppercase());
    let with_nix32_sri = format!("sha256-{ABC_NIX32}");
    let too_long = format!("sha256:{ABC_NIX32}0");
    for text in [
        "",
        ":",
        "sha256",
        "sha256:",
        "sha256-",
        " sha256:",
        "SHA256:",
        "sha 256:x",
        ABC_NIX32,
        &upper_case,
        &with_nix32_sri,
        &too_long,
        // Padding left out, and bits behind the digest.
        "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
        "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa1=",
        // 32 bytes as two padded texts one after the other.
        "sha256-AAA=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(Sha256Hash::parse_typed(text), Err(HashError::Malformed), "{text}");
    }
    assert_eq!(Sha256Hash::parse_bare("sha256:"), Err(HashError::Malformed));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trips(hash in strategies::hash()) {
        let base64 = BASE64.encode(hash.as_bytes());
        prop_assert_eq!(Sha256Hash::parse_bare(&hash.nix32()), Ok(hash));
        prop_assert_eq!(Sha256Hash::parse_bare(&hash.hex()), Ok(hash));
        prop_assert_eq!(Sha256Hash::parse_typed(&hash.to_string()), Ok(hash));
        prop_assert_eq!(Sha256Hash::parse_typed(&format!("sha256:{}", hash.hex())), Ok(hash));
        prop_assert_eq!(Sha256Hash::parse_typed(&format!("sha256:{base64}")), Ok(hash));
        prop_assert_eq!(Sha256Hash::parse_typed(&format!("sha256-{base64}")), Ok(hash));
    }

    #[test]
    fn never_panics(text: String, prefix in "(sha256|md5)?[:-]?") {
        let text = prefix + &text;
        let _ = (Sha256Hash::parse_bare(&text), Sha256Hash::parse_typed(&text));
    }
}
