//! Names that other caches have handed out and clients remember, upstream URLs that are never shown, and NARs
//! that are decoded on their way. (docs/ARCHITECTURE.md says why.)

use ncps_nix::{Compression, NarInfo};
use ncps_tests::{Cluster, Fixture, Gate, Outcome, Request, Rule, Upstream, UpstreamKey, both_modes};

use crate::asking::{ask, get, head};

both_modes! {
    async fn base16_names_are_the_same_files(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hex-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        cluster.narinfo(&fixture).await;
        let hex = format!("/nar/{}.nar.xz", fixture.file_hash().0.hex());
        let told = get(&cluster, &hex).await;
        assert_eq!((told.status, &told.body), (200, &fixture.file.to_bytes()));
        cluster.quiet().await;
        let same = get(&cluster, &fixture.nar_path()).await;
        assert_eq!((same.comparable(), &same.body), (told.comparable(), &told.body));
        assert_eq!(head(&cluster, &hex).await.comparable(), told.comparable());
        assert_eq!(cluster.stored_files(), [fixture.nar_path().trim_start_matches("/nar/")]);
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn nix_serve_names_are_the_same_files(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = of_nix_serve(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let narinfo = cluster.narinfo(&fixture).await;
        assert_eq!(format!("/{}", narinfo.url), fixture.canonical_nar_path());
        let told = get(&cluster, &fixture.nar_path()).await;
        assert_eq!((told.status, &told.body), (200, &fixture.nar.to_bytes()));
        cluster.quiet().await;
        let same = get(&cluster, &fixture.canonical_nar_path()).await;
        assert_eq!((same.comparable(), same.body), (told.comparable(), told.body));
        cluster.end().await;
    }

    async fn an_unknown_name_is_looked_for_under_the_same_name(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (empty, upstream) = (Upstream::start().await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&empty).upstream(&upstream).trust(&key).start().await;
        for fixture in unknown(&key) {
            upstream.add(&fixture);
            let name = fixture.nar_path();
            assert_eq!(head(&cluster, &name).await.status, 200, "{name}");
            assert_eq!(upstream.count("GET", "/nar/"), 0, "a HEAD fetches nothing");
            let told = get(&cluster, &name).await;
            assert_eq!(told.status, 200, "{name}");
            assert!(told.body == fixture.file.to_bytes(), "{name}");
            cluster.quiet().await;
            assert!(cluster.stores(&fixture.canonical_nar_path()), "kept under our name");
            let again = get(&cluster, &fixture.canonical_nar_path()).await;
            assert_eq!((again.comparable(), again.body), (told.comparable(), told.body));
            assert_eq!(upstream.count("GET", "/nar/"), 1, "{name}");
            upstream.forget();
        }
        assert_eq!(upstream.count("GET", "/nar/") + upstream.count("GET", "/x"), 0);
        cluster.end().await;
    }

    async fn wrong_bytes_under_an_unknown_name_are_refused(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for (seed, fixture) in unknown(&key).into_iter().enumerate() {
            upstream.put(&fixture.nar_path(), Fixture::new("wrong").seed(seed as u64).build(&key).file);
            let told = get(&cluster, &fixture.nar_path()).await;
            assert_eq!(told.status, 502, "nothing was given away before the proof");
            cluster.quiet().await;
        }
        let large = Fixture::new("large-1.0").size(500_000).compression(Compression::None).build(&key);
        upstream.add(&large);
        let rest = Gate::new();
        upstream.script(Rule::on("/nar/*").flip(1000).pause_at(400_000, &rest));
        let mut told = cluster.get(&large.nar_path()).await;
        assert_eq!(told.status, 200, "it streams before the proof");
        rest.open();
        assert!(matches!(told.outcome().await, Outcome::Truncated(_)), "a wrong body never looks complete");
        cluster.quiet().await;
        assert_eq!(cluster.stored_files(), Vec::<String>::new());
        cluster.end().await;
    }

    async fn an_unknown_name_is_absent_only_if_nobody_failed(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("unknown-1.0").build(&key);
        let (down, empty) = (Upstream::with(&[&fixture]).await, Upstream::start().await);
        let outage = down.script(Rule::on("*").status(500));
        let cluster = Cluster::builder(mode).upstream(&down).upstream(&empty).trust(&key).start().await;
        assert_eq!(head(&cluster, &fixture.nar_path()).await.status, 502);
        outage.remove();
        let told = get(&cluster, &fixture.nar_path()).await;
        assert_eq!((told.status, told.body), (200, fixture.file.to_bytes()));
        cluster.end().await;
    }

    async fn a_nar_without_file_hash_is_offered_decoded(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        upstream.require_queries(true);
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for compression in [Compression::Xz, Compression::Zstd, Compression::Bzip2] {
            let opaque = format!("nar/0193f1c2-{compression}.nar?token=a%2Fb");
            let fixture = Fixture::new("attic-1.0").seed(compression as u64).size(200_000).compressible();
            let fixture = fixture.compression(compression).url(&opaque).without_file_fields().build(&key);
            upstream.add(&fixture);
            let narinfo = cluster.narinfo(&fixture).await;
            assert_decoded_offer(&narinfo, &fixture);
            let url = format!("/{}", narinfo.url);
            let asked = head(&cluster, &url).await;
            assert_eq!(asked.headers.number("Content-Length"), Some(fixture.nar.len()));
            assert_eq!(upstream.count("GET", "/nar/"), 0);
            let told = get(&cluster, &url).await;
            assert_eq!((told.status, told.comparable()), (200, asked.comparable()), "{compression}");
            assert!(told.body == fixture.nar.to_bytes(), "{compression}");
            cluster.quiet().await;
            assert!(cluster.stores(&url), "kept as it is offered");
            let part = ask(&cluster, Request::get(&url).range("1000-1999")).await;
            assert_eq!((part.status, part.body), (206, fixture.nar.to_bytes().slice(1000..2000)));
            assert_eq!(upstream.count("GET", "/nar/"), 1);
            upstream.forget();
        }
        cluster.end().await;
    }

    async fn a_file_hash_that_says_nothing_counts_as_none(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let other = format!("FileHash: {}\n", Fixture::new("other").build(&key).file_hash());
        let sha1 = "FileHash: sha1:0zbc2m0xh8sfkzkpfhh8b9m3p7wnvhkw\n".to_owned();
        for (compression, odd) in [(Compression::Zstd, sha1), (Compression::None, other)] {
            let fixture = Fixture::new("odd-1.0").seed(compression as u64).compression(compression).build(&key);
            upstream.add(&fixture);
            let said = format!("FileHash: {}\n", fixture.file_hash());
            upstream.put(&fixture.narinfo_path(), fixture.narinfo_text().replace(&said, &odd));
            let narinfo = cluster.narinfo(&fixture).await;
            assert_decoded_offer(&narinfo, &fixture);
            assert_eq!(get(&cluster, &format!("/{}", narinfo.url)).await.body, fixture.nar.to_bytes());
        }
        cluster.end().await;
    }

    async fn what_does_not_decode_to_the_signed_nar_is_refused(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let fixture = |seed| Fixture::new("attic").seed(seed).url(&format!("nar/{seed}")).without_file_fields();
        let other = Fixture::new("other-1.0").build(&key).file.to_bytes();
        let good = fixture(0).build(&key).file.to_bytes();
        let wrong = [other.clone(), good.slice(..good.len() - 20), vec![0; 500].into(), bytes::Bytes::new()];
        for (seed, wrong) in wrong.into_iter().enumerate() {
            let fixture = fixture(seed as u64).build(&key);
            upstream.add_narinfo(&fixture);
            upstream.put(&fixture.nar_path(), wrong);
            let url = format!("/{}", cluster.narinfo(&fixture).await.url);
            assert_eq!(get(&cluster, &url).await.status, 502, "{seed}");
            cluster.quiet().await;
        }
        assert_eq!(cluster.stored_files(), Vec::<String>::new());
        cluster.end().await;
    }

    async fn a_nar_that_is_stored_compressed_is_answered_by_decoding(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let mut fixtures = Vec::new();
        for compression in [Compression::Xz, Compression::Zstd, Compression::Bzip2] {
            let fixture = Fixture::new("stored-1.0").seed(compression as u64).size(100_000);
            let fixture = fixture.compressible().compression(compression).build(&key);
            upstream.add(&fixture);
            cluster.narinfo(&fixture).await;
            get(&cluster, &fixture.nar_path()).await;
            fixtures.push(fixture);
        }
        cluster.quiet().await;
        upstream.down().await;
        for fixture in fixtures {
            let compression = fixture.narinfo.compression;
            let path = format!("/nar/{}.nar", fixture.narinfo.nar_hash.0.nix32());
            let asked = head(&cluster, &path).await;
            assert_eq!(asked.status, 200, "{compression}");
            assert_eq!(asked.headers.number("Content-Length"), Some(fixture.nar.len()));
            let told = get(&cluster, &path).await;
            assert_eq!((told.status, told.comparable()), (200, asked.comparable()), "{compression}");
            assert!(told.body == fixture.nar.to_bytes(), "{compression}");
            let part = ask(&cluster, Request::get(&path).range("-10")).await;
            assert_eq!(part.body, fixture.nar.to_bytes().slice(fixture.nar.len() as usize - 10..));
            assert_ne!(told.header("ETag"), get(&cluster, &fixture.nar_path()).await.header("ETag"));
        }
        cluster.end().await;
    }

    async fn a_nar_that_is_known_compressed_is_fetched_and_decoded(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("known-1.0").size(100_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        cluster.narinfo(&fixture).await;
        let told = get(&cluster, &format!("/nar/{}.nar", fixture.narinfo.nar_hash.0.nix32())).await;
        assert_eq!(told.status, 200);
        assert!(told.body == fixture.nar.to_bytes());
        cluster.end().await;
    }
}

/// As nix-serve has it: uncompressed, no fields of the file, and its own shape of URL.
fn of_nix_serve(key: &UpstreamKey) -> Fixture {
    let plain = Fixture::new("nix-serve-1.0").compression(Compression::None).without_file_fields();
    let made = plain.clone().build(key);
    let (store, nar) = (made.hash_part(), made.narinfo.nar_hash.0.nix32());
    plain.url(&format!("nar/{store}-{nar}.nar")).build(key)
}

/// Files under the names that caches give them: ours, cachix's, nix-serve's.
fn unknown(key: &UpstreamKey) -> Vec<Fixture> {
    let ours =
        [Compression::None, Compression::Xz, Compression::Bzip2, Compression::Zstd].map(|compression| {
            Fixture::new("ours-1.0").seed(compression as u64).compression(compression).build(key)
        });
    let plain = Fixture::new("cachix-1.0").compression(Compression::Zstd);
    let hex = plain.clone().build(key).file_hash().0.hex();
    let mut all = Vec::from(ours);
    all.push(plain.url(&format!("nar/{hex}.nar.zst")).build(key));
    all.push(of_nix_serve(key));
    all
}

fn assert_decoded_offer(narinfo: &NarInfo, fixture: &Fixture) {
    let nar = fixture.narinfo.nar_hash;
    assert_eq!(
        (narinfo.compression, &narinfo.url),
        (Compression::None, &format!("nar/{}.nar", nar.0.nix32()))
    );
    assert_eq!(narinfo.file_hash.map(|hash| hash.0), Some(nar.0));
    assert_eq!((narinfo.file_size, narinfo.nar_size), (Some(fixture.nar.len()), fixture.nar.len()));
    assert_eq!(narinfo.nar_hash, nar);
}
