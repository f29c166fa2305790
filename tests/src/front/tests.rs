//! The front, proven with a client of HTTP/2.

use futures::StreamExt;
use ncps_nix::Compression;
use reqwest::{Certificate, Client, Identity, Version};

use super::*;
use crate::{Cut, Fixture, Gate, Rule, eventually};

async fn one() -> (Upstream, Fixture) {
    let fixture = Fixture::new("hello-1.0").size(200_000).compression(Compression::None).build_unsigned();
    (Upstream::with(&[&fixture]).await, fixture)
}

fn client_with(front: &Front, identity: Option<String>) -> Client {
    let root = Certificate::from_pem(front.authority().root().as_bytes()).expect("a certificate");
    let mut builder = Client::builder().tls_certs_only([root]).no_proxy();
    if let Some(pem) = identity {
        builder = builder.identity(Identity::from_pem(pem.as_bytes()).expect("an identity"));
    }
    builder.build().expect("a client")
}

fn client(front: &Front) -> Client {
    client_with(front, None)
}

#[tokio::test]
async fn requests_pass_as_they_are() {
    let (upstream, fixture) = one().await;
    for (front, version) in [
        (Front::of(&upstream).start().await, Version::HTTP_2),
        (Front::of(&upstream).http1_only().start().await, Version::HTTP_11),
    ] {
        let url = front.url() + &fixture.nar_path() + "?a=b";
        let answer = client(&front).get(url).header("Range", "bytes=10-").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), answer.version()), (206, version));
        assert_eq!(answer.content_length(), Some(fixture.file.len() - 10));
        assert!(answer.bytes().await.expect("whole") == fixture.file.to_bytes().slice(10..));
        let seen = upstream.requests().pop().expect("it was asked");
        assert_eq!((seen.query.as_deref(), seen.range()), (Some("a=b"), Some("bytes=10-")));
        assert_eq!(seen.headers.get("Host"), Some(&front.addr().to_string()[..]));
        let expected = if version == Version::HTTP_2 { (1, 0) } else { (0, 1) };
        assert_eq!((front.connections(), front.requests()), (1, expected));
    }
}

#[tokio::test]
async fn a_cut_is_a_reset_of_its_stream_alone() {
    let (upstream, fixture) = one().await;
    let front = Front::of(&upstream).start().await;
    upstream.script(Rule::on("/nar/*").cut_after(100_000, Cut::Fin));
    let client = client(&front);
    let nar = client.get(front.url() + &fixture.nar_path()).send().await.expect("answered");
    nar.bytes().await.expect_err("cut");
    let narinfo = client.get(front.url() + &fixture.narinfo_path()).send().await.expect("answered");
    assert_eq!(narinfo.text().await.expect("whole"), fixture.narinfo_text());
    assert_eq!((front.connections(), front.active()), (1, 0));
}

#[tokio::test]
async fn after_goaway_what_runs_is_finished() {
    let (upstream, fixture) = one().await;
    let front = Front::of(&upstream).start().await;
    let gate = Gate::new();
    upstream.script(Rule::on("/nar/*").pause_at(100_000, &gate));
    let client = client(&front);
    let nar = client.get(front.url() + &fixture.nar_path()).send().await.expect("answered");
    gate.reached().await;
    front.go_away();
    let after = async || {
        let narinfo = client.get(front.url() + &fixture.narinfo_path()).send().await;
        narinfo.expect("on another connection");
        front.connections() == 2
    };
    eventually("a new connection", after).await;
    gate.open();
    assert!(nar.bytes().await.expect("whole") == fixture.file.to_bytes());
}

#[tokio::test]
async fn a_cut_connection_takes_its_streams_along() {
    let (upstream, fixture) = one().await;
    let front = Front::of(&upstream).start().await;
    upstream.script(Rule::on("/nar/*").stall_after(100_000));
    let nar = client(&front).get(front.url() + &fixture.nar_path()).send().await.expect("answered");
    let mut body = nar.bytes_stream();
    body.next().await.expect("it has begun").expect("it has begun");
    assert_eq!((front.active(), front.max_concurrent()), (1, 1));
    front.cut();
    while let Some(Ok(_)) = body.next().await {}
    eventually("nothing is left", async || front.active() == 0).await;
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let (upstream, fixture) = one().await;
    let front = Front::of(&upstream).with_client_certificates().start().await;
    let url = front.url() + &fixture.narinfo_path();
    client(&front).get(&url).send().await.expect_err("no certificate");
    let stranger = Authority::new().client_identity();
    client_with(&front, Some(stranger)).get(&url).send().await.expect_err("of another authority");
    eventually("both were refused", async || front.refused() == 2).await;
    let known = client_with(&front, Some(front.authority().client_identity()));
    assert_eq!(known.get(&url).send().await.expect("let in").status().as_u16(), 200);
}
