//! Late, slow, paused and stalled answers.

use std::time::{Duration, Instant};

use super::*;
use crate::client::BodyError;
use crate::upstream::End;
use crate::{Gate, eventually, in_time};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_delay_comes_before_the_head() {
    let (upstream, _) = one().await;
    upstream.script(Rule::on("*").delay(SHORT));
    let start = Instant::now();
    assert_eq!(get(&upstream, "/nix-cache-info").await.status, 200);
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_throttled_body_takes_its_time() {
    let start = Instant::now();
    let (outcome, all) = nar_under(Rule::on("*").throttle(1_000_000)).await;
    assert_eq!(outcome, Outcome::Whole(all));
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_gate_before_the_head() {
    let (upstream, _) = one().await;
    let gate = Gate::new();
    upstream.script(Rule::on("*").gate(&gate));
    let addr = upstream.addr();
    let client = tokio::spawn(async move { crate::get(addr, "/nix-cache-info").await });
    gate.reached().await;
    assert_eq!((upstream.active(), upstream.requests()[0].status), (1, None));
    gate.open();
    let answer = in_time("the answer", client).await.expect("no panic").expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn pauses_at_exact_bytes() {
    let (upstream, fixture) = one().await;
    let gates = [Gate::new(), Gate::new()];
    upstream.script(Rule::on("*").pause_at(100_000, &gates[1]).pause_at(1000, &gates[0]));
    let mut response = get(&upstream, &fixture.nar_path()).await;
    for (gate, total) in gates.iter().zip([1000, 100_000]) {
        gate.reached().await;
        assert_eq!(upstream.bytes_sent(), total);
        gate.open();
    }
    assert_eq!(response.whole().await, fixture.file.to_bytes());
}

#[tokio::test]
async fn a_stall_is_neither_an_end_nor_a_cut() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*").stall_after(1000));
    let mut response = get(&upstream, &fixture.nar_path()).await;
    assert_eq!(response.bytes(1000).await, Ok(fixture.file.read(0, 1000)));
    assert_eq!(response.chunk_within(SHORT).await, Err(BodyError::Stalled));
    assert_eq!(upstream.active(), 1);
    drop(response);
    upstream.wait_idle().await;
    assert_eq!(upstream.requests()[0].end, End::ClientGone);
}

#[tokio::test]
async fn who_hangs_notices_that_the_client_has_gone() {
    let (upstream, _) = one().await;
    upstream.script(Rule::on("*").hang());
    let request = tokio::time::timeout(SHORT, crate::get(upstream.addr(), "/nix-cache-info"));
    assert!(request.await.is_err());
    upstream.wait_idle().await;
    let what = "the request's end";
    eventually(what, async || upstream.requests()[0].end == End::ClientGone).await;
}
