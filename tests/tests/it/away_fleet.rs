//! A fleet whose control is gone: each edge goes on alone, one is even started anew, and when control is back they are
//! one cache again.

use ncps_nix::NarInfo;
use ncps_proto::WhenAway;
use ncps_tests::cluster::EdgeNode;
use ncps_tests::{Cluster, Fixture, Mode, Upstream, UpstreamKey, eventually};

use crate::away_signed::agree;
use crate::cli::cli;
use crate::scene::plain;

const EDGES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_edge_goes_on_alone_and_they_are_one_cache_afterwards() {
    let (mut cluster, upstream, key) = fleet(WhenAway::UpstreamSigned).await;
    let fixtures: Vec<_> = (0..5).map(|seed| plain(100_000).seed(seed).build(&key)).collect();
    let [warm, shared, own @ ..] = &fixtures[..] else { unreachable!("there are five") };
    fixtures.iter().for_each(|fixture| upstream.add(fixture));
    for edge in &cluster.edges {
        is_had(edge, warm).await;
    }
    let known = cluster.narinfo(warm).await;

    cluster.kill_control().await;
    for (edge, own) in cluster.edges.iter().zip(own) {
        assert_eq!(edge.narinfo(warm).await, known);
        for fixture in [warm, shared, own] {
            is_had(edge, fixture).await;
        }
        assert!(!is_ours(&edge.narinfo(own).await, &known) && !is_ours(&edge.narinfo(shared).await, &known));
    }
    assert!(upstream.count("GET", &shared.nar_path()) <= EDGES, "once for each edge at most");
    // What it was to tell control is lost with its process, and lies on its disk.
    cluster.edges[1].stop().await;
    cluster.edges[1].start().await;
    for fixture in [warm, shared, &own[1]] {
        is_had(cluster.at(1), fixture).await;
    }
    let fetched = upstream.count("GET", "/nar/");

    cluster.start_control().await;
    eventually("all are attached again", async || cluster.attached().await.len() == EDGES).await;
    for edge in &cluster.edges {
        eventually("control is told", async || edge.edge.engine.pending().is_empty()).await;
        for fixture in &fixtures {
            let signed = async || {
                let mut response = edge.get(&fixture.narinfo_path()).await;
                response.status == 200
                    && is_ours(&NarInfo::parse(&response.whole().await).expect("it parses"), &known)
            };
            eventually("our signature at every edge", signed).await;
        }
        agree(&cluster, edge).await;
    }
    for (edge, own) in cluster.edges.iter().zip(own) {
        for fixture in [warm, shared, own] {
            is_had(edge, fixture).await;
        }
    }
    assert_eq!(upstream.count("GET", "/nar/"), fetched, "nothing is fetched twice");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_index_is_rebuilt_from_all_edges() {
    let (mut cluster, upstream, key) = fleet(WhenAway::StoredOnly).await;
    let fixtures: Vec<_> = (0..3).map(|seed| plain(100_000).seed(seed).build(&key)).collect();
    for (edge, fixture) in cluster.edges.iter().zip(&fixtures) {
        upstream.add(fixture);
        is_had(edge, fixture).await;
        let file = edge.store_dir().join(fixture.narinfo_path().trim_start_matches('/'));
        eventually("its narinfo file is there", async || file.exists()).await;
    }
    let known = cluster.narinfo(&fixtures[0]).await;
    cluster.stop_control().await;
    let database = cluster.socket().with_file_name("control").join("db");
    std::fs::remove_dir_all(database).expect("the database is lost");
    fixtures.iter().for_each(|fixture| upstream.remove_fixture(fixture));
    cluster.start_control().await;
    eventually("all are attached again", async || cluster.attached().await.len() == EDGES).await;

    let told = cli(&cluster).json(&["index", "rebuild"]).await;
    let adopted = told["edges"].as_array().expect("edges").iter().map(|edge| edge["adopted"].as_u64());
    assert_eq!(adopted.flatten().collect::<Vec<_>>(), [1; EDGES], "{told}");
    for fixture in &fixtures {
        for edge in &cluster.edges {
            let found = async || edge.get(&fixture.narinfo_path()).await.status == 200;
            eventually("every edge knows what any of them has", found).await;
            assert!(is_ours(&edge.narinfo(fixture).await, &known));
        }
    }
    for edge in &cluster.edges {
        agree(&cluster, edge).await;
    }
    cluster.end().await;
}

/// Narinfo and NAR come, and the NAR stays.
async fn is_had(edge: &EdgeNode, fixture: &Fixture) {
    edge.narinfo(fixture).await;
    let (status, body) = edge.fetch(&fixture.nar_path()).await;
    assert!(status == 200 && body.whole() == fixture.file.to_bytes(), "{status} at {}", edge.name());
    edge.quiet().await;
    assert!(edge.stores(&fixture.nar_path()), "{} keeps it", edge.name());
}

/// Whether it has a signature of the key that signed one of ours beside its upstream's.
fn is_ours(narinfo: &NarInfo, ours: &NarInfo) -> bool {
    let names = |narinfo: &NarInfo| narinfo.signatures.iter().map(|s| s.key_name.clone()).collect::<Vec<_>>();
    names(narinfo) == names(ours)
}

async fn fleet(policy: WhenAway) -> (Cluster, Upstream, UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::start().await;
    let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).edges(EDGES);
    let builder = builder.settings(|settings| settings.when_away = policy);
    let builder = builder.negative_ttl(std::time::Duration::from_millis(1));
    let cluster = builder.start().await;
    eventually("all are attached", async || cluster.attached().await.len() == EDGES).await;
    (cluster, upstream, key)
}
