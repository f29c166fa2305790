//! Content-addressed paths that prove themselves: vectors made with Nix 2.8 in an empty store
//! (`nix --store <scratch root>`, store directory /nix/store).
//!
//! - `hello.txt` is `printf 'hello\n' > hello.txt`, added by `nix-store --add` (recursive sha256)
//!   and by `nix-store --add-fixed [--recursive] ALGORITHM hello.txt`; its CA is read off with
//!   `nix path-info --json`, or its digest made with `md5sum` and its like.
//! - `greeting` is `builtins.toFile "greeting" "hello\n"`, `refers` is
//!   `builtins.toFile "refers" "see ${greeting}\n"`, both with `--read-write-mode`; `x.drv` is a
//!   derivation that refers to `greeting`. Copied with `nix copy --to file://…`.
//! - `selfish` refers to itself and to `greeting`, and comes from
//!   `nix store make-content-addressed`.

use super::{HELLO_NAR_HASH, sha256};
use crate::{CaHash, Compression, ContentAddress, HashAlgorithm, Ingestion};
use crate::{NarHash, NarInfo, Sha256Hash, StorePath};

const GREETING: &str = "ybf7by4xvcgjhwilsg87rqz9di79bify-greeting";
const GREETING_CA: &str = "text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
const REFERS: &str = "qkaqc211w02wysambqzk7sssx3s2szpa-refers";
const REFERS_CA: &str = "text:sha256:057klpb2xjpg2gbv8941g31ffznh2x2lzd3hkaxzjji72xnnrg0a";
const HELLO: &str = "i9pmrzmpshapij2kin22pff6fc2adavx-hello.txt";
const HELLO_CA: &str = "fixed:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";
const SELFISH: &str = "wxignzfnfhw38xx1lp1mppaparrilv63-selfish";
const SELFISH_CA: &str = "fixed:r:sha256:0wqb0abgdlqxydp6yysaav78g4q0zhhbqg20f9p54vmds5bgr4jz";
const SELFISH_NAR_HASH: &str = "17c8nc0glrn92sc68d9v88m6i9pgk6p8f2w4i6qzl6x09ij504ic";
const CA_GREETING: &str = "5nfjhql2p2cvh7d7sz3cxy0wzgr2k6nf-greeting";

fn path(base_name: &str) -> StorePath {
    StorePath::parse(base_name).expect("a path of real Nix")
}

fn narinfo(store_path: &str, ca: &str, nar_hash: &str, references: &[&str]) -> NarInfo {
    NarInfo {
        store_path: path(store_path),
        url: "x".to_owned(),
        compression: Compression::Xz,
        file_hash: None,
        file_size: None,
        nar_hash: NarHash(sha256(nar_hash)),
        nar_size: 120,
        references: references.iter().map(|base_name| path(base_name)).collect(),
        deriver: None,
        signatures: Vec::new(),
        ca: (!ca.is_empty()).then(|| ContentAddress::parse(ca).expect("a CA of real Nix")),
    }
}

#[test]
fn texts() {
    let greeting = narinfo(GREETING, GREETING_CA, HELLO_NAR_HASH, &[]);
    assert!(greeting.proves_itself());
    assert!(!greeting.proves_nar_hash());
    assert_eq!(greeting.ca, Some(ContentAddress::Text(Sha256Hash::of(b"hello\n"))));
    assert!(narinfo(REFERS, REFERS_CA, HELLO_NAR_HASH, &[GREETING]).proves_itself());
    let drv = "hzzz4w003lgz73qfga477jlkwy455qr0-x.drv";
    let drv_ca = "text:sha256:1ysjd55c2washacwrp24788vs13i4wkl8fgkxghvm8pkbqc6b2a9";
    assert!(narinfo(drv, drv_ca, HELLO_NAR_HASH, &[GREETING]).proves_itself());
}

#[test]
fn texts_with_other_references() {
    for references in [&[][..], &[HELLO], &[GREETING, HELLO], &[GREETING, REFERS]] {
        let info = narinfo(REFERS, REFERS_CA, HELLO_NAR_HASH, references);
        assert!(!info.proves_itself(), "{references:?}");
    }
    assert!(!narinfo(GREETING, GREETING_CA, HELLO_NAR_HASH, &[GREETING]).proves_itself());
}

#[test]
fn sources() {
    let hello = narinfo(HELLO, HELLO_CA, HELLO_NAR_HASH, &[]);
    assert!(hello.proves_itself() && hello.proves_nar_hash());
    let copied = narinfo(CA_GREETING, HELLO_CA, HELLO_NAR_HASH, &[]);
    assert!(copied.proves_itself() && copied.proves_nar_hash());
    let tree = "wydn9p9nsx6ip3fwqaawnd0jhkv1z9pf-tree";
    let tree_hash = "00svd918zjgnlf094g951f8r6zwmn36gpq42j9rfbnzxyk7k9isb";
    let tree_ca = format!("fixed:r:sha256:{tree_hash}");
    assert!(narinfo(tree, &tree_ca, tree_hash, &[]).proves_itself());
}

#[test]
fn a_source_with_another_nar_hash_proves_nothing() {
    let info = narinfo(HELLO, HELLO_CA, SELFISH_NAR_HASH, &[]);
    assert!(info.ca_gives_store_path());
    assert!(!info.proves_itself() && !info.proves_nar_hash());
}

#[test]
fn other_names_references_and_addresses_prove_nothing() {
    let renamed = HELLO.replace("hello.txt", "hello.md");
    assert!(!narinfo(&renamed, HELLO_CA, HELLO_NAR_HASH, &[]).proves_itself());
    assert!(!narinfo(HELLO, HELLO_CA, HELLO_NAR_HASH, &[GREETING]).proves_itself());
    assert!(!narinfo(HELLO, HELLO_CA, HELLO_NAR_HASH, &[HELLO]).proves_itself());
    assert!(!narinfo(HELLO, GREETING_CA, HELLO_NAR_HASH, &[]).proves_itself());
    assert!(!narinfo(HELLO, "", HELLO_NAR_HASH, &[]).proves_itself());
}

#[test]
fn fixed_outputs() {
    let sha512 = "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931\
                  f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629";
    for (store_path, ca) in [
        ("dra1cz5vbrhclpv4y1q0psnbkxz581bk", "fixed:md5:b1946ac92492d2347c6235b4d2611184"),
        ("svdva85yi507g9vncgsaxvnd1r808h4w", "fixed:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm"),
        (
            "gy454w1cxaq731grqwylhzf4pp9r5izh",
            "fixed:sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ),
        ("9a8mxachqmcv8x2cfijdps9dyxgyyrzm", &*format!("fixed:sha512:{sha512}")),
    ] {
        let store_path = format!("{store_path}-hello.txt");
        let info = narinfo(&store_path, ca, HELLO_NAR_HASH, &[]);
        assert!(info.proves_itself(), "{ca}");
        assert!(!info.proves_nar_hash(), "{ca}");
        let recursive = ca.replace("fixed:", "fixed:r:");
        assert!(!narinfo(&store_path, &recursive, HELLO_NAR_HASH, &[]).proves_itself());
        assert!(!narinfo(&store_path, ca, HELLO_NAR_HASH, &[GREETING]).proves_itself());
        assert!(!narinfo(&store_path, ca, HELLO_NAR_HASH, &[&store_path]).proves_itself());
    }
}

/// Digests of the NAR, by `nix-hash --type ALGORITHM hello.txt`.
#[test]
fn recursive_fixed_outputs_of_other_algorithms() {
    let sha512 = "098d9d63b290cc8dff5705019ac0b61fa6ed0b0b1a3d732ef91958c3e5b2d17e\
                  8b02b5ed8b01c0526e0e16708adcca96bbf1a906a105927ded24a2236e2a80b0";
    for (store_path, ca) in [
        ("l2ycihp9r6lnfifs72r40m62fwicg5iz", "md5:d3ea68e810bc7f9297024c01b858679e"),
        ("hzq8n5jpi3g2d0xhlvqd8q1gx5c9s6i3", "sha1:0deb52c2735eb38d360f976b7b3823c4ad05cce7"),
        ("8xkszhbayigjg9vbrrxfa1hp9qflbh6b", &*format!("sha512:{sha512}")),
    ] {
        let store_path = format!("{store_path}-hello.txt");
        let info = narinfo(&store_path, &format!("fixed:r:{ca}"), HELLO_NAR_HASH, &[]);
        assert!(info.proves_itself() && !info.proves_nar_hash(), "{ca}");
        assert!(!narinfo(&store_path, &format!("fixed:{ca}"), HELLO_NAR_HASH, &[]).proves_itself());
    }
}

#[test]
fn self_references_as_nix_counts_them() {
    let references = [CA_GREETING, SELFISH];
    let info = narinfo(SELFISH, SELFISH_CA, SELFISH_NAR_HASH, &references);
    assert!(info.ca_gives_store_path());
    for wrong in [&[CA_GREETING][..], &[SELFISH], &[]] {
        let info = narinfo(SELFISH, SELFISH_CA, SELFISH_NAR_HASH, wrong);
        assert!(!info.ca_gives_store_path(), "{wrong:?}");
    }
    // The CA is of the NAR with the references to itself blanked: no proof of the NAR hash.
    assert!(!info.proves_itself() && !info.proves_nar_hash());
}

#[test]
fn git_trees_prove_nothing() {
    let digest = [7; 20];
    let hash = CaHash::new(HashAlgorithm::Sha1, &digest).expect("20 bytes");
    let mut info = narinfo(HELLO, "", HELLO_NAR_HASH, &[]);
    info.ca = Some(ContentAddress::Fixed { method: Ingestion::Git, hash });
    assert!(!info.proves_itself());
}
