//! Logs, listings, debug info, realisations and build traces: passed through, kept, and refused where they are
//! none. PROTOCOL §2, §7.1, §7.2.

use std::time::Duration;

use async_compression::tokio::bufread as encoders;
use ncps_tests::{
    Cluster, Cut, Fixture, Gate, Nix, Request, Rule, Upstream, UpstreamKey, both_modes, eventually,
};
use tokio::io::AsyncReadExt;

const HASH: &str = "00000000000000000000000000000000";
const LISTING: &str = "{\"version\":1,\"root\":{\"type\":\"regular\",\"size\":6}}";

fn listing() -> String {
    format!("/{HASH}.ls")
}

fn log() -> String {
    format!("/log/{HASH}-hello-2.12.drv")
}

fn debug_info() -> String {
    format!("/debuginfo/{}", "0123456789".repeat(4))
}

fn realisation() -> String {
    format!("/realisations/sha256:{}!out.doi", "ab".repeat(32))
}

fn build_trace() -> String {
    format!("/build-trace-v2/{HASH}-hello-2.12.drv/out.doi")
}

/// One of each kind, with its body and its Content-Type.
fn all() -> Vec<(String, &'static str, &'static str)> {
    let json = "application/json";
    vec![
        (listing(), LISTING, json),
        (log(), "building\n", "text/plain; charset=utf-8"),
        (debug_info(), "{\"archive\":\"../nar/x\",\"member\":\"y\"}", json),
        (debug_info() + ".debug", "{\"archive\":\"../nar/x\",\"member\":\"z\"}", json),
        (realisation(), "{\"outPath\":\"a\"}", json),
        (build_trace(), "{\"outPath\":\"b\"}", json),
    ]
}

async fn upstream_with_all() -> Upstream {
    let upstream = Upstream::start().await;
    for (path, body, _) in all() {
        upstream.put(&path, body);
    }
    upstream
}

async fn cluster(mode: ncps_tests::Mode, upstreams: &[&Upstream]) -> Cluster {
    let builder = upstreams.iter().fold(Cluster::builder(mode), |builder, u| builder.upstream(u));
    builder.start().await
}

both_modes! {
    async fn each_kind_is_fetched_once_kept_and_served(mode) {
        let upstream = upstream_with_all().await;
        let cluster = cluster(mode, &[&upstream]).await;
        for (path, body, content_type) in all() {
            for _ in 0..2 {
                let head = cluster.head(&path).await;
                assert_eq!((head.status, head.header("Content-Type")), (200, Some(content_type)), "{path}");
                assert_eq!(head.header("Content-Length"), Some(&*body.len().to_string()), "{path}");
                let mut got = cluster.get(&path).await;
                assert_eq!((got.status, got.header("Content-Type")), (200, Some(content_type)), "{path}");
                assert_eq!(got.header("Content-Encoding"), None);
                assert_eq!(got.text().await, body, "{path}");
            }
            assert_eq!(upstream.requests_to(&path).iter().filter(|seen| seen.path == path).count(), 1, "{path}");
            let stored = cluster.store_dir().join(path.trim_start_matches('/'));
            assert_eq!(std::fs::read_to_string(stored).expect("kept in the layout of Nix"), body);
        }
        upstream.down().await;
        for (path, body, _) in all() {
            assert_eq!(cluster.get(&path).await.text().await, body, "{path} with the upstream gone");
        }
        cluster.end().await;
    }

    async fn what_is_no_name_is_404_without_a_request(mode) {
        let upstream = upstream_with_all().await;
        let cluster = cluster(mode, &[&upstream]).await;
        let hex = "ab".repeat(32);
        for path in [
            format!("/{HASH}x.ls"),
            format!("/log/{HASH}-hello"),
            format!("/log/{HASH}-a%2Fb.drv"),
            format!("/log/../{HASH}.ls"),
            format!("/log/%2e%2e/{HASH}-a.drv"),
            "/log/".to_owned(),
            "/debuginfo/0123".to_owned(),
            format!("/realisations/sha256:{hex}"),
            format!("/realisations/sha256:{hex}!%2e%2e.doi"),
            format!("/build-trace-v2/{HASH}-a.drv"),
            format!("/build-trace-v9/{HASH}-a.drv/out.doi"),
            "/%00".to_owned(),
            "//".to_owned(),
        ] {
            assert_eq!(cluster.fetch(&path).await.0, 404, "{path}");
        }
        let put = cluster.send(Request::put(&log(), "x")).await;
        assert_eq!(put.status, 405);
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        cluster.end().await;
    }

    async fn an_absence_is_remembered_for_the_negative_ttl(mode) {
        let upstream = Upstream::start().await;
        let builder = Cluster::builder(mode).upstream(&upstream).negative_ttl(Duration::from_secs(3600));
        let cluster = builder.start().await;
        for _ in 0..3 {
            assert_eq!(cluster.fetch(&log()).await.0, 404);
            assert_eq!(cluster.head(&log()).await.status, 404);
        }
        assert_eq!(upstream.total(), 1);
        cluster.end().await;

        let builder = Cluster::builder(mode).upstream(&upstream).negative_ttl(Duration::ZERO);
        let cluster = builder.start().await;
        assert_eq!(cluster.fetch(&log()).await.0, 404);
        upstream.put(&log(), "now\n");
        assert_eq!(cluster.get(&log()).await.text().await, "now\n");
        cluster.end().await;
    }

    async fn the_first_upstream_that_has_it_gives_it(mode) {
        let (a, b) = (Upstream::start().await, Upstream::start().await);
        b.put(&log(), "from b\n");
        let cluster = cluster(mode, &[&a, &b]).await;
        assert_eq!(cluster.get(&log()).await.text().await, "from b\n");
        a.put(&listing(), LISTING);
        b.put(&listing(), "{}");
        assert_eq!(cluster.get(&listing()).await.text().await, LISTING);
        assert_eq!(b.count("GET", &listing()), 0);
        cluster.end().await;
    }

    async fn an_outage_is_no_absence(mode) {
        let (a, b) = (Upstream::start().await, Upstream::start().await);
        let cluster = cluster(mode, &[&a, &b]).await;
        let broken = a.script(Rule::on("*").status(500));
        assert_eq!(cluster.fetch(&log()).await.0, 502, "a failed and b has it not");
        b.put(&listing(), LISTING);
        assert_eq!(cluster.fetch(&listing()).await.0, 200, "b has it");
        broken.remove();
        a.put(&log(), "back\n");
        let back = async || cluster.fetch(&log()).await.0 == 200;
        eventually("the upstream is asked again", back).await;
        cluster.end().await;
    }

    async fn a_slow_upstream_is_504(mode) {
        let upstream = Upstream::start().await;
        upstream.script(Rule::on("*").hang());
        let short = |s: &mut ncps_proto::EdgeSettings| {
            s.connect_timeout = Duration::from_millis(100);
            s.header_timeout = Duration::from_millis(100);
        };
        let cluster = Cluster::builder(mode).upstream(&upstream).settings(short).start().await;
        assert_eq!(cluster.fetch(&log()).await.0, 504);
        cluster.end().await;
    }

    async fn many_requests_are_one_fetch(mode) {
        let upstream = Upstream::start().await;
        upstream.put(&log(), "building\n");
        let gate = Gate::new();
        upstream.script(Rule::on("/log/*").gate(&gate));
        let cluster = cluster(mode, &[&upstream]).await;
        let path = log();
        let requests = (0..50).map(|_| cluster.fetch(&path));
        let all = futures::future::join_all(requests);
        let open = async {
            upstream.wait_for(1, "GET", "/log/").await;
            gate.open();
        };
        let (answers, ()) = tokio::join!(all, open);
        assert!(answers.into_iter().all(|(status, body)| status == 200 && body.whole() == "building\n"));
        assert_eq!(upstream.total(), 1);
        cluster.end().await;
    }

    async fn encoded_bodies_are_decoded(mode) {
        let upstream = Upstream::start().await;
        let cluster = cluster(mode, &[&upstream]).await;
        let text: String = (0..3000).map(|n| format!("building line {n}\n")).collect();
        for (n, coding) in ["zstd", "gzip", "xz", "bzip2", "br"].into_iter().enumerate() {
            let path = format!("/log/{HASH}-{n}.drv");
            upstream.put(&path, encoded(coding, &text).await);
            upstream.script(Rule::on(&path).header("Content-Encoding", coding));
            let mut got = cluster.send(Request::get(&path).header("Accept-Encoding", coding)).await;
            assert_eq!((got.status, got.header("Content-Encoding")), (200, None), "{coding}");
            assert!(got.text().await == text, "{coding}");
            let stored = cluster.store_dir().join(path.trim_start_matches('/'));
            assert!(std::fs::read_to_string(stored).expect("kept") == text, "{coding}");
        }
        cluster.end().await;
    }

    async fn what_we_cant_decode_is_for_clients_that_can(mode) {
        let upstream = Upstream::start().await;
        upstream.put(&log(), "????");
        upstream.script(Rule::on("/log/*").header("Content-Encoding", "compress"));
        let cluster = cluster(mode, &[&upstream]).await;
        assert_eq!(cluster.fetch(&log()).await.0, 502);
        let mut got = cluster.send(Request::get(&log()).header("Accept-Encoding", "gzip, compress")).await;
        assert_eq!((got.status, got.header("Content-Encoding")), (200, Some("compress")));
        assert_eq!(got.header("Vary"), Some("Accept-Encoding"));
        assert_eq!(got.text().await, "????");
        assert!(!cluster.store_dir().join(&log()[1..]).exists(), "nobody knows what it is");
        cluster.end().await;
    }

    async fn wrong_answers_are_not_kept(mode) {
        let upstream = Upstream::start().await;
        for (path, ..) in all() {
            upstream.put(&path, "<html>please log in</html>");
        }
        let cluster = cluster(mode, &[&upstream]).await;
        for path in [listing(), debug_info(), realisation(), build_trace()] {
            assert_eq!(cluster.fetch(&path).await.0, 502, "{path}");
        }
        upstream.put(&log(), "0123456789");
        let cut = upstream.script(Rule::on("/log/*").cut_after(5, Cut::Fin));
        assert_eq!(cluster.fetch(&log()).await.0, 502, "cut short");
        cut.remove();
        upstream.put(&debug_info(), format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)));
        assert_eq!(cluster.fetch(&debug_info()).await.0, 502, "longer than 1 MiB");
        for (path, ..) in all() {
            assert!(!cluster.store_dir().join(&path[1..]).exists(), "{path}");
        }
        assert_eq!(cluster.fetch(&log()).await.0, 200);
        cluster.end().await;
    }

    async fn what_may_change_is_asked_for_again(mode) {
        let upstream = upstream_with_all().await;
        let again = |s: &mut ncps_proto::EdgeSettings| s.object_ttl = Duration::ZERO;
        let cluster = Cluster::builder(mode).upstream(&upstream).settings(again).start().await;
        for (path, ..) in all() {
            cluster.fetch(&path).await.1.whole();
            upstream.put(&path, "{\"new\":1}");
        }
        for (path, body, _) in all() {
            let lasts = path == listing() || path == log();
            let expected = if lasts { body } else { "{\"new\":1}" };
            assert_eq!(cluster.get(&path).await.text().await, expected, "{path}");
        }
        upstream.down().await;
        for path in [debug_info(), realisation(), build_trace()] {
            assert_eq!(cluster.get(&path).await.text().await, "{\"new\":1}", "{path} as it was");
        }
        upstream.up().await;
        upstream.remove(&realisation());
        eventually("gone upstream, gone here", async || cluster.fetch(&realisation()).await.0 == 404).await;
        assert!(!cluster.store_dir().join(&realisation()[1..]).exists());
        cluster.end().await;
    }

    async fn the_disk_for_objects_is_bounded(mode) {
        let upstream = Upstream::start().await;
        let small = |s: &mut ncps_proto::EdgeSettings| s.max_objects_bytes = 16 << 10;
        let cluster = Cluster::builder(mode).upstream(&upstream).settings(small).start().await;
        let path = |n: usize| format!("/log/{HASH}-{n}.drv");
        for n in 0..10 {
            upstream.put(&path(n), "x".repeat(4096));
            assert_eq!(cluster.fetch(&path(n)).await.1.whole().len(), 4096);
        }
        let kept: Vec<_> = (0..10).filter(|n| cluster.store_dir().join(&path(*n)[1..]).exists()).collect();
        assert_eq!(kept, [6, 7, 8, 9], "the newest");
        assert_eq!(cluster.fetch(&path(0)).await.1.whole().len(), 4096, "fetched anew");
        upstream.put(&path(99), "x".repeat(3 << 20));
        assert_eq!(cluster.fetch(&path(99)).await.1.whole().len(), 3 << 20, "served though it can't be kept");
        cluster.end().await;
    }

    async fn objects_survive_a_restart(mode) {
        let upstream = upstream_with_all().await;
        let cluster = cluster(mode, &[&upstream]).await;
        for (path, ..) in all() {
            cluster.fetch(&path).await.1.whole();
        }
        let cluster = cluster.restart(Cluster::builder(mode).upstream(&upstream)).await;
        upstream.down().await;
        for (path, body, _) in all() {
            assert_eq!(cluster.get(&path).await.text().await, body, "{path}");
        }
        cluster.end().await;
    }

    async fn real_nix_reads_a_log(mode) {
        let Some(nix) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let deriver = Fixture::new("hello-1.0+a?b=c.drv").build_unsigned().store_path().clone();
        let fixture = Fixture::new("hello-1.0").deriver(deriver.clone()).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        upstream.put(&format!("/log/{deriver}").replace('+', "%2B").replace('?', "%3F"), "the builder said\n");
        let cluster = Cluster::of(mode, &upstream, &key).await;
        nix.substituters(&[cluster.url()]);
        nix.trust(&[cluster.public_key().await]);
        let said = nix.run("nix", &["log", &fixture.store_path().absolute()]).await.ok();
        assert_eq!(said.trim_end(), "the builder said");
        cluster.end().await;
    }
}

pub(crate) async fn encoded(coding: &str, text: &str) -> Vec<u8> {
    let source = std::io::Cursor::new(text.to_owned().into_bytes());
    let mut reader: Box<dyn tokio::io::AsyncRead + Unpin> = match coding {
        "zstd" => Box::new(encoders::ZstdEncoder::new(source)),
        "gzip" => Box::new(encoders::GzipEncoder::new(source)),
        "xz" => Box::new(encoders::XzEncoder::new(source)),
        "bzip2" => Box::new(encoders::BzEncoder::new(source)),
        "br" => Box::new(encoders::BrotliEncoder::new(source)),
        other => unreachable!("{other} is none of the test's"),
    };
    let mut out = Vec::new();
    reader.read_to_end(&mut out).await.expect("memory takes it");
    out
}
