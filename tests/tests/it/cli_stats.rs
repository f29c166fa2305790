//! `ncps-cli stats`, `edges`, `upstreams` and `config` beside a cache that is in use.

use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, Mode, Upstream, UpstreamKey, both_modes, eventually, eventually_some};
use serde_json::Value;

use crate::cli::cli;

struct Scene {
    upstream: Upstream,
    key: UpstreamKey,
    fixture: Fixture,
}

impl Scene {
    async fn new() -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").size(50_000).compression(Compression::Zstd).build(&key);
        Scene { upstream: Upstream::with(&[&fixture]).await, key, fixture }
    }

    async fn start(&self, mode: Mode) -> Cluster {
        Cluster::of(mode, &self.upstream, &self.key).await
    }
}

/// The numbers once the edge has told what it counted so far.
async fn stats(cluster: &Cluster, fits: impl Fn(&Value) -> bool) -> Value {
    let cli = cli(cluster);
    eventually_some("the numbers", async || {
        cluster.edge.accesses.report_now();
        Some(cli.json(&["stats"]).await).filter(&fits)
    })
    .await
}

both_modes! {
    async fn hits_and_bytes_are_counted_and_survive_restarts(mode) {
        let scene = Scene::new().await;
        let cluster = scene.start(mode).await;
        cluster.narinfo(&scene.fixture).await;
        cluster.fetch(&scene.fixture.nar_path()).await;
        cluster.quiet().await;
        for _ in 0..3 {
            cluster.narinfo(&scene.fixture).await;
            cluster.fetch(&scene.fixture.nar_path()).await;
        }
        let size = scene.fixture.file.len();
        let seen = stats(&cluster, |stats| stats["nars"]["hits"] == 3).await;
        assert_eq!((&seen["nars"]["misses"], &seen["nars"]["hit_ratio"]), (&1.into(), &0.75.into()));
        assert_eq!((&seen["narinfos"]["hits"], &seen["narinfos"]["misses"]), (&3.into(), &1.into()));
        assert_eq!((&seen["bytes_saved"], &seen["nar_bytes_missed"]), (&(3 * size).into(), &size.into()));
        assert!(seen["bytes_fetched"].as_u64() >= Some(size) && seen["byte_hit_ratio"] == 0.75, "{seen}");
        assert!(seen["since"].as_str().is_some_and(|since| since.starts_with("20")), "{seen}");
        assert_eq!((&seen["paths"], &seen["nar_files"]), (&1.into(), &1.into()));
        assert_eq!(seen["paths_nar_size"], scene.fixture.narinfo.nar_size);

        let builder = Cluster::builder(mode).upstream(&scene.upstream).trust(&scene.key);
        let cluster = cluster.restart(builder).await;
        cluster.fetch(&scene.fixture.nar_path()).await;
        let seen = stats(&cluster, |stats| stats["nars"]["hits"] == 4).await;
        assert_eq!((&seen["nars"]["misses"], &seen["paths"]), (&1.into(), &1.into()), "{seen}");
        let text = cli(&cluster).ok(&["stats"]).await;
        assert!(text.contains("counting since") && text.contains("HIT RATIO"), "{text}");
        cluster.end().await;
    }

    async fn edges_and_upstreams_are_shown(mode) {
        let scene = Scene::new().await;
        let builder = Cluster::builder(mode).upstream(&scene.upstream).trust(&scene.key);
        let cluster = builder.settings(|settings| settings.max_size = Some(50 << 30)).start().await;
        cluster.narinfo(&scene.fixture).await;
        cluster.fetch(&scene.fixture.nar_path()).await;
        cluster.quiet().await;
        let seen = stats(&cluster, |stats| stats["upstreams"][0]["requests"].as_u64() >= Some(2)).await;
        let cli = cli(&cluster);
        let edges = cli.json(&["edges"]).await["attached"].clone();
        assert_eq!((&edges[0]["name"], &edges[0]["files"]), (&"edge".into(), &1.into()));
        assert_eq!((&edges[0]["version"], &edges[0]["max_size"]), (&env!("CARGO_PKG_VERSION").into(), &(50_u64 << 30).into()));
        assert!(edges[0]["used"].is_u64() && edges[0]["disk_free"].is_u64(), "{edges}");
        assert!(cli.ok(&["edges"]).await.contains("50.0 GiB"));
        assert_eq!(seen["upstreams"][0]["url"], scene.upstream.url());
        let upstreams = cli.json(&["upstreams"]).await;
        assert_eq!((&upstreams[0]["state"], &upstreams[0]["errors"]), (&"asked".into(), &0.into()));
        assert!(upstreams[0]["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{upstreams}");
        cluster.end().await;
    }

    async fn an_upstream_that_is_down_is_shown_so(mode) {
        let scene = Scene::new().await;
        let cluster = scene.start(mode).await;
        scene.upstream.down().await;
        for seed in 0..3 {
            let unknown = Fixture::new("unknown-1.0").seed(seed).build(&scene.key);
            assert_eq!(cluster.get(&unknown.narinfo_path()).await.status, 502);
        }
        let seen = stats(&cluster, |stats| stats["upstreams"][0]["state"] == "left-alone").await;
        assert!(seen["upstreams"][0]["errors"].as_u64() >= Some(3), "{seen}");
        assert!(cli(&cluster).ok(&["upstreams"]).await.contains("left-alone"));
        cluster.end().await;
    }

    async fn numbers_are_watched(mode) {
        let scene = Scene::new().await;
        let cluster = scene.start(mode).await;
        let mut command = cli(&cluster).command(&["stats", "--watch=1s", "--output=json"]);
        command.stdin(std::process::Stdio::null());
        let mut watcher = ncps_tests::Process::spawn_command(command);
        eventually("two lines", async || watcher.printed().len() >= 2).await;
        watcher.kill().await;
        let bad = cli(&cluster).run(&["stats", "--watch=0s"]).await;
        assert_eq!(bad.code, 2, "{bad:?}");
        cluster.end().await;
    }
}
