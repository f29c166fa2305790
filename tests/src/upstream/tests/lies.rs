//! Wrong content, wrong headers, redirects.

use super::*;
use crate::{decode, wait};

#[tokio::test]
async fn statuses_with_headers_for_the_next_times() {
    let (upstream, fixture) = one().await;
    let rule = upstream.script(Rule::on("*.narinfo").times(2).status(503).header("Retry-After", "7"));
    for _ in 0..2 {
        let refused = get(&upstream, &fixture.narinfo_path()).await;
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("7")));
        assert_eq!(get(&upstream, &fixture.nar_path()).await.status, 200);
    }
    assert_eq!(get(&upstream, &fixture.narinfo_path()).await.status, 200);
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn flipped_bytes_also_in_ranges() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("/nar/*").flip(0).flip(100_000));
    let mut expected = fixture.file.to_bytes().to_vec();
    expected[0] = !expected[0];
    expected[100_000] = !expected[100_000];
    assert_eq!(get(&upstream, &fixture.nar_path()).await.whole().await, expected);
    let request = Request::get(&fixture.nar_path()).range("99999-100000");
    let part = request.send(upstream.addr()).await.expect("an answer").whole().await;
    assert_eq!(part, expected[99_999..=100_000]);
}

#[tokio::test]
async fn more_bytes_and_fewer_bytes_end_cleanly() {
    let (outcome, all) = nar_under(Rule::on("/nar/*").extra(3)).await;
    assert_eq!(outcome.whole(), [&all[..], &[0xee; 3]].concat());
    let (outcome, all) = nar_under(Rule::on("/nar/*").shorten_to(1234)).await;
    assert_eq!(outcome, Outcome::Whole(all.slice(..1234)));
}

#[tokio::test]
async fn ranges_are_ignored_or_answered_with_others() {
    let (upstream, fixture) = one().await;
    let request = || Request::get(&fixture.nar_path()).range("5-");
    upstream.script(Rule::on("*").times(1).ignore_range());
    let mut whole = request().send(upstream.addr()).await.expect("an answer");
    assert_eq!((whole.status, whole.whole().await), (200, fixture.file.to_bytes()));
    upstream.script(Rule::on("*").ranged(true).header("Content-Range", "bytes 6-9/10"));
    let wrong = request().send(upstream.addr()).await.expect("an answer");
    assert_eq!((wrong.status, wrong.header("Content-Range")), (206, Some("bytes 6-9/10")));
    let plain = get(&upstream, &fixture.nar_path()).await;
    assert!(!plain.headers.has("Content-Range"));
}

#[tokio::test]
async fn redirects() {
    let (upstream, fixture) = one().await;
    let other = Upstream::with(&[&fixture]).await;
    let elsewhere = other.url() + &fixture.nar_path();
    for (status, location) in [(301, "/nar/x"), (302, "x"), (307, &elsewhere), (308, &fixture.nar_path())] {
        upstream.script(Rule::on("/nar/*").times(1).redirect(status, location));
        let answer = get(&upstream, &fixture.nar_path()).await;
        assert_eq!((answer.status, answer.header("Location")), (status, Some(location)));
    }
}

#[tokio::test]
async fn other_bodies_where_something_is_and_where_nothing_is() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*.narinfo").body("<html>hello</html>"));
    for path in [&fixture.narinfo_path()[..], "/nothing.narinfo"] {
        let mut html = get(&upstream, path).await;
        assert_eq!((html.status, html.text().await), (200, "<html>hello</html>".to_owned()));
    }
    upstream.script(Rule::on("*.narinfo").status(502).body(""));
    let mut empty = get(&upstream, "/nothing.narinfo").await;
    assert_eq!((empty.status, empty.text().await), (502, String::new()));
}

#[tokio::test]
async fn zstd_as_content_encoding() {
    let (upstream, fixture) = one().await;
    let rule = upstream.script(Rule::on("*").zstd_if_accepted());
    let plain = get(&upstream, &fixture.nar_path()).await;
    assert!(!plain.headers.has("Content-Encoding"));
    let request = Request::get(&fixture.nar_path()).header("Accept-Encoding", "gzip, zstd").range("5-");
    let mut encoded = request.send(upstream.addr()).await.expect("an answer");
    assert_eq!((encoded.status, encoded.header("Content-Encoding")), (200, Some("zstd")));
    assert_ne!(encoded.header("ETag"), plain.header("ETag"));
    assert!(!encoded.headers.has("Accept-Ranges"));
    let body = decode(Compression::Zstd, &encoded.whole().await).expect("it is zstd");
    assert_eq!(body, fixture.file.to_bytes());
    rule.remove();
    upstream.script(Rule::on("*").zstd());
    let unasked = get(&upstream, &fixture.nar_path()).await;
    assert_eq!(unasked.header("Content-Encoding"), Some("zstd"));
}

#[tokio::test]
async fn headers_are_left_out() {
    let (upstream, fixture) = one().await;
    upstream.script(Rule::on("*").without_header("etag").without_header("Accept-Ranges"));
    let answer = get(&upstream, &fixture.nar_path()).await;
    assert!(!answer.headers.has("ETag") && !answer.headers.has("Accept-Ranges"));
    upstream.behave();
    assert!(get(&upstream, &fixture.nar_path()).await.headers.has("ETag"));
    wait::eventually("an idle upstream", async || upstream.active() == 0).await;
}
