//! The cache as such: what it says of itself, paths that lead nowhere or astray, and that nothing can be
//! written. (Lines 1 to 3, 32, 33 and 60 of the protocol's conformance checklist.)

use std::fs;

use ncps_tests::{Cluster, Fixture, Request, Upstream, UpstreamKey, both_modes, client};

use crate::asking::{ask, get, head};

/// Of a cluster of priority 33.
const CACHE_INFO: &str = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 33\n";
/// Lies where no request may reach it.
const CANARY: &str = "a file of the machine";

async fn of_priority_33(mode: ncps_tests::Mode) -> Cluster {
    Cluster::builder(mode).settings(|settings| settings.priority = 33).start().await
}

both_modes! {
    async fn line_01_cache_info_says_all_three(mode) {
        let cluster = of_priority_33(mode).await;
        let info = get(&cluster, "/nix-cache-info").await;
        assert_eq!((info.status, info.text()), (200, CACHE_INFO));
        assert_eq!(info.header("Content-Type"), Some("text/x-nix-cache-info"));
        assert_eq!(info.headers.number("Content-Length"), Some(CACHE_INFO.len() as u64));
        cluster.end().await;
    }

    async fn line_02_head_of_cache_info_is_its_get_without_a_body(mode) {
        let cluster = of_priority_33(mode).await;
        let (asked, told) = (head(&cluster, "/nix-cache-info").await, get(&cluster, "/nix-cache-info").await);
        assert_eq!(asked.status, 200);
        assert_eq!(asked.headers.number("Content-Length"), Some(CACHE_INFO.len() as u64));
        assert_eq!(asked.comparable(), told.comparable());
        cluster.end().await;
    }

    async fn line_03_who_accepts_only_xz_gets_identity(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("plain-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for path in ["/nix-cache-info".to_owned(), fixture.narinfo_path(), fixture.nar_path()] {
            let plain = get(&cluster, &path).await;
            for accepted in ["xz", "xz, bzip2", "compress"] {
                let told = ask(&cluster, Request::get(&path).header("Accept-Encoding", accepted)).await;
                assert_eq!((told.status, told.header("Content-Encoding")), (200, None), "{path} {accepted}");
                assert_eq!(told.body, plain.body, "{path} {accepted}");
            }
        }
        cluster.end().await;
    }

    async fn line_32_no_path_leads_out_of_the_cache(mode) {
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        let data = cluster.store_dir().parent().expect("the data path").to_owned();
        fs::write(data.join("canary"), CANARY).expect("written");
        fs::write(data.join("store/canary"), CANARY).expect("written");
        for target in astray() {
            let request = [b"GET ", &target[..], b" HTTP/1.1\r\nHost: cache.test\r\n\r\n"].concat();
            let mut told = client::raw(cluster.addr, request).await.expect("answered");
            let shown = String::from_utf8_lossy(&target[..target.len().min(60)]).into_owned();
            assert!(matches!(told.status, 400 | 404 | 414), "{} for {shown}", told.status);
            let body = told.whole().await;
            let body = String::from_utf8_lossy(&body);
            assert!(body.len() < 200 && !body.contains(CANARY), "{shown}: {body}");
        }
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        assert_eq!(get(&cluster, "/nix-cache-info").await.status, 200, "it serves on");
        cluster.end().await;
    }

    async fn line_33_unknown_paths_are_404(mode) {
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        let unknown = ["/foo", "/foo/bar", "/nar", "/nar/", "/nar/foo", "/foo.nar", "/narinfo", "/.narinfo",
            "/favicon.ico", "/nix-cache-info/", "/NIX-CACHE-INFO", "/pubkey/x", "/foo?bar=baz"];
        for path in unknown {
            let told = get(&cluster, path).await;
            assert_eq!((told.status, told.text()), (404, "not found\n"), "{path}");
            assert_eq!(head(&cluster, path).await.comparable(), told.comparable(), "{path}");
        }
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        cluster.end().await;
    }

    async fn it_says_who_it_is_and_how_it_is(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let key = get(&cluster, "/pubkey").await;
        let line = key.text().strip_suffix('\n').expect("a line").to_owned();
        assert!(line.starts_with("cache.test:") && !line.contains('\n'), "{line}");
        assert_eq!(key.header("Content-Type"), Some("text/plain; charset=utf-8"));
        let about = get(&cluster, "/").await;
        assert_eq!((about.status, about.header("Content-Type")), (200, Some("application/json")));
        let about: serde_json::Value = serde_json::from_slice(&about.body).expect("it is JSON");
        assert_eq!(about, serde_json::json!({ "hostname": "cache.test", "publicKey": line }));
        let (alive, ready) = (get(&cluster, "/healthz").await, get(&cluster, "/readyz").await);
        assert_eq!((alive.status, alive.text(), ready.status, ready.text()), (200, ".", 200, "ready\n"));
        for path in ["/", "/pubkey", "/healthz", "/readyz"] {
            assert_eq!(head(&cluster, path).await.comparable(), get(&cluster, path).await.comparable());
        }
        cluster.end().await;
    }

    async fn it_keeps_its_key_over_a_restart(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("signed-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let before = cluster.public_key().await;
        let cluster = cluster.restart(Cluster::builder(mode).upstream(&upstream).trust(&key)).await;
        assert_eq!(cluster.public_key().await, before);
        // An edge starts with the key that it remembers; what control signs now tells control's.
        let narinfo = cluster.narinfo(&fixture).await;
        assert!(narinfo.signatures.iter().any(|signature| before.verify(&narinfo.fingerprint(), signature)));
        cluster.end().await;
    }

    /// Nix tries it where it got 404, and an upload begins with it: a refusal must not look like an outage.
    async fn line_60_cache_info_can_not_be_written(mode) {
        let cluster = of_priority_33(mode).await;
        let theirs = || Request::put("/nix-cache-info", "StoreDir: /elsewhere\n");
        for request in [theirs(), theirs().chunked(), theirs().expect_continue()] {
            let mut told = cluster.send(request).await;
            assert_eq!((told.status, told.header("Allow")), (405, Some("GET, HEAD")));
            assert!(!told.continued, "its body is not asked for");
            assert_eq!(told.text().await, "method not allowed\n");
        }
        assert_eq!(get(&cluster, "/nix-cache-info").await.text(), CACHE_INFO);
        let stored = fs::read_to_string(cluster.store_dir().join("nix-cache-info")).expect("it is there");
        assert!(!stored.contains("elsewhere"), "{stored}");
        cluster.end().await;
    }

    async fn nothing_can_be_written(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("written-1.0").build(&key);
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let paths = [fixture.narinfo_path(), fixture.nar_path(), "/".to_owned(), "/nix-cache-info".to_owned(),
            "/pubkey".to_owned(), "/healthz".to_owned(), "/readyz".to_owned(), "/foo".to_owned()];
        for path in &paths {
            for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
                let told = ask(&cluster, Request::new(method, path)).await;
                assert_eq!((told.status, told.header("Allow")), (405, Some("GET, HEAD")), "{method} {path}");
                assert_eq!(told.text(), "method not allowed\n");
            }
        }
        assert_eq!((upstream.total(), cluster.stored_files()), (0, vec![]));
        cluster.end().await;
    }

    async fn an_upload_is_refused_before_its_body_is_sent(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let upload = Request::put("/nar/x.nar", vec![7; 2 << 20]).expect_continue();
        let mut told = cluster.send(upload).await;
        assert_eq!((told.status, told.continued), (405, false));
        assert_eq!(told.text().await, "method not allowed\n");
        cluster.end().await;
    }
}

/// Request targets that try to get somewhere else, or are no paths at all.
fn astray() -> Vec<Vec<u8>> {
    let mut targets: Vec<Vec<u8>> = [
        "/nar/../nix-cache-info",
        "/nar/../canary",
        "/nar/../../canary",
        "/../canary",
        "/canary",
        "/%2e%2e/canary",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/nar/%2e%2e/canary",
        "/nar/..%2fcanary",
        "/nar/..%2f..%2fcanary",
        "/nar/%2e%2e%5ccanary",
        "/nar/%252e%252e/canary",
        "/..%2fcanary.narinfo",
        "/./nar/./x",
        "//nar/x",
        "//canary",
        "/nar//x",
        "/nar//etc/passwd",
        "/nar/x%00.nar",
        "/%00",
        "/%ff%fe.narinfo",
        "/nar/%ff%fe.nar",
        "/nar/%zz",
        "canary",
        "*",
    ]
    .map(|target| target.as_bytes().to_vec())
    .to_vec();
    targets.push(b"/nar/x\0.nar".to_vec());
    targets.push(b"/x\0.narinfo".to_vec());
    targets.push(b"/nar/\xff\xfe.nar".to_vec());
    let long = "a".repeat(8 << 10);
    targets
        .extend([format!("/{long}"), format!("/{long}.narinfo"), format!("/nar/{long}.nar")].map(Into::into));
    targets.push(format!("/nar/{}", "../".repeat(2730) + "canary").into());
    targets
}
