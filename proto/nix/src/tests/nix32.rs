//! nix32: published vectors, strictness, round trips.

use proptest::prelude::*;

use super::strategies;
use crate::nix32::{decode_20, decode_32, encode, is_nix32_char};

#[test]
fn known_values() {
    assert_eq!(encode(&[0xff; 20]), "z".repeat(32));
    assert_eq!(encode(&[0xff; 32]), format!("1{}", "z".repeat(51)));
    assert_eq!(encode(&[0; 20]), "0".repeat(32));
    assert_eq!(encode(&[]), "");
    assert_eq!(encode(&[0x1f]), "0z");
    assert_eq!(decode_20(&"z".repeat(32)), Some([0xff; 20]));
}

#[test]
fn overflow_bits_are_refused() {
    assert_eq!(decode_32(&format!("1{}", "z".repeat(51))), Some([0xff; 32]));
    for first in "23456789abcdfghijklmnpqrsvwxyz".chars() {
        assert_eq!(decode_32(&format!("{first}{}", "0".repeat(51))), None);
    }
}

#[test]
fn other_lengths_and_letters_are_refused() {
    for len in [0, 1, 31, 33, 51, 53] {
        assert_eq!(decode_20(&"0".repeat(len)), None, "{len}");
        assert_eq!(decode_32(&"0".repeat(len)), None, "{len}");
    }
    for letter in "eotuEZA .-/\u{e9}\u{130}".chars() {
        assert!(!is_nix32_char(letter), "{letter}");
        let mut text = "0".repeat(32 - letter.len_utf8());
        text.push(letter);
        assert_eq!(decode_20(&text), None, "{text}");
    }
}

#[test]
fn the_alphabet_has_32_letters() {
    let letters = (char::MIN..=char::MAX).filter(|c| is_nix32_char(*c));
    assert_eq!(letters.collect::<String>(), "0123456789abcdfghijklmnpqrsvwxyz");
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(short: [u8; 20], long: [u8; 32]) {
        prop_assert_eq!(decode_20(&encode(&short)), Some(short));
        prop_assert_eq!(decode_32(&encode(&long)), Some(long));
    }

    #[test]
    fn what_decodes_is_what_encodes(text in "[0-9a-z]{32}|[01][0-9a-z]{51}") {
        if let Some(bytes) = decode_20(&text) {
            prop_assert_eq!(encode(&bytes), text);
        } else if let Some(bytes) = decode_32(&text) {
            prop_assert_eq!(encode(&bytes), text);
        } else {
            prop_assert!(!text.chars().all(is_nix32_char));
        }
    }

    #[test]
    fn never_panics(text: String) {
        let _ = (decode_20(&text), decode_32(&text));
    }
}
