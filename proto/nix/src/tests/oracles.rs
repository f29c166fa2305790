//! Agreement with independent implementations: the crates nix-narinfo and nix-archive.
//!
//! They are more tolerant (nix-narinfo: carriage returns, blank lines, signs before numbers) or
//! less (nix-archive: 64 levels), so what is compared is stated per test.

use proptest::prelude::*;

use super::strategies;
use crate::nar::{Validator, build};
use crate::{Compression, HashAlgorithm, Ingestion};
use crate::{ContentAddress, NarInfo, PublicKey, SecretKey, TrustedKeys};

fn theirs(bytes: &[u8]) -> Result<nix_narinfo::NarInfo, nix_narinfo::ParseError> {
    str::from_utf8(bytes).map_err(|_| nix_narinfo::ParseError::InvalidUtf8)?.parse()
}

/// Git makes sha1 and sha256 objects only; they hold narinfos to that.
fn they_know(ca: Option<&ContentAddress>) -> bool {
    use HashAlgorithm::{Sha1, Sha256};
    match ca {
        Some(ContentAddress::Fixed { method: Ingestion::Git, hash }) => {
            matches!(hash.algorithm(), Sha1 | Sha256)
        }
        _ => true,
    }
}

fn their_compression(compression: Compression) -> nix_narinfo::Compression {
    nix_narinfo::Compression::parse(compression.name())
}

fn valid(nar: &[u8]) -> bool {
    let mut validator = Validator::new();
    validator.push(nar).and_then(|()| validator.finish()).is_ok()
}

/// Symlink targets they leave to the visitor.
fn their_valid(nar: &[u8]) -> bool {
    use nix_archive::nar::{Error, ReadEvent, decode_events_reader};
    let verdict = decode_events_reader(&mut &*nar, |event| match event {
        ReadEvent::Symlink { target, .. } if target.is_empty() || target.contains(&0) => {
            Err(Error::InvalidEncoderEvent("symlink target"))
        }
        _ => Ok(()),
    });
    verdict.is_ok()
}

proptest! {
    #![proptest_config(strategies::config())]

    /// They read what we write, mean the same by it and write the same.
    #[test]
    fn narinfos_that_we_write(info in strategies::narinfo()) {
        prop_assume!(they_know(info.ca.as_ref()));
        let text = info.render();
        let theirs = theirs(text.as_bytes());
        let theirs = theirs.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(theirs.to_canonical_bytes(), text.into_bytes());
        prop_assert_eq!(theirs.fingerprint(theirs.store_dir()), info.fingerprint());
        prop_assert_eq!(theirs.compression(), &their_compression(info.compression));
        prop_assert_eq!(theirs.is_content_addressed(theirs.store_dir()), info.ca_gives_store_path());
    }

    /// What we take, they take, and they sign the same for it.
    #[test]
    fn damaged_narinfos(info in strategies::narinfo(), damage in strategies::damage()) {
        let mut bytes = info.render().into_bytes();
        strategies::apply(&mut bytes, damage);
        if let Ok(ours) = NarInfo::parse(&bytes)
            && they_know(info.ca.as_ref())
            && let Ok(theirs) = theirs(&bytes)
        {
            prop_assert_eq!(theirs.fingerprint(theirs.store_dir()), ours.fingerprint());
        }
    }

    #[test]
    fn signatures(mut info in strategies::narinfo()) {
        info.ca = None;
        let secret = SecretKey::generate("host-1").expect("random bytes");
        info.signatures.push(secret.sign(&info.fingerprint()));
        let public = secret.public().to_string();
        let ours: TrustedKeys = PublicKey::parse(&public).into_iter().collect();
        let their_key = nix_narinfo::TrustedPublicKey::parse(&public).expect("a key of ours");
        let their_info = theirs(info.render().as_bytes()).expect("a narinfo of ours");
        prop_assert_eq!(ours.verify(&info), Some("host-1"));
        prop_assert!(their_info.has_valid_signature(their_info.store_dir(), &[their_key]));
    }

    #[test]
    fn nars_that_we_make(tree in strategies::tree()) {
        let nar = build::encode(&tree);
        prop_assert!(their_valid(&nar));
        let entries = nix_archive::nar::decode(&nar);
        prop_assert_eq!(entries?.len(), count(&tree));
    }

    /// Canonical or not: one verdict. (Their limits are ours below 64 levels, and our trees have
    /// no long names and targets.)
    #[test]
    fn damaged_nars(tree in strategies::tree(), damage in strategies::damage()) {
        let mut nar = build::encode(&tree);
        strategies::apply(&mut nar, damage);
        prop_assert_eq!(valid(&nar), their_valid(&nar));
    }

    /// As above, with damage that keeps to whole strings.
    #[test]
    fn shuffled_nars(
        tree in strategies::tree(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let nar = build::encode(&tree);
        let words = nar.len() / 8;
        let (from, to) = (from.index(words) * 8, to.index(words) * 8);
        let mut moved = nar.clone();
        let word: Vec<u8> = moved.drain(from..from + 8).collect();
        moved.splice(to.min(moved.len())..to.min(moved.len()), word);
        prop_assert_eq!(valid(&moved), their_valid(&moved));
    }
}

fn count(tree: &build::Node) -> usize {
    match tree {
        build::Node::Directory(entries) => 1 + entries.values().map(count).sum::<usize>(),
        _ => 1,
    }
}
