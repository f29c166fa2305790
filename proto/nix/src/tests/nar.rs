//! NARs: published vectors, every rule of the grammar, limits, chunking.

use proptest::prelude::*;

use super::{HELLO_NAR_HASH, sha256, strategies};
use crate::NarHash;
use crate::nar::build::{Node, encode};
use crate::nar::{Hasher, MAX_DEPTH, NarError, NarErrorKind, Validator};

fn validate(nar: &[u8]) -> Result<(), NarError> {
    let mut validator = Validator::new();
    validator.push(nar)?;
    validator.finish()
}

fn kind(nar: &[u8]) -> Option<NarErrorKind> {
    validate(nar).err().map(|error| error.kind)
}

/// A NAR spelled string by string, after the magic.
fn spelled(strings: &[&[u8]]) -> Vec<u8> {
    let mut nar = Vec::new();
    for string in [&b"nix-archive-1"[..]].iter().chain(strings) {
        nar.extend((string.len() as u64).to_le_bytes());
        nar.extend(*string);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

fn kind_of(strings: &[&[u8]]) -> Option<NarErrorKind> {
    kind(&spelled(strings))
}

/// A directory of empty files, in this order.
fn directory_of(names: &[&[u8]]) -> Vec<u8> {
    let mut strings: Vec<&[u8]> = vec![b"(", b"type", b"directory"];
    for name in names {
        strings.extend([&b"entry"[..], b"(", b"name", name, b"node"]);
        strings.extend([&b"("[..], b"type", b"regular", b"contents", b"", b")", b")"]);
    }
    strings.push(b")");
    spelled(&strings)
}

fn nested(levels: usize) -> Vec<u8> {
    let file = Node::file("");
    encode(&(0..levels).fold(file, |inner, _| Node::directory([("a", inner)])))
}

#[test]
fn known_nars() {
    for (tree, len, hash) in [
        (Node::file("hello\n"), 120, HELLO_NAR_HASH),
        (Node::Directory(Default::default()), 96, "0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5"),
    ] {
        let nar = encode(&tree);
        assert_eq!(validate(&nar), Ok(()));
        let mut hasher = Hasher::new();
        hasher.update(&nar);
        assert_eq!(hasher.bytes(), len);
        assert_eq!(hasher.finish(), (NarHash(sha256(hash)), len));
    }
}

#[test]
fn every_kind_of_node() {
    let tree = Node::directory([
        ("run", Node::executable("#!/bin/sh\n")),
        ("link", Node::symlink("run")),
        ("eight", Node::file("12345678")),
        ("empty", Node::file("")),
        ("none", Node::Directory(Default::default())),
    ]);
    assert_eq!(validate(&encode(&tree)), Ok(()));
}

#[test]
fn keywords_out_of_place() {
    let keyword = Some(NarErrorKind::Keyword);
    assert_eq!(kind(&[0; 8]), keyword);
    assert_eq!(kind_of(&[b")"]), keyword);
    assert_eq!(kind_of(&[b"(", b"kind"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"socket"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"regular", b")"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"regular", b"executable", b"1"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"regular", b"executable", b"", b")"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"regular", b"contents", b"", b"x"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"symlink", b")"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"directory", b"name"]), keyword);
    assert_eq!(kind_of(&[b"(", b"type", b"directory", b"entry", b"(", b"node"]), keyword);
}

#[test]
fn names() {
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
        assert_eq!(kind(&directory_of(&[name])), Some(NarErrorKind::Name), "{name:?}");
    }
    for name in [&b"..."[..], b".a", b"\xff", b" ", b"\n"] {
        assert_eq!(kind(&directory_of(&[name])), None, "{name:?}");
    }
    assert_eq!(kind(&directory_of(&[&[b'x'; 255]])), None);
    assert_eq!(kind(&directory_of(&[&[b'x'; 256]])), Some(NarErrorKind::TooLong));
}

#[test]
fn order() {
    assert_eq!(kind(&directory_of(&[b"A", b"a", b"a.", b"a.b", b"\xc3\xa9"])), None);
    for names in [[&b"a"[..], b"a"], [b"b", b"a"], [b"aa", b"a"], [b"\xff", b"a"]] {
        assert_eq!(kind(&directory_of(&names)), Some(NarErrorKind::Order), "{names:?}");
    }
    // Each directory has an order of its own.
    let inner = || Node::directory([("a", Node::file("")), ("z", Node::file(""))]);
    let outer = Node::directory([("m", inner()), ("n", inner())]);
    assert_eq!(validate(&encode(&outer)), Ok(()));
}

#[test]
fn targets() {
    let kind = |target: &[u8]| kind(&encode(&Node::symlink(target)));
    assert_eq!(kind(b""), Some(NarErrorKind::Target));
    assert_eq!(kind(b"a\0b"), Some(NarErrorKind::Target));
    assert_eq!(kind(&[b'x'; 4095]), None);
    assert_eq!(kind(&[b'x'; 4096]), Some(NarErrorKind::TooLong));
}

#[test]
fn depth() {
    assert_eq!(kind(&nested(63)), None);
    assert_eq!(kind(&nested(MAX_DEPTH)), None);
    assert_eq!(kind(&nested(MAX_DEPTH + 1)), Some(NarErrorKind::TooDeep));
}

#[test]
fn padding() {
    let nar = encode(&Node::file("hello\n"));
    let contents = nar.windows(6).position(|bytes| bytes == b"hello\n").expect("inside");
    for index in [contents + 6, contents + 7] {
        let mut damaged = nar.clone();
        damaged[index] = 1;
        let error = validate(&damaged).expect_err("padding is not zero");
        assert_eq!(error.kind, NarErrorKind::Padding);
        assert_eq!(error.offset, index as u64 + 1);
    }
}

#[test]
fn every_truncation_is_seen() {
    let nar = encode(&Node::directory([("a", Node::executable("xyz")), ("b", Node::symlink("a"))]));
    for len in 0..nar.len() {
        let error = validate(&nar[..len]).expect_err("a part");
        assert_eq!((error.kind, error.offset), (NarErrorKind::Truncated, len as u64));
    }
}

#[test]
fn trailing_bytes() {
    let mut nar = encode(&Node::file("x"));
    nar.push(0);
    assert_eq!(kind(&nar), Some(NarErrorKind::TrailingBytes));
}

#[test]
fn absurd_lengths_cost_nothing() {
    let mut keyword = spelled(&[]);
    keyword.extend(u64::MAX.to_le_bytes());
    assert_eq!(kind(&keyword), Some(NarErrorKind::TooLong));
    let mut contents = spelled(&[b"(", b"type", b"regular", b"contents"]);
    contents.extend(u64::MAX.to_le_bytes());
    contents.extend([0; 64]);
    assert_eq!(kind(&contents), Some(NarErrorKind::Truncated));
}

#[test]
fn an_error_stays() {
    let mut validator = Validator::new();
    let error = validator.push(b"12345678").expect_err("no NAR");
    assert_eq!(validator.push(&encode(&Node::file(""))), Err(error));
    assert_eq!(validator.push(b""), Err(error));
    assert_eq!(validator.finish(), Err(error));
}

/// Pushes `bytes` cut into chunks of these sizes, repeated.
fn push_in_chunks(bytes: &[u8], sizes: &[usize]) -> (Result<(), NarError>, (NarHash, u64)) {
    let (mut validator, mut hasher) = (Validator::new(), Hasher::new());
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (chunk, more) = rest.split_at((*size).min(rest.len()));
        hasher.update(chunk);
        let _ = validator.push(chunk);
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    (validator.finish(), hasher.finish())
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn chunks_do_not_matter(
        tree in strategies::tree(),
        damage in proptest::option::of(strategies::damage()),
        sizes in prop::collection::vec(1..30_usize, 1..10),
    ) {
        let mut nar = encode(&tree);
        if let Some(damage) = damage {
            strategies::apply(&mut nar, damage);
        } else {
            prop_assert_eq!(validate(&nar), Ok(()));
        }
        let whole = push_in_chunks(&nar, &[nar.len().max(1)]);
        prop_assert_eq!(push_in_chunks(&nar, &sizes), whole);
        prop_assert_eq!(push_in_chunks(&nar, &[1]), whole);
        prop_assert_eq!(whole.1, (NarHash(crate::Sha256Hash::of(&nar)), nar.len() as u64));
    }

    #[test]
    fn never_panics(bytes: Vec<u8>, start in 0..100_usize) {
        let mut nar = encode(&Node::file("hello\n"));
        nar.truncate(start);
        nar.extend(bytes);
        let _ = validate(&nar);
    }
}
