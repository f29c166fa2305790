//! Parts of NARs: ranges of files that are here and of files that are not, and resumes at another edge.
//! (Lines 23 to 27 and 29 of the protocol's conformance checklist.)

use ncps_nix::{Compression, Sha256Hash};
use ncps_tests::{Cluster, Fixture, Request, Upstream, UpstreamKey, both_modes};

use crate::asking::{Answer, ask, get};

/// More than what is held back until the proof, so that a part can lie before it, in it, or across.
const SIZE: u64 = 300_000;

both_modes! {
    async fn line_23_ranges_are_exact(mode) {
        let cached = Cached::new(mode).await;
        let len = cached.fixture(0).file.len();
        let ranges: Vec<(String, u64, u64)> = vec![
            ("0-0".to_owned(), 0, 1),
            ("0-".to_owned(), 0, len),
            ("100000-".to_owned(), 100_000, len),
            (format!("{}-", len - 1), len - 1, len),
            ("-10".to_owned(), len - 10, len),
            (format!("-{}", len + 5), 0, len),
            ("5-9".to_owned(), 5, 10),
            ("70000-250000".to_owned(), 70_000, 250_001),
            (format!("{}-{}", len - 3, len + 100), len - 3, len),
            (format!("0-{}", u64::MAX), 0, len),
        ];
        for (seed, (range, from, to)) in ranges.into_iter().enumerate() {
            let fixture = cached.fixture(seed as u64);
            for stored in [false, true] {
                let told = cached.ask(&fixture, &format!("bytes={range}")).await;
                assert_eq!(told.status, 206, "{range}, stored: {stored}");
                let part = format!("bytes {from}-{}/{}", to - 1, fixture.file.len());
                assert_eq!(told.header("Content-Range"), Some(&*part), "{range}");
                assert_eq!(told.headers.number("Content-Length"), Some(to - from));
                assert_eq!(told.header("Accept-Ranges"), Some("bytes"));
                let whole = get(&cached.cluster, &fixture.nar_path()).await;
                assert_eq!(told.header("ETag"), whole.header("ETag"));
                let expected = fixture.file.to_bytes().slice(from as usize..to as usize);
                assert!(told.body == expected, "{range}, stored: {stored}");
                cached.cluster.quiet().await;
            }
            assert_eq!(cached.upstream.count("GET", &fixture.nar_path()), 1);
        }
        cached.cluster.end().await;
    }

    async fn line_24_beyond_the_end_is_416(mode) {
        let cached = Cached::new(mode).await;
        let len = cached.fixture(0).file.len();
        let ranges = [format!("{len}-"), format!("{len}-{}", len + 9), format!("{}-", u64::MAX), "-0".into()];
        for (seed, range) in ranges.into_iter().enumerate() {
            let fixture = cached.fixture(seed as u64);
            for stored in [false, true] {
                let told = cached.ask(&fixture, &format!("bytes={range}")).await;
                assert_eq!(told.status, 416, "{range}, stored: {stored}");
                assert_eq!(told.header("Content-Range"), Some(&*format!("bytes */{len}")));
                assert!(told.body.is_empty());
                cached.cluster.quiet().await;
            }
        }
        cached.cluster.end().await;
    }

    async fn line_25_ranges_that_are_none_are_ignored(mode) {
        let none = ["bytes=5-2", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes", "=0-1",
            "bytes=+1-2", "bytes=1-99999999999999999999999", "bytes 0-1"];
        assert_ignored(Cached::new(mode).await, &none).await;
    }

    async fn line_26_several_ranges_are_ignored(mode) {
        let several = ["bytes=0-1,5-6", "bytes=0-,-1", "bytes=0-1, 3-4", "bytes=0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0"];
        assert_ignored(Cached::new(mode).await, &several).await;
    }

    async fn line_27_a_resume_at_another_edge_fits(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let first = Cluster::of(mode, &upstream, &key).await;
        let second = Cluster::of(mode, &upstream, &key).await;
        for compression in [Compression::None, Compression::Xz, Compression::Zstd] {
            let fixture = Fixture::new("halves-1.0").seed(compression as u64).size(SIZE);
            let fixture = fixture.compression(compression).build(&key);
            upstream.add(&fixture);
            let url = format!("/{}", first.narinfo(&fixture).await.url);
            assert_eq!(url, format!("/{}", second.narinfo(&fixture).await.url));
            let half = fixture.file.len() / 2;
            let mut begun = first.get(&url).await;
            let etag = begun.header("ETag").expect("an ETag").to_owned();
            let mut all = begun.bytes(half as usize).await.expect("half of it").to_vec();
            drop(begun);
            let rest = ask(&second, Request::get(&url).range(&format!("{half}-"))).await;
            assert_eq!((rest.status, rest.header("ETag")), (206, Some(&*etag)));
            all.extend_from_slice(&rest.body);
            assert_eq!(Some(Sha256Hash::of(&all)), fixture.narinfo.file_hash.map(|hash| hash.0));
            let stored = ask(&first, Request::get(&url).range("0-").header("If-Range", &etag)).await;
            assert_eq!((stored.status, stored.body), (206, fixture.file.to_bytes()), "either's ETag is good");
        }
        first.end().await;
        second.end().await;
    }

    async fn line_29_a_stale_if_range_gets_the_whole(mode) {
        let cached = Cached::new(mode).await;
        let stale = ["\"stale\"", "W/\"stale\"", "Wed, 21 Oct 2015 07:28:00 GMT", "x"];
        for (seed, condition) in stale.into_iter().enumerate() {
            let fixture = cached.fixture(seed as u64);
            for stored in [false, true] {
                let request = Request::get(&fixture.nar_path()).range("5-").header("If-Range", condition);
                let told = ask(&cached.cluster, request).await;
                assert_eq!((told.status, told.header("Content-Range")), (200, None), "{condition} {stored}");
                assert!(told.body == fixture.file.to_bytes(), "{condition} {stored}");
                cached.cluster.quiet().await;
            }
            let whole = get(&cached.cluster, &fixture.nar_path()).await;
            let etag = whole.header("ETag").expect("an ETag");
            let ranged = |tag: &str| Request::get(&fixture.nar_path()).range("5-").header("If-Range", tag);
            let fresh = ask(&cached.cluster, ranged(etag)).await;
            assert_eq!((fresh.status, fresh.body), (206, fixture.file.to_bytes().slice(5..)));
            let weak = ask(&cached.cluster, ranged(&format!("W/{etag}"))).await;
            assert_eq!(weak.status, 200, "a weak tag never joins bytes");
        }
        cached.cluster.end().await;
    }
}

/// Each of them gets the whole file, while it is fetched and after.
async fn assert_ignored(cached: Cached, ranges: &[&str]) {
    for (seed, range) in ranges.iter().enumerate() {
        let fixture = cached.fixture(seed as u64);
        for stored in [false, true] {
            let told = cached.ask(&fixture, range).await;
            assert_eq!((told.status, told.header("Content-Range")), (200, None), "{range} {stored}");
            assert_eq!(told.headers.number("Content-Length"), Some(fixture.file.len()));
            assert!(told.body == fixture.file.to_bytes(), "{range}, stored: {stored}");
            cached.cluster.quiet().await;
        }
    }
    cached.cluster.end().await;
}

/// A cluster over an upstream, and fixtures of one length that are made as they are needed.
struct Cached {
    key: UpstreamKey,
    upstream: Upstream,
    cluster: Cluster,
}

impl Cached {
    async fn new(mode: ncps_tests::Mode) -> Cached {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        Cached { key, upstream, cluster }
    }

    fn fixture(&self, seed: u64) -> Fixture {
        let fixture = Fixture::new("part-1.0").seed(seed).size(SIZE).compression(Compression::None);
        let fixture = fixture.build(&self.key);
        self.upstream.add(&fixture);
        fixture
    }

    /// A part of the fixture's file, whose narinfo is known.
    async fn ask(&self, fixture: &Fixture, range: &str) -> Answer {
        self.cluster.narinfo(fixture).await;
        ask(&self.cluster, Request::get(&fixture.nar_path()).header("Range", range)).await
    }
}
