//! Narinfos: the strict grammar rule by rule, normalisation, round trips, damage.

use proptest::prelude::*;

use super::{FULL, HELLO_NAR_HASH, sha256, strategies};
use crate::{
    Compression, FileHash, HashError, MAX_NARINFO_BYTES, NarInfo, NarInfoError, NarInfoLineError,
    StorePathError,
};

const SMALLEST: &str = "\
StorePath: /nix/store/00000000000000000000000000000000-hello
URL: x
NarHash: sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw
NarSize: 120
";

fn parse(text: &str) -> NarInfo {
    NarInfo::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn error(text: &str) -> NarInfoError {
    NarInfo::parse(text.as_bytes()).expect_err(text)
}

/// What is wrong with a narinfo that has this line more, and that it says where.
fn line_error(line: &str) -> NarInfoLineError {
    match error(&format!("{SMALLEST}{line}")) {
        NarInfoError::Line { line: 5, reason } => reason,
        other => panic!("{line:?}: {other}"),
    }
}

fn with(line: &str) -> NarInfo {
    parse(&format!("{SMALLEST}{line}\n"))
}

/// [`FULL`] with one line replaced, or removed where the new one is empty.
fn replaced(key: &str, line: &str) -> String {
    let prefix = format!("{key}:");
    let lines = FULL.split_inclusive('\n');
    lines.map(|old| if old.starts_with(&prefix) { line } else { old }).collect()
}

#[test]
fn the_canonical_form_is_kept() {
    let info = parse(FULL);
    assert_eq!(info.render(), FULL);
    assert_eq!(info.store_path.name(), "hello");
    assert_eq!(info.compression, Compression::Xz);
    assert_eq!((info.file_size, info.nar_size), (Some(100), 120));
    assert_eq!(info.nar_hash.0, sha256(HELLO_NAR_HASH));
    assert_eq!(info.references.len(), 2);
    assert!(info.deriver.is_some() && info.ca.is_some());
}

#[test]
fn fingerprints() {
    let expected = "1;/nix/store/00000000000000000000000000000000-hello;sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw;120;";
    assert_eq!(parse(SMALLEST).fingerprint(), expected);
    let references =
        "/nix/store/00000000000000000000000000000000-hello,/nix/store/11111111111111111111111111111111-dep";
    assert_eq!(parse(FULL).fingerprint(), format!("{expected}{references}"));
}

#[test]
fn what_is_missing_has_its_default() {
    let info = parse(SMALLEST);
    assert_eq!(info.compression, Compression::Bzip2);
    assert_eq!((info.file_hash, info.file_size), (None, None));
    assert_eq!(info.references, []);
    assert_eq!((info.deriver, info.ca), (None, None));
    let rendered = parse(SMALLEST).render();
    assert!(rendered.contains("\nReferences: \n"), "{rendered}");
    assert!(!rendered.contains("Deriver"), "{rendered}");
    assert_eq!(parse(&rendered), parse(SMALLEST));
}

#[test]
fn required_fields() {
    for key in ["StorePath", "URL", "NarHash", "NarSize"] {
        assert_eq!(error(&replaced(key, "")), NarInfoError::Missing(key));
    }
    assert!(matches!(error(""), NarInfoError::Missing(_)));
}

#[test]
fn the_shape_of_lines() {
    use NarInfoLineError::{Blank, CarriageReturn, Shape, Unterminated};
    for (line, reason) in [
        ("X: y", Unterminated),
        ("X", Unterminated),
        ("\n", Blank),
        ("X: y\r\n", CarriageReturn),
        ("X: a\rb\n", CarriageReturn),
        ("no colon\n", Shape),
        ("X:\n", Shape),
        ("X:y\n", Shape),
        ("X:\ty\n", Shape),
        (": y\n", Shape),
        ("X Y: z\n", Shape),
        ("References:\n", Shape),
    ] {
        assert_eq!(line_error(line), reason, "{line:?}");
    }
    assert_eq!(error("\u{feff}").to_string(), "narinfo line 1: no newline at the end");
    assert_eq!(NarInfo::parse(b"\xff\n"), Err(NarInfoError::NotUtf8));
}

#[test]
fn unknown_keys_are_dropped() {
    let info = with("System: x86_64-linux\nSystem: again\nX-Future: a: b\nstorepath: x");
    assert_eq!(info, parse(SMALLEST));
}

#[test]
fn known_keys_stand_once() {
    for line in FULL.split_inclusive('\n').filter(|line| !line.starts_with("Sig")) {
        let (key, _) = line.split_once(':').expect("a line of ours");
        match error(&format!("{FULL}{line}")) {
            NarInfoError::Line { line: 12, reason } => {
                assert!(matches!(reason, NarInfoLineError::Duplicate(field) if field == key));
            }
            other => panic!("{key}: {other}"),
        }
    }
    let twice = "Deriver: unknown-deriver\nDeriver: unknown-deriver\n";
    assert!(NarInfo::parse(format!("{SMALLEST}{twice}").as_bytes()).is_err());
}

#[test]
fn the_size_limit() {
    let mut text = SMALLEST.to_owned();
    text.push_str("X: ");
    text.push_str(&"y".repeat(MAX_NARINFO_BYTES - text.len() - 1));
    text.push('\n');
    assert_eq!(text.len(), MAX_NARINFO_BYTES);
    assert_eq!(parse(&text), parse(SMALLEST));
    text.push('\n');
    assert_eq!(error(&text), NarInfoError::TooLarge);
}

#[test]
fn sizes_are_plain_numbers() {
    for value in
        ["", "0", "+1", "-1", "1 ", " 1", "0x1", "1e3", "9223372036854775808", "99999999999999999999"]
    {
        let text = replaced("NarSize", &format!("NarSize: {value}\n"));
        let reason = NarInfoLineError::Size("NarSize");
        assert_eq!(error(&text), NarInfoError::Line { line: 7, reason }, "{value}");
    }
    let largest = replaced("NarSize", "NarSize: 9223372036854775807\n");
    assert_eq!(parse(&largest).nar_size, 9_223_372_036_854_775_807);
    assert_eq!(line_error("FileSize: 1k\n"), NarInfoLineError::Size("FileSize"));
    assert_eq!(with("FileSize: 0").file_size, None);
}

#[test]
fn store_paths_of_other_places() {
    for (value, reason) in [
        ("/gnu/store/00000000000000000000000000000000-hello", StorePathError::NotInStore),
        ("00000000000000000000000000000000-hello", StorePathError::NotInStore),
        ("/nix/store/0-hello", StorePathError::Hash),
        ("/nix/store/00000000000000000000000000000000-hello ", StorePathError::Name),
    ] {
        let text = replaced("StorePath", &format!("StorePath: {value}\n"));
        let field = "StorePath";
        let reason = NarInfoLineError::StorePath { field, reason };
        assert_eq!(error(&text), NarInfoError::Line { line: 1, reason });
    }
}

#[test]
fn urls() {
    for value in ["", "a b", "a\tb", " a", "a\u{7f}", "a\u{a0}b", "a\u{2028}b"] {
        let text = replaced("URL", &format!("URL: {value}\n"));
        let reason = NarInfoLineError::Url;
        assert_eq!(error(&text), NarInfoError::Line { line: 2, reason }, "{value:?}");
    }
    for value in ["nar/x.nar?hash=y&z=%20", "https://other.example/x", "../x", "x"] {
        assert_eq!(parse(&replaced("URL", &format!("URL: {value}\n"))).url, value);
    }
}

#[test]
fn compressions() {
    for (value, compression) in [
        ("none", Compression::None),
        ("xz", Compression::Xz),
        ("bzip2", Compression::Bzip2),
        ("zstd", Compression::Zstd),
        ("", Compression::Bzip2),
    ] {
        assert_eq!(with(&format!("Compression: {value}")).compression, compression);
    }
    for value in ["gzip", "br", "lz4", "lzip", "bz2", "XZ", "xz "] {
        let expected = NarInfoError::UnsupportedCompression { line: 5, name: value.to_owned() };
        assert_eq!(error(&format!("{SMALLEST}Compression: {value}\n")), expected);
    }
}

#[test]
fn file_hashes() {
    let other = with("FileHash: sha512:whatever\nFileSize: 7");
    assert_eq!((other.file_hash, other.file_size), (None, Some(7)));
    let malformed = line_error("FileHash: sha256:whatever\n");
    let expected = NarInfoLineError::Hash { field: "FileHash", reason: HashError::Malformed };
    assert_eq!(malformed, expected);
}

#[test]
fn nar_hashes() {
    let hex = sha256(HELLO_NAR_HASH).hex();
    for value in [&*format!("sha256:{hex}"), "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM="] {
        let info = parse(&replaced("NarHash", &format!("NarHash: {value}\n")));
        assert_eq!(info.render(), FULL);
    }
    for (value, reason) in [
        (HELLO_NAR_HASH, HashError::Malformed),
        ("sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm", HashError::OtherAlgorithm),
    ] {
        let text = replaced("NarHash", &format!("NarHash: {value}\n"));
        let field = "NarHash";
        let reason = NarInfoLineError::Hash { field, reason };
        assert_eq!(error(&text), NarInfoError::Line { line: 6, reason });
    }
}

#[test]
fn uncompressed_files_are_the_nar() {
    let nar = (Some(FileHash(sha256(HELLO_NAR_HASH))), Some(120));
    let differing = "FileHash: sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s\nFileSize: 5\n";
    for file in ["", differing, "FileHash: sha1:x\n"] {
        let info = with(&format!("{file}Compression: none"));
        assert_eq!((info.file_hash, info.file_size), nar);
    }
}

#[test]
fn references() {
    let [a, b] = ["11111111111111111111111111111111-a", "22222222222222222222222222222222-b"];
    let info = with(&format!("References: {b} {a} {b}"));
    let given: Vec<_> = info.references.iter().map(ToString::to_string).collect();
    assert_eq!(given, [b, a]);
    assert!(info.render().contains(&format!("\nReferences: {a} {b}\n")));
    assert_eq!(with("References: ").references, []);
    for value in [" ", &*format!(" {a}"), &*format!("{a} "), &*format!("{a}  {b}"), "/nix/store/x"] {
        let reason = line_error(&format!("References: {value}\n"));
        assert!(matches!(reason, NarInfoLineError::StorePath { field: "References", .. }));
    }
}

#[test]
fn derivers() {
    assert_eq!(with("Deriver: unknown-deriver").deriver, None);
    let drv = "11111111111111111111111111111111-a.drv";
    let deriver = with(&format!("Deriver: {drv}")).deriver;
    assert_eq!(deriver.map(|path| path.to_string()).as_deref(), Some(drv));
    let empty = NarInfoLineError::StorePath { field: "Deriver", reason: StorePathError::NoName };
    assert_eq!(line_error("Deriver: \n"), empty);
}

#[test]
fn signatures_stay_in_order_and_once() {
    let sig = |name: &str| format!("Sig: {name}:{}==\n", "A".repeat(86));
    let info = with(&format!("{}{}{}X: y", sig("b"), sig("a"), sig("b")));
    let names: Vec<_> = info.signatures.iter().map(|s| s.key_name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let many = |count: usize| (0..count).map(|i| sig(&format!("k{i}"))).collect::<String>();
    assert_eq!(parse(&format!("{SMALLEST}{0}{0}", many(256))).signatures.len(), 256);
    let reason = NarInfoLineError::TooManySignatures;
    assert_eq!(error(&format!("{SMALLEST}{}", many(257))), NarInfoError::Line { line: 261, reason });
    for value in ["", "abc", ":AAAA", "a:!", "a:AAAA"] {
        let reason = line_error(&format!("Sig: {value}\n"));
        assert!(matches!(reason, NarInfoLineError::Signature(_)), "{value}");
    }
}

#[test]
fn content_addresses() {
    assert_eq!(with("CA: ").ca, None);
    let reason = line_error("CA: garbage\n");
    assert!(matches!(reason, NarInfoLineError::ContentAddress(_)));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(info in strategies::narinfo()) {
        let text = info.render();
        let parsed = NarInfo::parse(text.as_bytes());
        prop_assert_eq!(parsed.as_ref(), Ok(&info));
        prop_assert_eq!(parsed.expect("just compared").render(), text);
    }

    #[test]
    fn the_order_of_references_does_not_matter(
        info in strategies::narinfo(),
        order in any::<prop::sample::Index>(),
    ) {
        let mut shuffled = info.clone();
        if !shuffled.references.is_empty() {
            let len = shuffled.references.len();
            shuffled.references.rotate_left(order.index(len));
            let again = shuffled.references[0].clone();
            shuffled.references.push(again);
        }
        prop_assert_eq!(shuffled.render(), info.render());
        prop_assert_eq!(shuffled.fingerprint(), info.fingerprint());
        prop_assert_eq!(shuffled.proves_itself(), info.proves_itself());
    }

    /// Whatever is accepted has a canonical text that means the same.
    #[test]
    fn damaged_narinfos(
        info in strategies::narinfo(),
        damages in prop::collection::vec(strategies::damage(), 1..4),
    ) {
        let mut bytes = info.render().into_bytes();
        for damage in damages {
            strategies::apply(&mut bytes, damage);
        }
        if let Ok(parsed) = NarInfo::parse(&bytes) {
            let text = parsed.render();
            let again = NarInfo::parse(text.as_bytes());
            prop_assert_eq!(again.map(|info| info.render()), Ok(text));
        }
    }

    #[test]
    fn never_panics(bytes: Vec<u8>, lines in "([A-Z][A-Za-z]{1,10}: [ -~]{0,60}\n){0,12}") {
        let _ = (NarInfo::parse(&bytes), NarInfo::parse(lines.as_bytes()));
    }
}
