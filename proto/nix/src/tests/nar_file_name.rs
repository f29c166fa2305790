//! NAR file names: ours, those of other caches, and what is none.

use proptest::prelude::*;

use super::{HELLO_NAR_HASH, sha256, strategies};
use crate::{Compression, FileHash, NarFileName, NarFileNameError};

fn hello(compression: Compression) -> NarFileName {
    NarFileName { hash: FileHash(sha256(HELLO_NAR_HASH)), compression }
}

fn parse(suffix: &str) -> Result<NarFileName, NarFileNameError> {
    NarFileName::parse(&format!("{HELLO_NAR_HASH}{suffix}"))
}

#[test]
fn names_and_urls() {
    for (compression, suffix) in [
        (Compression::None, ".nar"),
        (Compression::Xz, ".nar.xz"),
        (Compression::Bzip2, ".nar.bz2"),
        (Compression::Zstd, ".nar.zst"),
    ] {
        let name = hello(compression);
        assert_eq!(name.file_name(), format!("{HELLO_NAR_HASH}{suffix}"));
        assert_eq!(name.url(), format!("nar/{HELLO_NAR_HASH}{suffix}"));
        assert_eq!(parse(suffix), Ok(name));
    }
    assert_eq!(parse(".nar.none"), Ok(hello(Compression::None)));
}

#[test]
fn base16_is_understood() {
    let text = format!("{}.nar.zst", sha256(HELLO_NAR_HASH).hex());
    assert_eq!(NarFileName::parse(&text), Ok(hello(Compression::Zstd)));
}

#[test]
fn nix_serve_names_are_understood() {
    let stem = format!("{}-{HELLO_NAR_HASH}", "0".repeat(32));
    let nar = NarFileName::parse(&format!("{stem}.nar"));
    assert_eq!(nar, Ok(hello(Compression::None)));
    let compressed = NarFileName::parse(&format!("{stem}.nar.xz"));
    assert_eq!(compressed, Err(NarFileNameError::NotFound));
}

#[test]
fn unknown_extensions() {
    for suffix in [".nar.gz", ".nar.br", ".nar.lz4", ".nar.XZ", ".nar.ls", ".nar.zstd"] {
        assert_eq!(parse(suffix), Err(NarFileNameError::UnknownExtension), "{suffix}");
    }
}

#[test]
fn anything_else_is_not_found() {
    for suffix in ["", ".", ".nar.", ".narx", ".xz", "/.nar", ".nar/", ".nar.xz.", ".nar..xz", ".nar?a"] {
        assert_eq!(parse(suffix), Err(NarFileNameError::NotFound), "{suffix}");
    }
    for text in ["", ".nar", "a.nar", "../x.nar", "-.nar", &format!("{HELLO_NAR_HASH}-{HELLO_NAR_HASH}.nar")]
    {
        assert_eq!(NarFileName::parse(text), Err(NarFileNameError::NotFound), "{text}");
    }
    // A store hash is no file hash (attic's names are looked for under another route).
    let store_hash = format!("{}.nar", "0".repeat(32));
    assert_eq!(NarFileName::parse(&store_hash), Err(NarFileNameError::NotFound));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(name in strategies::nar_file_name()) {
        prop_assert_eq!(NarFileName::parse(&name.file_name()), Ok(name));
        prop_assert_eq!(name.to_string(), name.file_name());
    }

    #[test]
    fn damaged_names_never_panic(name in strategies::nar_file_name(), damage in strategies::damage()) {
        let mut bytes = name.file_name().into_bytes();
        strategies::apply(&mut bytes, damage);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Ok(parsed) = NarFileName::parse(&text) {
            prop_assert_eq!(NarFileName::parse(&parsed.file_name()), Ok(parsed));
        }
    }
}
