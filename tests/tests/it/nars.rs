//! NARs as they are served: heads, bytes, absences, queries. (Lines 20 to 22, 28, 30 and 31 of the protocol's
//! conformance checklist.)

use ncps_nix::{Compression, NarHash, NarInfo, Sha256Hash};
use ncps_tests::{Cluster, Fixture, Request, Upstream, UpstreamKey, both_modes, decode};

use crate::asking::{Answer, ask, bodiless, get, head};

/// What Nix 2.14 to 2.33 says it accepts. A file that is compressed already is never encoded.
const NIX_ACCEPTS: &str = "zstd, br, gzip, deflate, bzip2, xz";

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Xz, Compression::Bzip2, Compression::Zstd];

both_modes! {
    async fn line_20_a_nar_has_all_that_a_resume_needs(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in of_all_compressions(&key) {
            upstream.add(&fixture);
            let url = format!("/{}", cluster.narinfo(&fixture).await.url);
            let cold = get(&cluster, &url).await;
            assert_whole(&cold, &fixture);
            cluster.quiet().await;
            assert!(cluster.stores(&url));
            let warm = get(&cluster, &url).await;
            assert_whole(&warm, &fixture);
            assert_eq!(warm.comparable(), cold.comparable());
            if fixture.narinfo.compression != Compression::None {
                let nix = Request::get(&url).header("Accept-Encoding", NIX_ACCEPTS);
                assert_eq!(ask(&cluster, nix).await.comparable(), cold.comparable());
            }
        }
        cluster.end().await;
    }

    async fn line_21_head_of_a_nar_fetches_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in of_all_compressions(&key) {
            upstream.add(&fixture);
            let url = format!("/{}", cluster.narinfo(&fixture).await.url);
            let cold = head(&cluster, &url).await;
            assert_eq!(cold.status, 200);
            assert_eq!(upstream.count("GET", "/nar/"), 0, "nothing is fetched to say so");
            assert_eq!(cluster.edge.engine.running(), 0);
            let told = get(&cluster, &url).await;
            assert_eq!(cold.comparable(), told.comparable());
            cluster.quiet().await;
            assert_eq!(head(&cluster, &url).await.comparable(), told.comparable());
            upstream.forget();
        }
        cluster.end().await;
    }

    async fn line_22_the_bytes_are_what_the_narinfo_says(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in of_all_compressions(&key) {
            upstream.add(&fixture);
            let narinfo = cluster.narinfo(&fixture).await;
            for _ in ["cold", "warm"] {
                let body = get(&cluster, &format!("/{}", narinfo.url)).await.body;
                assert_is_what_is_said(&body, &narinfo);
                cluster.quiet().await;
            }
        }
        cluster.end().await;
    }

    async fn line_28_who_has_the_etag_gets_304(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fixture, other) = (Fixture::new("tagged").build(&key), Fixture::new("other").build(&key));
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        cluster.narinfo(&fixture).await;
        let url = fixture.nar_path();
        let etag = head(&cluster, &url).await.header("ETag").expect("an ETag").to_owned();
        for stored in [false, true] {
            for tags in [etag.clone(), format!("\"x\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
                for request in [Request::get(&url), Request::head(&url), Request::get(&url).range("5-")] {
                    let told = bodiless(&cluster, request.header("If-None-Match", &tags)).await;
                    assert_eq!((told.status, told.header("ETag")), (304, Some(&*etag)), "{tags} {stored}");
                }
            }
            assert_eq!(upstream.count("GET", "/nar/"), usize::from(stored), "who has it needs no fetch");
            let told = ask(&cluster, Request::get(&url).header("If-None-Match", "\"x\"")).await;
            assert_eq!((told.status, told.body), (200, fixture.file.to_bytes()));
            cluster.quiet().await;
        }
        let absent = Request::get(&other.nar_path()).header("If-None-Match", &format!("\"{}\"",
            other.nar_path().trim_start_matches("/nar/")));
        assert_eq!(ask(&cluster, absent).await.status, 404, "an ETag makes nothing present");
        cluster.end().await;
    }

    async fn line_30_an_absent_nar_is_404(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in of_all_compressions(&key) {
            let told = get(&cluster, &fixture.nar_path()).await;
            assert_eq!((told.status, told.text()), (404, "not found\n"), "{}", fixture.nar_path());
            assert_eq!(head(&cluster, &fixture.nar_path()).await.status, 404);
            upstream.add(&fixture);
            assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 200, "there now");
        }
        cluster.end().await;
    }

    async fn line_30_names_that_are_none_are_404_without_a_question(mode) {
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        let good = Sha256Hash::of(b"x");
        let nix32 = good.nix32();
        let names = [format!("{}.nar.xz", &nix32[1..]), format!("{nix32}0.nar"), nix32.clone(),
            format!("{nix32}.narinfo"), format!("{nix32}.nar."), format!("{nix32}.nar.xz.xz"),
            format!("e{}.nar", &nix32[1..]), format!("z{}.nar", &nix32[1..]),
            format!("{}.nar", &good.hex()[1..]), format!("{}.nar", good.hex().to_uppercase()),
            format!("x-{nix32}.nar"), ".nar".to_owned(), "x".to_owned(), format!("sub/{nix32}.nar"),
            // Well-formed, but of codecs that we never have: absent, too. (A 400 would be an error to Nix.)
            format!("{nix32}.nar.br"), format!("{nix32}.nar.lz4"), format!("{nix32}.nar.foo")];
        for name in names {
            let path = format!("/nar/{name}");
            let told = get(&cluster, &path).await;
            assert_eq!((told.status, told.text()), (404, "not found\n"), "{path}");
            assert_eq!(head(&cluster, &path).await.comparable(), told.comparable(), "{path}");
        }
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        cluster.end().await;
    }

    async fn line_31_queries_change_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("asked-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let (hash, size) = (fixture.hash_part(), fixture.nar.len());
        let queries = [format!("?hash={hash}"), format!("?narsize={size}"), "?narsize=1".to_owned(),
            format!("?sha256={}", fixture.narinfo.nar_hash.0.nix32()), "?".to_owned(), "?/../x".to_owned()];
        cluster.narinfo(&fixture).await;
        for query in queries {
            let path = fixture.nar_path() + &query;
            let told = get(&cluster, &path).await;
            assert_whole(&told, &fixture);
            assert_eq!(head(&cluster, &path).await.comparable(), told.comparable());
            let part = ask(&cluster, Request::get(&path).range("3-")).await;
            assert_eq!((part.status, part.body), (206, fixture.file.to_bytes().slice(3..)));
            cluster.quiet().await;
        }
        assert_eq!(upstream.count("GET", "/nar/"), 1, "one file by whatever query");
        assert_eq!(get(&cluster, &(fixture.narinfo_path() + "?x=y")).await.status, 200);
        cluster.end().await;
    }

    async fn line_31_an_upstreams_own_query_is_kept_and_not_shown(mode) {
        let key = UpstreamKey::new("upstream-1");
        let plain = Fixture::new("harmonia-1.0").compression(Compression::None);
        let hash = plain.clone().build(&key).narinfo.nar_hash.0.nix32();
        let query = "hash=abc&x=%2F+y";
        let fixture = plain.url(&format!("nar/{hash}.nar?{query}")).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        upstream.require_queries(true);
        let cluster = Cluster::of(mode, &upstream, &key).await;
        assert_eq!(cluster.narinfo(&fixture).await.url, format!("nar/{hash}.nar"));
        assert_whole(&get(&cluster, &format!("/nar/{hash}.nar?hash=other")).await, &fixture);
        let asked: Vec<_> = upstream.requests_to("/nar/").into_iter().map(|seen| seen.query).collect();
        assert_eq!(asked, [Some(query.to_owned())], "verbatim, and not the client's");
        cluster.end().await;
    }
}

/// Files of several lengths: below, at and above what is held back until the proof.
fn of_all_compressions(key: &UpstreamKey) -> Vec<Fixture> {
    let sizes = [1000, 65_536, 200_000];
    let all = COMPRESSIONS.into_iter().flat_map(|compression| sizes.map(|size| (compression, size)));
    all.map(|(compression, size)| {
        Fixture::new("nar-1.0").seed(size + compression as u64).size(size).compression(compression).build(key)
    })
    .collect()
}

fn assert_whole(told: &Answer, fixture: &Fixture) {
    assert_eq!(told.status, 200);
    assert_eq!(told.headers.number("Content-Length"), Some(fixture.file.len()));
    assert_eq!(told.header("Accept-Ranges"), Some("bytes"));
    assert_eq!((told.header("Content-Encoding"), told.header("Transfer-Encoding")), (None, None));
    assert_eq!(told.header("Content-Type"), Some("application/x-nix-nar"));
    let etag = told.header("ETag").expect("an ETag");
    assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "strong: {etag}");
    assert!(told.body == fixture.file.to_bytes(), "the bytes of the file");
}

fn assert_is_what_is_said(body: &[u8], narinfo: &NarInfo) {
    assert_eq!(narinfo.file_hash.map(|hash| hash.0), Some(Sha256Hash::of(body)));
    assert_eq!(narinfo.file_size, Some(body.len() as u64));
    let nar = decode(narinfo.compression, body).expect("it decodes");
    assert_eq!((narinfo.nar_hash, narinfo.nar_size), (NarHash(Sha256Hash::of(&nar)), nar.len() as u64));
}
