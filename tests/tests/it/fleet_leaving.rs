//! Edges that leave a fleet: drained, wiped, removed.

use ncps_tests::{Cluster, Request, eventually};

use crate::cli::cli;
use crate::fleet_uploads::{ask, fixture, of, start, upload};
use crate::uploads::put;

async fn statuses(cluster: &Cluster, path: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for edge in &cluster.edges {
        all.push(ask(edge, Request::get(path)).await.status);
    }
    all
}

/// The history of a path ends with this.
async fn ends_with(cluster: &Cluster, path: &str, words: &str) {
    let why = cli(cluster).json(&["paths", "why", path]).await;
    let last = why["history"].as_array().and_then(|history| history.last()).expect("an event");
    assert!(last["detail"].as_str().expect("text").contains(words), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_edge_takes_nothing_more_and_serves_what_it_has() {
    let mut cluster = start(of(2, &[0, 1])).await;
    let (before, during) = (fixture("before"), fixture("during"));
    upload(&cluster, "", &before, 0, 0).await;
    let cli = cli(&cluster);
    let said = cli.json(&["edges", "drain", "edge-0"]).await;
    assert_eq!((said["edge"].as_str(), said["state"].as_str()), (Some("edge-0"), Some("drained")));
    for restarts in [false, true] {
        if restarts {
            cluster.edges[0].stop().await;
            eventually("it is gone", async || cluster.attached().await.len() == 1).await;
            cluster.edges[0].launch().await;
            eventually("it is back", async || cluster.attached().await.len() == 2).await;
        }
        let ready = async || ask(cluster.at(0), Request::get("/readyz")).await;
        eventually("it is not ready", async || ready().await.status == 503).await;
        assert!(ready().await.text().contains("drained"));
        assert_eq!(ask(cluster.at(0), Request::get(&before.nar_path())).await.status, 200);
        let edges = cli.json(&["edges"]).await["attached"].clone();
        assert_eq!(
            (&edges[0]["state"], &edges[1]["state"]),
            (&"drained".into(), &"attached".into()),
            "{edges}"
        );
    }
    upload(&cluster, "", &during, 0, 0).await;
    assert!(!cluster.at(0).stores(&during.nar_path()) && cluster.at(1).stores(&during.nar_path()));
    cli.ok(&["edges", "undrain", "edge-0"]).await;
    eventually("it is ready", async || cluster.at(0).is_ready()).await;
    let after = fixture("after");
    assert_eq!(ask(cluster.at(0), put(&after.nar_path(), after.file.clone())).await.status, 204);
    assert!(cluster.at(0).stores(&after.nar_path()));
    let events = cli.ok(&["events"]).await;
    assert!(events.contains("edge-drained") && events.contains("edge-undrained"), "{events}");
    assert!(cli.run(&["edges", "drain", "edge-7"]).await.said.contains("no edge edge-7 is attached"));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_removed_edge_held_is_told_before_and_absent_after() {
    let mut cluster = start(of(2, &[1])).await;
    let only = fixture("only-there");
    upload(&cluster, "", &only, 0, 0).await;
    let cli = cli(&cluster);
    let refused = cli.run(&["edges", "remove", "edge-1", "--yes"]).await;
    assert!(refused.code == 2 && refused.said.contains("edges drain edge-1"), "{refused:?}");
    cluster.edges[1].stop().await;
    eventually("it is gone", async || cluster.attached().await.len() == 1).await;
    let foreseen = cli.json(&["edges", "remove", "edge-1", "--dry-run"]).await;
    let path = only.store_path().absolute();
    assert_eq!(foreseen["uploads"], serde_json::json!([path]), "{foreseen}");
    assert_eq!(ask(cluster.at(0), Request::get(&only.narinfo_path())).await.status, 200, "nothing changed");
    let unasked = cli.run(&["edges", "remove", "edge-1"]).await;
    assert!(unasked.code == 2 && unasked.said.contains("--yes"), "{unasked:?}");
    let removed = cli.json(&["edges", "remove", "edge-1", "--yes"]).await;
    assert_eq!((&removed["uploads"], &removed["copied"]), (&foreseen["uploads"], &0.into()), "{removed}");
    assert_eq!(ask(cluster.at(0), Request::get(&only.narinfo_path())).await.status, 404);
    ends_with(&cluster, &path, "was removed").await;
    // It can't come back with its data.
    cluster.edges[1].launch().await;
    eventually("it is turned away", async || {
        cli.json(&["edges"]).await["refused"][0]["reason"] == serde_json::json!("removed")
    })
    .await;
    let edges = cli.json(&["edges"]).await;
    assert_eq!(
        (&edges["attached"][1], &edges["away"]),
        (&serde_json::json!(null), &serde_json::json!([])),
        "{edges}"
    );
    cluster.edges[1].stop().await;
    cluster.edges[1].wipe();
    cluster.edges[1].start().await;
    eventually("it is there anew", async || cluster.attached().await.len() == 2).await;
    assert_eq!(statuses(&cluster, &only.narinfo_path()).await, [404, 404]);
    upload(&cluster, "", &only, 0, 1).await;
    assert_eq!(statuses(&cluster, &only.narinfo_path()).await, [200, 200]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wiped_edge_held_alone_is_absent_when_it_is_back() {
    let mut cluster = start(of(2, &[1])).await;
    let only = fixture("only-there");
    upload(&cluster, "", &only, 0, 0).await;
    cluster.edges[1].stop().await;
    eventually("it is gone", async || cluster.attached().await.len() == 1).await;
    assert_eq!(ask(cluster.at(0), Request::get(&only.narinfo_path())).await.status, 200, "it may come back");
    cluster.edges[1].wipe();
    cluster.edges[1].start().await;
    eventually("it is there anew", async || cluster.attached().await.len() == 2).await;
    assert_eq!(statuses(&cluster, &only.narinfo_path()).await, [404, 404]);
    ends_with(&cluster, &only.store_path().absolute(), "came back without it").await;
    upload(&cluster, "", &only, 0, 0).await;
    assert_eq!(statuses(&cluster, &only.narinfo_path()).await, [200, 200]);
    cluster.end().await;
}
