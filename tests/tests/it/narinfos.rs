//! Narinfos as they are served: their text, their signatures, and what becomes of an upstream's odd ones that
//! are still good. (Lines 4 to 7, 9 to 15 and 19 of the protocol's conformance checklist.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use ncps_nix::{Compression, ContentAddress, NarInfo, Signature, StorePath};
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, both_modes};
use tempfile::TempDir;

use crate::asking::{ask, get, head};

/// The keys of a narinfo in the order in which Nix writes them, and whether they must be there.
const KEYS: [(&str, bool); 11] = [
    ("StorePath", true),
    ("URL", true),
    ("Compression", true),
    ("FileHash", true),
    ("FileSize", true),
    ("NarHash", true),
    ("NarSize", true),
    ("References", false),
    ("Deriver", false),
    ("Sig", true),
    ("CA", false),
];

both_modes! {
    async fn line_04_a_narinfo_passes_the_strictest_parser(mode) {
        let key = UpstreamKey::new("upstream-1");
        let ca = ContentAddress::parse("fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s");
        let ca = ca.expect("a content address");
        let full = Fixture::new("full-1.0").references(&paths()).deriver(derivation());
        let full = full.build_unsigned().changed(|narinfo| narinfo.ca = Some(ca)).signed(&key);
        let bare = Fixture::new("bare-1.0").compression(Compression::None).build(&key);
        let upstream = Upstream::with(&[&full, &bare]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in [&full, &bare] {
            let told = get(&cluster, &fixture.narinfo_path()).await;
            assert_eq!((told.status, told.header("Content-Type")), (200, Some("text/x-nix-narinfo")));
            assert_strict(told.text());
            let served = NarInfo::parse(&told.body).expect("it parses");
            let same = NarInfo { signatures: served.signatures.clone(), ..fixture.narinfo.clone() };
            assert_eq!(served, same, "but for the signatures it is what the upstream says");
        }
        cluster.end().await;
    }

    async fn line_05_head_of_a_narinfo_is_its_get_without_a_body(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("headed-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let cold = head(&cluster, &fixture.narinfo_path()).await;
        let told = get(&cluster, &fixture.narinfo_path()).await;
        assert_eq!(cold.status, 200);
        assert_eq!(cold.headers.number("Content-Length"), Some(told.body.len() as u64));
        assert_eq!(cold.comparable(), told.comparable());
        assert_eq!(head(&cluster, &fixture.narinfo_path()).await.comparable(), told.comparable());
        cluster.end().await;
    }

    async fn line_06_an_absent_path_is_404(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let told = get(&cluster, &Fixture::new("absent").build(&key).narinfo_path()).await;
        assert_eq!((told.status, told.text()), (404, "not found\n"));
        assert_eq!((upstream.count("GET", "/"), upstream.total()), (1, 1), "the one question");
        cluster.end().await;
    }

    async fn line_07_head_of_an_absent_path_is_404_and_fetches_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let absent = Fixture::new("absent").build(&key).narinfo_path();
        let asked = head(&cluster, &absent).await;
        assert_eq!(asked.status, 404);
        assert_eq!(asked.comparable(), get(&cluster, &absent).await.comparable());
        assert!(upstream.requests().iter().all(|seen| seen.path == absent), "{:?}", upstream.requests());
        cluster.end().await;
    }

    async fn line_09_no_references_leave_a_space(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (with, without) = (Fixture::new("a").build(&key), Fixture::new("b").build(&key));
        let upstream = Upstream::with(&[&with]).await;
        upstream.put(&without.narinfo_path(), without.narinfo_text().replace("References: \n", ""));
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in [with, without] {
            let told = get(&cluster, &fixture.narinfo_path()).await;
            assert_strict(told.text());
            let line = told.text().lines().find(|line| line.starts_with("References"));
            assert!(matches!(line, None | Some("References: ")), "{line:?}");
            assert_eq!(NarInfo::parse(&told.body).expect("it parses").references, []);
        }
        cluster.end().await;
    }

    async fn line_10_no_deriver_is_no_line(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (without, unknown) = (Fixture::new("a").build(&key), Fixture::new("b").build(&key));
        let known = Fixture::new("c").deriver(derivation()).build(&key);
        let upstream = Upstream::with(&[&without, &known]).await;
        upstream.put(&unknown.narinfo_path(), unknown.narinfo_text() + "Deriver: unknown-deriver\n");
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for (fixture, expected) in [(without, None), (unknown, None), (known, Some(derivation()))] {
            let told = get(&cluster, &fixture.narinfo_path()).await;
            assert_strict(told.text());
            let line = told.text().lines().find(|line| line.starts_with("Deriver"));
            assert_eq!(line, expected.map(|path| format!("Deriver: {path}")).as_deref());
        }
        cluster.end().await;
    }

    async fn line_11_upstream_signatures_are_kept_and_ours_is_added_once(mode) {
        let (trusted, other) = (UpstreamKey::new("upstream-1"), UpstreamKey::new("other-1"));
        // The trusted one is not the first, and one is said twice.
        let fixture = Fixture::new("signed-1.0").build(&other).signed(&trusted);
        let [first, second] = &fixture.narinfo.signatures[..] else { panic!("two signatures") };
        let upstream = Upstream::start().await;
        upstream.put(&fixture.narinfo_path(), fixture.narinfo_text() + &format!("Sig: {second}\n"));
        let cluster = Cluster::of(mode, &upstream, &trusted).await;
        let ours = signature_of(&cluster, &fixture.narinfo).await;
        let expected = [first, second, &ours].map(|signature| format!("Sig: {signature}"));
        for _ in 0..2 {
            let told = get(&cluster, &fixture.narinfo_path()).await;
            let lines: Vec<_> = told.text().lines().filter(|line| line.starts_with("Sig")).collect();
            assert_eq!(lines, expected);
        }
        cluster.end().await;
    }

    async fn line_12_two_edges_say_the_same_bytes(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("same-1.0").references(&paths()).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let first = Cluster::of(mode, &upstream, &key).await;
        let second = Cluster::builder(mode).on(with_the_key_of(&first, mode));
        let second = second.upstream(&upstream).trust(&key).start().await;
        assert_eq!(first.public_key().await, second.public_key().await);
        let told = get(&first, &fixture.narinfo_path()).await;
        assert_eq!(told.status, 200);
        assert_eq!(get(&first, &fixture.narinfo_path()).await.body, told.body);
        assert_eq!(get(&second, &fixture.narinfo_path()).await.body, told.body);
        assert_eq!(upstream.count("GET", &fixture.narinfo_path()), 2, "each edge asked for itself");
        let again = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let again = first.restart(again).await;
        assert_eq!(get(&again, &fixture.narinfo_path()).await.body, told.body, "after a restart, too");
        again.end().await;
        second.end().await;
    }

    async fn line_13_our_signature_covers_the_sorted_references(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let ours = cluster.public_key().await;
        let [a, b, c] = paths();
        let own = Fixture::new("x").store_path();
        let all = [vec![], vec![&c, &a, &b], vec![&b, &a, &b], vec![&c, &own, &a]];
        for (seed, said) in all.iter().enumerate() {
            let seed = if said.contains(&&own) { 0 } else { seed as u64 + 1 };
            let sorted = sorted(said);
            let fixture = Fixture::new("x").seed(seed).references(&sorted).build(&key);
            let (good, odd) = (references_line(&sorted.iter().collect::<Vec<_>>()), references_line(said));
            upstream.put(&fixture.narinfo_path(), fixture.narinfo_text().replace(&good, &odd));
            let told = get(&cluster, &fixture.narinfo_path()).await;
            assert_eq!(told.status, 200, "{odd}");
            assert!(told.text().contains(&good), "{} for {odd}", told.text());
            let served = NarInfo::parse(&told.body).expect("it parses");
            let fingerprint = fingerprint(&fixture, &sorted);
            assert!(served.signatures.iter().any(|signature| ours.verify(&fingerprint, signature)), "{odd}");
        }
        cluster.end().await;
    }

    async fn line_14_hashes_are_served_in_nix32(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let ours = cluster.public_key().await;
        type Spelling = fn(&[u8; 32]) -> String;
        let spellings: [Spelling; 3] = [
            |hash| format!("sha256:{}", HEXLOWER.encode(hash)),
            |hash| format!("sha256-{}", BASE64.encode(hash)),
            |hash| format!("sha256:{}", BASE64.encode(hash)),
        ];
        for (seed, spelling) in spellings.into_iter().enumerate() {
            let fixture = Fixture::new("spelled-1.0").seed(seed as u64).build(&key);
            let (nar, file) = (fixture.narinfo.nar_hash, fixture.file_hash());
            let text = fixture.narinfo_text();
            let text = text.replace(&nar.to_string(), &spelling(nar.0.as_bytes()));
            let text = text.replace(&file.to_string(), &spelling(file.0.as_bytes()));
            assert!(!text.contains(&nar.to_string()), "{text}");
            upstream.put(&fixture.narinfo_path(), text);
            let told = get(&cluster, &fixture.narinfo_path()).await;
            assert_eq!(told.status, 200);
            assert_strict(told.text());
            assert!(told.text().contains(&format!("\nNarHash: sha256:{}\n", nar.0.nix32())));
            let served = NarInfo::parse(&told.body).expect("it parses");
            assert!(ours.verify(&fingerprint(&fixture, &[]), &served.signatures[1]));
        }
        cluster.end().await;
    }

    async fn line_15_unknown_keys_are_accepted(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("odd-1.0").build(&key);
        let upstream = Upstream::start().await;
        let text = format!("X-Made-By: a: b  c\n{}System: x86_64-linux\nEmpty: \n", fixture.narinfo_text());
        upstream.put(&fixture.narinfo_path(), text);
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let told = get(&cluster, &fixture.narinfo_path()).await;
        assert_eq!(told.status, 200);
        assert_strict(told.text());
        cluster.end().await;
    }

    async fn line_19_no_compression_is_bzip2(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("old-1.0").compression(Compression::Bzip2).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        upstream.put(&fixture.narinfo_path(), fixture.narinfo_text().replace("Compression: bzip2\n", ""));
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let told = get(&cluster, &fixture.narinfo_path()).await;
        let url = format!("\nURL: nar/{}.nar.bz2\nCompression: bzip2\n", fixture.file_hash().0.nix32());
        assert!(told.text().contains(&url), "{}", told.text());
        let nar = ask(&cluster, Request::get(&fixture.canonical_nar_path())).await;
        assert_eq!((nar.status, nar.body), (200, fixture.file.to_bytes()));
        cluster.end().await;
    }

    async fn without_signing_upstream_signatures_pass_alone(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("unsigned-by-us-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).without_signing().start().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.text(), fixture.narinfo_text());
        assert_eq!(get(&cluster, &fixture.nar_path()).await.body, fixture.file.to_bytes());
        assert_eq!(get(&cluster, "/pubkey").await.status, 404, "there is no key of ours");
        let about: serde_json::Value =
            serde_json::from_slice(&get(&cluster, "/").await.body).expect("it is JSON");
        assert_eq!(about, serde_json::json!({ "hostname": "cache.test", "publicKey": null }));
        cluster.end().await;
    }
}

/// Three store paths in their order.
fn paths() -> [StorePath; 3] {
    let mut paths = ["first-1.0", "second+x_1", "third?x=1"].map(|name| Fixture::new(name).store_path());
    paths.sort();
    paths
}

fn derivation() -> StorePath {
    Fixture::new("made-1.0.drv").store_path()
}

fn sorted(paths: &[&StorePath]) -> Vec<StorePath> {
    let mut sorted: Vec<_> = paths.iter().map(|path| (*path).clone()).collect();
    sorted.sort_by_key(StorePath::to_string);
    sorted.dedup();
    sorted
}

fn references_line(paths: &[&StorePath]) -> String {
    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    format!("References: {}\n", paths.join(" "))
}

/// What signatures cover, put together here and not by our own code.
fn fingerprint(fixture: &Fixture, references: &[StorePath]) -> String {
    let (path, hash) = (fixture.store_path(), fixture.narinfo.nar_hash.0.nix32());
    let references: Vec<_> = references.iter().map(|path| format!("/nix/store/{path}")).collect();
    format!("1;/nix/store/{path};sha256:{hash};{};{}", fixture.nar.len(), references.join(","))
}

async fn signature_of(cluster: &Cluster, narinfo: &NarInfo) -> Signature {
    let path = format!("/{}.narinfo", narinfo.store_path.hash());
    let served = NarInfo::parse(&get(cluster, &path).await.body).expect("it parses");
    let ours = cluster.public_key().await;
    let mut good = served.signatures.into_iter().filter(|s| ours.verify(&narinfo.fingerprint(), s));
    good.next().expect("we signed it")
}

/// Data for another cluster that signs with the same key.
fn with_the_key_of(cluster: &Cluster, mode: Mode) -> Arc<TempDir> {
    let data = TempDir::new().expect("a temporary directory");
    let store = cluster.store_dir();
    let from = secret_key(store.ancestors().nth(2).expect("the cluster's data"), mode);
    let to = secret_key(data.path(), mode);
    fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    fs::copy(from, to).expect("copied");
    Arc::new(data)
}

fn secret_key(data: &Path, mode: Mode) -> PathBuf {
    let plane = if mode == Mode::Combined { "data" } else { "control" };
    data.join(plane).join("secret.key")
}

/// The grammar of Snix, the strictest of the clients, and Nix's order of the keys; not by our own parser.
fn assert_strict(text: &str) {
    assert!(text.ends_with('\n') && !text.contains('\r') && !text.contains("\n\n"), "{text:?}");
    let fields: Vec<_> = text.lines().map(|line| line.split_once(": ").expect(line)).collect();
    let place = |key: &str| KEYS.iter().position(|(known, _)| *known == key).expect(key);
    let places: Vec<_> = fields.iter().map(|(key, _)| place(key)).collect();
    assert!(places.is_sorted(), "{text}");
    for (key, needed) in KEYS {
        let count = fields.iter().filter(|(found, _)| *found == key).count();
        assert!(
            (count == 1) || (!needed && count == 0) || (key == "Sig" && count > 1),
            "{count} {key}: {text}"
        );
    }
    for (key, value) in fields {
        assert!(is_well_formed(key, value), "{key}: {value:?}");
    }
}

fn is_well_formed(key: &str, value: &str) -> bool {
    let base_names = |text: &str| text.split(' ').all(|path| StorePath::parse(path).is_ok());
    match key {
        "StorePath" => value.strip_prefix("/nix/store/").is_some_and(base_names),
        "URL" => value.starts_with("nar/") && !value.contains([' ', '?']),
        "Compression" => ["none", "xz", "bzip2", "zstd"].contains(&value),
        "FileHash" | "NarHash" => value.strip_prefix("sha256:").is_some_and(is_nix32_of_sha256),
        "FileSize" | "NarSize" => {
            value.parse::<u64>().is_ok_and(|size| size.to_string() == value && size > 0)
        }
        "References" => value.is_empty() || base_names(value),
        "Deriver" => value.ends_with(".drv") && base_names(value),
        "Sig" => value.split_once(':').is_some_and(|(name, signature)| {
            !name.is_empty() && BASE64.decode(signature.as_bytes()).is_ok_and(|bytes| bytes.len() == 64)
        }),
        _ => !value.is_empty(),
    }
}

fn is_nix32_of_sha256(text: &str) -> bool {
    text.len() == 52 && text.bytes().all(|byte| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&byte))
}
