//! Every framing, whole and cut.

use super::*;
use crate::client::{BodyError, Framed};
use crate::{Connection, Cut, Framing};

#[tokio::test]
async fn every_framing_tells_the_whole() {
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        let (outcome, all) = nar_under(Rule::on("*").framing(framing)).await;
        assert_eq!(outcome, Outcome::Whole(all), "{framing:?}");
    }
}

#[tokio::test]
async fn framings_are_what_they_say() {
    let (upstream, fixture) = one().await;
    for (framing, expected) in [
        (Framing::Length, Framed::Length(fixture.file.len())),
        (Framing::Chunked, Framed::Chunked(0)),
        (Framing::Close, Framed::Close),
    ] {
        let rule = upstream.script(Rule::on("*").framing(framing));
        assert_eq!(get(&upstream, &fixture.nar_path()).await.framed(), expected);
        rule.remove();
    }
}

#[tokio::test]
async fn a_cut_with_fin_is_seen_except_where_it_can_not_be() {
    let cut = || Rule::on("*").cut_after(1000, Cut::Fin);
    for framing in [Framing::Length, Framing::Chunked] {
        let (outcome, all) = nar_under(cut().framing(framing)).await;
        assert_eq!(outcome, Outcome::Truncated(all.slice(..1000)), "{framing:?}");
    }
    let (outcome, all) = nar_under(cut().framing(Framing::Close)).await;
    assert_eq!(outcome, Outcome::Whole(all.slice(..1000)));
}

#[tokio::test]
async fn a_cut_with_rst_is_seen_always() {
    for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
        let (outcome, all) = nar_under(Rule::on("*").cut_after(1000, Cut::Rst).framing(framing)).await;
        let got = outcome.truncated();
        assert!(got.len() <= 1000 && all.starts_with(&got), "{framing:?}");
    }
}

#[tokio::test]
async fn a_chunked_body_without_its_last_chunk_is_cut() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*").framing(Framing::Chunked).cut_after(fixture.file.len(), Cut::Fin));
    let outcome = get(&upstream, &fixture.nar_path()).await.outcome().await;
    assert_eq!(outcome, Outcome::Truncated(fixture.file.to_bytes()));
}

#[tokio::test]
async fn a_length_that_promises_too_much_is_a_cut() {
    let (outcome, all) = nar_under(Rule::on("/nar/*").declare_length(1 << 30)).await;
    assert_eq!(outcome, Outcome::Truncated(all));
}

#[tokio::test]
async fn a_length_that_promises_too_little_leaves_bytes_over() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("/nar/*").declare_length(10));
    let mut connection = Connection::open(upstream.addr()).await.expect("it listens");
    let body = connection.get(&fixture.nar_path()).await.expect("an answer").whole().await;
    assert_eq!(body, fixture.file.read(0, 10));
    assert_eq!(connection.closes().await.ok(), Some(false));
}

#[tokio::test]
async fn a_dropped_connection_is_no_answer() {
    let (upstream, _) = one().await;
    for how in [Cut::Fin, Cut::Rst] {
        upstream.script(Rule::on("*").times(1).drop_connection(how));
        Request::get("/nix-cache-info").send(upstream.addr()).await.expect_err("no answer");
    }
    assert_eq!(get(&upstream, "/nix-cache-info").await.status, 200);
    assert_eq!(upstream.requests()[0].end, crate::upstream::End::Cut);
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let (upstream, _) = one().await;
    upstream.script(Rule::on("*").raw("hello\r\n\r\n"));
    Request::get("/nix-cache-info").send(upstream.addr()).await.expect_err("no answer");
    upstream.script(Rule::on("*").raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"));
    let error = get(&upstream, "/nix-cache-info").await.chunk().await.expect_err("no chunk");
    assert_eq!(error, BodyError::Truncated("a chunk without a size".to_owned()));
}
