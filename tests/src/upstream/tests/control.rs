//! Counting, and an upstream that goes down and comes back.

use std::io;
use std::time::Duration;

use super::*;
use crate::client::BodyError;
use crate::upstream::End;
use crate::{Connection, Gate};

#[tokio::test]
async fn requests_are_counted_and_remembered() {
    let (upstream, fixture) = one().await;
    let mut connection = Connection::open(upstream.addr()).await.expect("it listens");
    for _ in 0..3 {
        let request = Request::get(&fixture.narinfo_path()).header("Via", "1.1 test");
        connection.send(request).await.expect("an answer").whole().await;
    }
    connection.send(Request::head(&fixture.nar_path())).await.expect("an answer");
    connection.send(Request::get(&fixture.nar_path()).range("0-9")).await.expect("an answer").whole().await;
    assert_eq!((upstream.total(), upstream.connections(), upstream.max_concurrent()), (5, 1, 1));
    assert_eq!((upstream.count("GET", "/nar/"), upstream.count("HEAD", "/nar/")), (1, 1));
    assert_eq!(upstream.bytes_sent(), 3 * fixture.narinfo_text().len() as u64 + 10);
    let seen = upstream.requests();
    assert_eq!(seen[0].headers.get("via"), Some("1.1 test"));
    assert_eq!((seen[4].range(), seen[4].status), (Some("bytes=0-9"), Some(206)));
    assert_eq!(upstream.requests_to("/nar/").len(), 2);
    upstream.forget();
    assert_eq!((upstream.total(), upstream.connections()), (0, 0));
}

#[tokio::test]
async fn concurrency_is_measured() {
    let (upstream, _) = one().await;
    let gate = Gate::new();
    upstream.script(Rule::on("*").gate(&gate));
    let clients: Vec<_> =
        (0..5).map(|_| tokio::spawn(crate::get(upstream.addr(), "/nix-cache-info"))).collect();
    gate.reached_by(5).await;
    assert_eq!((upstream.active(), upstream.max_concurrent()), (5, 5));
    gate.open();
    for client in clients {
        client.await.expect("no panic").expect("an answer");
    }
    upstream.wait_idle().await;
}

#[tokio::test]
async fn down_refuses_and_cuts_and_up_serves_again() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("/nar/*").times(1).stall_after(1000));
    let mut running = get(&upstream, &fixture.nar_path()).await;
    running.bytes(1000).await.expect("so much came");
    for _ in 0..3 {
        upstream.down().await;
        let refused = crate::get(upstream.addr(), "/nix-cache-info").await.expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        upstream.up().await;
        assert_eq!(get(&upstream, &fixture.nar_path()).await.whole().await, fixture.file.to_bytes());
    }
    assert!(matches!(running.chunk().await, Err(BodyError::Truncated(_))));
    assert_eq!((upstream.active(), upstream.requests()[0].end), (0, End::Cut));
}

#[tokio::test]
async fn a_blackhole_is_silent_until_it_is_up() {
    let (upstream, _) = one().await;
    upstream.blackhole();
    let client = tokio::spawn(crate::get(upstream.addr(), "/nix-cache-info"));
    upstream.wait_for(1, "GET", "/nix-cache-info").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!client.is_finished());
    upstream.up().await;
    assert_eq!(client.await.expect("no panic").expect("an answer").status, 200);
}

#[tokio::test]
async fn one_that_starts_down() {
    let upstream = Upstream::start_down();
    crate::get(upstream.addr(), "/nix-cache-info").await.expect_err("nobody listens");
    upstream.up().await;
    assert_eq!(get(&upstream, "/nix-cache-info").await.status, 200);
}

#[tokio::test]
async fn what_is_removed_is_gone() {
    let (upstream, fixture) = one().await;
    upstream.remove_fixture(&fixture);
    assert_eq!(get(&upstream, &fixture.narinfo_path()).await.status, 404);
    assert_eq!(get(&upstream, &fixture.nar_path()).await.status, 404);
    upstream.add_narinfo(&fixture);
    assert_eq!(get(&upstream, &fixture.narinfo_path()).await.status, 200);
    assert_eq!(get(&upstream, &fixture.nar_path()).await.status, 404);
}
