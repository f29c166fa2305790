//! nix32 and the texts made of it: no panic, and one text per value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::nix32::{decode_20, decode_32, encode};
use ncps_nix::{ContentAddress, Sha256Hash, StorePath};

fuzz_target!(|text: &str| {
    if let Some(bytes) = decode_20(text) {
        assert_eq!(encode(&bytes), text);
    }
    if let Some(bytes) = decode_32(text) {
        assert_eq!(encode(&bytes), text);
    }
    if let Ok(path) = StorePath::parse(text) {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(hash) = Sha256Hash::parse_typed(text) {
        assert_eq!(Sha256Hash::parse_typed(&hash.to_string()), Ok(hash));
    }
    if let Ok(address) = ContentAddress::parse(text) {
        assert_eq!(ContentAddress::parse(&address.to_string()), Ok(address));
    }
});
