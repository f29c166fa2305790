//! Answers in the style of particular servers.

use super::*;
use crate::{Framing, Page, Passes};

#[tokio::test]
async fn absences_have_a_page_by_pattern() {
    let upstream = Upstream::start().await;
    upstream.when_missing("*", Page::new(404, "text/plain", "No such path.\n"));
    upstream.when_missing("/nar/*", Page::empty(400).header("X-Why", "shape"));
    let mut absent = get(&upstream, "/x.narinfo").await;
    assert_eq!((absent.status, &absent.text().await[..]), (404, "No such path.\n"));
    let mut invalid = get(&upstream, "/nar/x.nar").await;
    assert_eq!((invalid.status, invalid.header("X-Why")), (400, Some("shape")));
    assert!(invalid.whole().await.is_empty());
}

#[tokio::test]
async fn strangers_get_the_page_for_them() {
    let upstream = Upstream::start().await;
    upstream.require_authorization(Some("Bearer x"));
    upstream.when_unauthorized(Page::new(401, "application/json", "{}"));
    upstream.script(Rule::on("/nar/*").redirect(302, "/elsewhere"));
    for path in ["/nix-cache-info", "/nar/x.nar"] {
        let mut stranger = get(&upstream, path).await;
        assert_eq!((stranger.status, &stranger.text().await[..]), (401, "{}"));
        assert!(!stranger.headers.has("Location"));
    }
    let known = Request::get("/nar/x.nar").header("Authorization", "Bearer x").send(upstream.addr()).await;
    assert_eq!(known.expect("an answer").status, 302);
}

#[tokio::test]
async fn a_pass_is_good_for_one_request() {
    let (upstream, store) = (Upstream::start().await, Upstream::start().await);
    let passes = Passes::default();
    store.put("/bucket/x", "content");
    store.script(Rule::on("/bucket/*").needs_pass(&passes));
    let target = format!("{}/bucket/x", store.url());
    upstream.script(Rule::on("/nar/*").redirect_with_pass(307, &target, &passes));
    let ask = async || get(&upstream, "/nar/x").await.header("Location").expect("a redirect").to_owned();
    let (first, second) = (ask().await, ask().await);
    assert_ne!(first, second);
    for target in [first, second] {
        let path = target.strip_prefix(&store.url()).expect("it leads there");
        assert_eq!(get(&store, path).await.text().await, "content");
        let mut again = get(&store, path).await;
        assert_eq!(again.status, 403);
        assert!(again.text().await.contains("AccessDenied"));
    }
    assert_eq!((get(&store, "/bucket/x").await.status, passes.issued()), (403, 2));
}

#[tokio::test]
async fn http_1_0_is_one_request_a_connection() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*").http_1_0());
    upstream.script(Rule::on("/nar/*").framing(Framing::Close));
    for (path, length) in [(fixture.narinfo_path(), true), (fixture.nar_path(), false)] {
        let mut connection = crate::Connection::open(upstream.addr()).await.expect("it listens");
        let mut answer = connection.get(&path).await.expect("an answer");
        assert_eq!(
            (answer.header("Connection"), answer.headers.has("Content-Length")),
            (Some("close"), length)
        );
        answer.whole().await;
        assert!(connection.closes().await.expect("in time"));
    }
}

#[tokio::test]
async fn a_body_can_drip() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*").pieces(1));
    assert_eq!(get(&upstream, &fixture.narinfo_path()).await.text().await, fixture.narinfo_text());
}

#[tokio::test]
async fn a_part_can_claim_to_be_the_whole() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("/nar/*").ranged(true).status(200));
    let request = Request::get(&fixture.nar_path()).range("10-19");
    let mut answer = request.send(upstream.addr()).await.expect("an answer");
    let range = format!("bytes 10-19/{}", fixture.file.len());
    assert_eq!((answer.status, answer.header("Content-Range")), (200, Some(&range[..])));
    assert_eq!(answer.whole().await, fixture.file.to_bytes().slice(10..20));
}

#[tokio::test]
async fn zstd_is_for_who_takes_it() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("/nar/*").zstd_if_accepted());
    for (accepts, encoded) in
        [("zstd", true), ("gzip, ZSTD;q=0.5", true), ("zstd;q=0, identity", false), ("gzip", false)]
    {
        let request = Request::get(&fixture.nar_path()).header("Accept-Encoding", accepts);
        let answer = request.send(upstream.addr()).await.expect("an answer");
        assert_eq!(answer.header("Content-Encoding").is_some(), encoded, "{accepts}");
    }
}
