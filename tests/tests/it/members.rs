//! Who belongs to the fleet: another edge of a name is kept out, told what to do, and shown to administrators; a name
//! is remembered when its edge has left; a wiped edge comes back under its name.

use std::path::Path;

use ncps_tests::scrape::Scrape;
use ncps_tests::{Cluster, Mode, eventually, eventually_some};
use serde_json::Value;

use crate::cli::cli;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_edge_of_a_name_waits_outside_until_the_first_has_left() {
    let twin = |edge: &mut ncps_edge::config::EdgeConfig| edge.name = "twin".to_owned();
    let builder = Cluster::builder(Mode::Split).prometheus().edges(3).edge_at(1, twin);
    let mut cluster = builder.start().await;
    cluster.edges[2].stop().await;
    cluster.edges[2].reconfigure(twin);
    let saved = cluster.at(2).store_dir().with_file_name("edge.state");
    assert!(holds_settings(&saved), "it starts without control, too");
    cluster.edges[2].start().await;
    let refused = eventually_some("it is refused", async || {
        let refused = cli(&cluster).json(&["edges"]).await["refused"][0].clone();
        (refused["times"].as_u64() >= Some(2)).then_some(refused)
    })
    .await;
    assert_eq!((&refused["name"], &refused["reason"]), (&"twin".into(), &"name".into()), "{refused}");
    assert!(refused["why"].as_str().is_some_and(|why| why.contains("--edge-name")), "{refused}");
    let scrape = Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for"));
    assert!(scrape.number("ncps_refused_edges_total", &[("reason", "name")]) >= 2.0);
    let text = cli(&cluster).ok(&["edges"]).await;
    assert!(text.contains("REFUSED") && text.contains("AWAY"), "{text}");
    let attached = names(&cli(&cluster).json(&["edges"]).await["attached"]);
    assert_eq!(attached, ["edge-0", "twin"]);
    cluster.edges[1].stop().await;
    eventually("it is let in", async || cluster.attached().await == ["edge-0", "twin"]).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_left_is_remembered_over_a_restart_of_control() {
    let zone = |edge: &mut ncps_edge::config::EdgeConfig| edge.zone = Some("hall 2".to_owned());
    let mut cluster = Cluster::builder(Mode::Split).edges(2).edge_at(1, zone).start().await;
    assert_eq!(cli(&cluster).json(&["edges"]).await["away"], serde_json::json!([]));
    cluster.edges[1].stop().await;
    let away = async |cluster: &Cluster| cli(cluster).json(&["edges"]).await["away"].clone();
    eventually("it is away", async || names(&away(&cluster).await) == ["edge-1"]).await;
    cluster.stop_control().await;
    cluster.start_control().await;
    let remembered = away(&cluster).await;
    let edge = remembered
        .as_array()
        .and_then(|all| all.iter().find(|edge| edge["name"] == "edge-1"))
        .expect("known");
    assert_eq!((&edge["zone"], &edge["version"]), (&"hall 2".into(), &env!("CARGO_PKG_VERSION").into()));
    let old = edge["instance"].clone();
    cluster.edges[1].wipe();
    cluster.edges[1].start().await;
    eventually("nobody is away", async || away(&cluster).await == serde_json::json!([])).await;
    let attached = cli(&cluster).json(&["edges"]).await["attached"].clone();
    let edge = attached.as_array().and_then(|all| all.iter().find(|edge| edge["name"] == "edge-1"));
    assert!(edge.is_some_and(|edge| edge["instance"] != old), "{attached}");
    cluster.end().await;
}

fn names(edges: &Value) -> Vec<String> {
    let edges = edges.as_array().expect("a list");
    edges.iter().map(|edge| edge["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn holds_settings(state: &Path) -> bool {
    std::fs::metadata(state).is_ok_and(|file| file.len() > 200)
}
