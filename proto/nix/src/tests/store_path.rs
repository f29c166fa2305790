//! Store paths: the name rule, order, round trips.

use proptest::prelude::*;

use super::strategies;
use crate::{StorePath, StorePathError, StorePathHash};

const HASH: &str = "syd87l2rxw8cbsxmxl853h0r6pdwhwjr";

fn parse_name(name: &str) -> Result<StorePath, StorePathError> {
    StorePath::parse(&format!("{HASH}-{name}"))
}

#[test]
fn parts() {
    let path = parse_name("curl-7.82.0-bin").expect("a well-formed path");
    assert_eq!(path.hash(), StorePathHash::parse(HASH).expect("well-formed"));
    assert_eq!(path.name(), "curl-7.82.0-bin");
    assert_eq!(path.to_string(), format!("{HASH}-curl-7.82.0-bin"));
    assert_eq!(path.absolute(), format!("/nix/store/{HASH}-curl-7.82.0-bin"));
    assert_eq!(StorePath::parse_absolute(&path.absolute()), Ok(path));
}

#[test]
fn names_that_nix_takes() {
    let longest = "x".repeat(211);
    for name in ["a", "-", "--", "a.b_c+d?e=F-9", ".gitignore", "..a", "...", ".a-b", &longest] {
        assert!(parse_name(name).is_ok(), "{name}");
    }
}

#[test]
fn names_that_nix_refuses() {
    let too_long = "x".repeat(212);
    for name in ["", ".", "..", ".-", ".-a", "..-", "..-a", "a b", "a/b", "a\n", "\u{e9}", &too_long] {
        assert_eq!(parse_name(name), Err(StorePathError::Name), "{name:?}");
    }
}

#[test]
fn other_shapes_are_refused() {
    assert_eq!(StorePath::parse(HASH), Err(StorePathError::NoName));
    assert_eq!(StorePath::parse(&HASH[1..]), Err(StorePathError::NoName));
    assert_eq!(StorePath::parse("abc-x"), Err(StorePathError::Hash));
    for path in ["", "/nix/store", "/nix/store/", "/nix/storex/", "/gnu/store/a", "nix/store/a"] {
        assert!(StorePath::parse_absolute(path).is_err(), "{path}");
    }
    let outside = format!("/gnu/store/{HASH}-a");
    assert_eq!(StorePath::parse_absolute(&outside), Err(StorePathError::NotInStore));
    let below = format!("/nix/store/{HASH}-a/bin");
    assert_eq!(StorePath::parse_absolute(&below), Err(StorePathError::Name));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(path in strategies::store_path()) {
        prop_assert_eq!(StorePath::parse(&path.to_string()), Ok(path.clone()));
        prop_assert_eq!(StorePath::parse_absolute(&path.absolute()), Ok(path));
    }

    #[test]
    fn ordered_as_text(a in strategies::store_path(), b in strategies::store_path()) {
        prop_assert_eq!(a.cmp(&b), a.absolute().cmp(&b.absolute()));
        prop_assert_eq!(a.hash().cmp(&b.hash()), a.hash().to_string().cmp(&b.hash().to_string()));
    }

    #[test]
    fn paths_of_one_hash_are_ordered_as_text(a in "[a-z.=+-]{1,6}x", b in "[a-z.=+-]{1,6}x") {
        if let (Ok(a), Ok(b)) = (parse_name(&a), parse_name(&b)) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn what_parses_is_what_is_shown(text in "[0-9a-d]{31,32}-?[ -~]{0,8}|\\PC*") {
        if let Ok(path) = StorePath::parse(&text) {
            prop_assert_eq!(path.to_string(), text);
        }
    }
}
