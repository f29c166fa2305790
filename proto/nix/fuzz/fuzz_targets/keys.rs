//! Keys and signatures: no panic, and one text per value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::{PublicKey, SecretKey, Signature};

fuzz_target!(|text: &str| {
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(signature) = Signature::parse(text) {
        assert_eq!(signature.to_string(), text);
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(*key.to_text(), text.trim_end_matches(['\r', '\n']));
        assert!(key.public().verify("x", &key.sign("x")));
    }
});
