//! Several edges with one control: each serves every path, keeps its address and its data over a restart, and can be
//! cut from control or from its peers alone.

use ncps_proto::admin::AdminPlane;
use ncps_tests::{Cluster, ClusterBuilder, Fixture, Mode, Upstream, UpstreamKey, client, eventually};

use crate::cli::cli;
use crate::eviction::{self, MIB};
use crate::scene::plain;

const EDGES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_edge_serves_the_same_path() {
    let (cluster, _upstream, fixture) = fleet().await;
    assert_eq!(cluster.attached().await, ["edge-0", "edge-1", "edge-2"]);
    let narinfo = cluster.narinfo(&fixture).await;
    for edge in &cluster.edges {
        assert_eq!(edge.narinfo(&fixture).await, narinfo, "{}", edge.name());
        is_served_by(&cluster, edge.name(), &fixture).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_comes_back_on_its_data_and_its_address() {
    let (mut cluster, _upstream, fixture) = fleet().await;
    let addr = cluster.at(1).addr;
    cluster.at(1).narinfo(&fixture).await;
    is_served_by(&cluster, "edge-1", &fixture).await;
    for kill in [false, true] {
        if kill {
            cluster.edges[1].kill().await;
        } else {
            cluster.edges[1].stop().await;
        }
        client::get(addr, "/nix-cache-info").await.expect_err("nobody is there");
        eventually("control knows", async || cluster.attached().await == ["edge-0", "edge-2"]).await;
        cluster.at(2).narinfo(&fixture).await;
        cluster.edges[1].start().await;
        assert!(cluster.at(1).addr == addr && cluster.at(1).stores(&fixture.nar_path()));
        eventually("it is attached", async || cluster.attached().await.len() == EDGES).await;
    }
    cluster.edges[1].stop().await;
    cluster.edges[1].wipe();
    cluster.edges[1].start().await;
    assert!(!cluster.at(1).stores(&fixture.nar_path()));
    is_served_by(&cluster, "edge-1", &fixture).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_comes_back_on_its_data() {
    let (mut cluster, _upstream, fixture) = fleet().await;
    let narinfo = cluster.at(2).narinfo(&fixture).await;
    is_served_by(&cluster, "edge-2", &fixture).await;
    let beside = cluster.at(2).store_dir().join(fixture.narinfo_path().trim_start_matches('/'));
    eventually("the narinfo lies beside its NAR", async || beside.exists()).await;
    for kill in [false, true] {
        if kill {
            cluster.kill_control().await;
        } else {
            cluster.stop_control().await;
        }
        assert_eq!(cluster.at(2).narinfo(&fixture).await, narinfo);
        cluster.start_control().await;
        eventually("all are attached again", async || cluster.attached().await.len() == EDGES).await;
    }
    assert_eq!(cluster.at(1).narinfo(&fixture).await, narinfo);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_one_edge_can_be_broken_alone() {
    let (cluster, _upstream, _) = fleet().await;
    let front = |edge: usize| cluster.at(edge).front.as_ref().expect("each has one");
    let urls: Vec<_> = (0..EDGES).map(|edge| Some(format!("http://{}", front(edge).addr()))).collect();
    let edges = cluster.control().stats().await.expect("counted").edges;
    assert_eq!(edges.into_iter().map(|edge| edge.url).collect::<Vec<_>>(), urls);
    front(1).refuse().await;
    client::get(front(1).addr(), "/nix-cache-info").await.expect_err("refused");
    for edge in [0, 2] {
        assert_eq!(client::get(front(edge).addr(), "/nix-cache-info").await.expect("whole").status, 200);
    }
    assert_eq!(cluster.at(1).get("/nix-cache-info").await.status, 200, "clients have a way of their own");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_edge_keeps_its_own_limit() {
    let key = UpstreamKey::new("upstream-1");
    let fixtures = eviction::fixtures(&key, 4, MIB);
    let upstream = eviction::upstream_of(&fixtures).await;
    let limit = 2 * MIB + MIB / 2;
    let builder = builder(&upstream, &key).edge_at(1, move |edge| {
        (edge.max_size, edge.zone, edge.durable) = (Some(limit), Some("hall 2".to_owned()), false);
    });
    let builder = builder.settings(|settings| settings.max_size = Some(100 * MIB));
    let cluster = builder.start().await;
    for fixture in &fixtures {
        for edge in [0, 1] {
            cluster.at(edge).narinfo(fixture).await;
            let (status, body) = cluster.at(edge).fetch(&fixture.nar_path()).await;
            assert!(status == 200 && body.whole() == fixture.file.to_bytes());
            cluster.at(edge).quiet().await;
        }
    }
    let stored = |edge: usize| fixtures.iter().filter(|f| cluster.at(edge).stores(&f.nar_path())).count();
    assert_eq!(stored(0), 4);
    eventually("it is within its limit", async || stored(1) <= 2).await;
    let edges = cli(&cluster).json(&["edges"]).await["attached"].clone();
    assert_eq!((&edges[0]["max_size"], &edges[1]["max_size"]), (&(100 * MIB).into(), &limit.into()));
    assert_eq!((&edges[1]["zone"], &edges[1]["durable"]), (&"hall 2".into(), &false.into()));
    assert_eq!((&edges[0]["zone"], &edges[0]["durable"]), (&serde_json::Value::Null, &true.into()));
    cluster.end().await;
}

async fn fleet() -> (Cluster, Upstream, Fixture) {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::start().await;
    let fixture = plain(100_000).build(&key);
    upstream.add(&fixture);
    let cluster = builder(&upstream, &key).start().await;
    eventually("all are attached", async || cluster.attached().await.len() == EDGES).await;
    (cluster, upstream, fixture)
}

fn builder(upstream: &Upstream, key: &UpstreamKey) -> ClusterBuilder {
    Cluster::builder(Mode::Split).upstream(upstream).trust(key).edges(EDGES)
}

async fn is_served_by(cluster: &Cluster, name: &str, fixture: &Fixture) {
    let edge = cluster.edges.iter().find(|edge| edge.name() == name).expect("one of them");
    let (status, outcome) = edge.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200, "{name}");
    assert!(outcome.whole() == fixture.file.to_bytes(), "the bytes at {name}");
    edge.quiet().await;
    assert!(edge.stores(&fixture.nar_path()), "{name}");
}
