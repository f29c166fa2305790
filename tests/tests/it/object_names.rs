//! What clients call objects by: every spelling of a name is one object, and what no upstream has is 404. (Lines 61 to
//! 64 of the protocol's conformance checklist; uploads are not there yet.)

use async_compression::tokio::bufread::ZstdEncoder;
use ncps_tests::{Cluster, Mode, Request, Rule, Upstream, both_modes};
use tokio::io::AsyncReadExt;

use crate::asking::{Answer, ask, bodiless, get};

const HASH: &str = "00000000000000000000000000000000";
const OTHER: &str = "11111111111111111111111111111111";
const JSON: Option<&str> = Some("application/json");

/// The upstream has `body` under the first spelling; all of them get it, for one question in all.
async fn are_one(mode: Mode, spellings: &[String], body: &str) {
    let upstream = Upstream::start().await;
    upstream.put(&spellings[0], body.to_owned());
    let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
    for spelling in spellings {
        let told = get(&cluster, spelling).await;
        assert_eq!((told.status, told.text()), (200, body), "{spelling}");
        assert_eq!(
            bodiless(&cluster, Request::head(spelling)).await.comparable(),
            told.comparable(),
            "{spelling}"
        );
    }
    assert_eq!(upstream.total(), 1, "{:?}", upstream.requests());
    cluster.end().await;
}

/// No upstream has any of them.
async fn are_absent(mode: Mode, paths: &[String]) {
    let upstream = Upstream::start().await;
    let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
    for path in paths {
        assert_eq!(get(&cluster, path).await.status, 404, "{path}");
        assert_eq!(bodiless(&cluster, Request::head(path)).await.status, 404, "{path}");
    }
    assert_eq!(upstream.total(), paths.len(), "each was asked for: {:?}", upstream.requests());
    cluster.end().await;
}

fn type_of(told: &Answer) -> Option<&str> {
    told.header("Content-Type")
}

both_modes! {
    async fn line_61_a_log_is_had_under_every_spelling_of_its_name(mode) {
        let spellings = ["-gtk%2B3%3Fx=1.drv", "-gtk+3?x=1.drv", "-gtk%2b3%3Fx%3D1.drv", "-gtk+3%3fx%3d1.drv"];
        are_one(mode, &spellings.map(|name| format!("/log/{HASH}{name}")), "building\n").await;
    }

    async fn line_61_a_log_that_nobody_has_is_404(mode) {
        are_absent(mode, &["a.drv", "a+b.drv", "a?b=c.drv", "a%3Fb%3Dd.drv"].map(|n| format!("/log/{HASH}-{n}"))).await;
    }

    async fn line_62_a_listing_is_json_of_version_1(mode) {
        let listing = format!("/{HASH}.ls");
        let text = "{\"version\":1,\"root\":{\"type\":\"regular\",\"size\":6}}";
        let mut zstd = Vec::new();
        ZstdEncoder::new(text.as_bytes()).read_to_end(&mut zstd).await.expect("encodes");
        let upstream = Upstream::start().await;
        upstream.put(&listing, zstd);
        // As cache.nixos.org has them since 2025-12, whatever a client accepts.
        upstream.script(Rule::on("*.ls").header("Content-Encoding", "zstd"));
        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        for accepted in ["", "identity", "zstd, br, gzip"] {
            let told = ask(&cluster, Request::get(&listing).header("Accept-Encoding", accepted)).await;
            assert_eq!((told.status, type_of(&told), told.header("Content-Encoding")), (200, JSON, None));
            let value: serde_json::Value = serde_json::from_slice(&told.body).expect("JSON");
            assert_eq!(value["version"], 1);
        }
        cluster.end().await;
    }

    async fn line_62_a_listing_that_nobody_has_is_404(mode) {
        are_absent(mode, &[format!("/{HASH}.ls"), format!("/{OTHER}.ls")]).await;
    }

    async fn line_63_debug_info_with_and_without_its_suffix_are_two(mode) {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let (plain, suffixed) = (format!("/debuginfo/{id}"), format!("/debuginfo/{id}.debug"));
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        upstream.put(&plain, "{\"archive\":\"../nar/a\",\"member\":\"x\"}");
        // Hydra has the one, `nix copy` made the other: each client asks for both.
        assert_eq!(get(&cluster, &suffixed).await.status, 404);
        let told = get(&cluster, &plain).await;
        assert_eq!((told.status, type_of(&told)), (200, JSON));
        assert_eq!(told.text(), "{\"archive\":\"../nar/a\",\"member\":\"x\"}");
        cluster.end().await;

        let cluster = Cluster::builder(mode).upstream(&upstream).start().await;
        upstream.put(&suffixed, "{\"archive\":\"../nar/b\",\"member\":\"y\"}");
        let told = get(&cluster, &suffixed).await;
        assert_eq!((told.status, type_of(&told)), (200, JSON));
        assert_eq!(told.text(), "{\"archive\":\"../nar/b\",\"member\":\"y\"}");
        assert!(get(&cluster, &plain).await.text().contains("nar/a"));
        cluster.end().await;
    }

    async fn line_63_debug_info_that_nobody_has_is_404(mode) {
        let id = "ab".repeat(20);
        are_absent(mode, &[format!("/debuginfo/{id}"), format!("/debuginfo/{id}.debug")]).await;
    }

    async fn line_64_a_realisation_is_had_under_every_spelling_of_its_name(mode) {
        let hex = "ab".repeat(32);
        let spellings = [(":", "!"), ("%3A", "%21"), ("%3a", "!"), (":", "%21")];
        let spellings = spellings.map(|(colon, mark)| format!("/realisations/sha256{colon}{hex}{mark}out.doi"));
        are_one(mode, &spellings, "{\"id\":\"a\",\"outPath\":\"b\"}").await;
    }

    async fn line_64_a_build_trace_is_had_under_every_spelling_of_its_name(mode) {
        let spellings = ["-gtk%2B3%3Fx=1.drv/out.doi", "-gtk+3?x=1.drv/out.doi", "-gtk%2b3%3Fx%3D1.drv/%6fut.doi"];
        let spellings = spellings.map(|name| format!("/build-trace-v2/{HASH}{name}"));
        are_one(mode, &spellings, "{\"outPath\":\"b\",\"signatures\":[]}").await;
    }

    async fn line_64_what_nobody_has_is_404(mode) {
        let hex = "cd".repeat(32);
        are_absent(mode, &[
            format!("/realisations/sha256:{hex}!out.doi"),
            format!("/realisations/sha256%3A{hex}%21dev.doi"),
            format!("/build-trace-v2/{HASH}-hello-2.12.drv/out.doi"),
            format!("/build-trace-v2/{HASH}-hello%2B-2.12.drv/dev.doi"),
        ]).await;
    }
}
