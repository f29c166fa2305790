//! The upstream, proven with the raw client.

mod control;
mod framing;
mod good;
mod lies;
mod styles;
mod timing;

use bytes::Bytes;
use ncps_nix::Compression;

use crate::{Fixture, Outcome, Request, Response, Rule, Upstream};

/// An upstream with one fixture of about 200 kB, and that fixture.
async fn one() -> (Upstream, Fixture) {
    let fixture = Fixture::new("hello-1.0").size(200_000).compression(Compression::None).build_unsigned();
    (Upstream::with(&[&fixture]).await, fixture)
}

async fn get(upstream: &Upstream, path: &str) -> Response {
    Request::get(path).send(upstream.addr()).await.expect("an answer")
}

/// What becomes of the NAR under a rule.
async fn nar_under(rule: Rule) -> (Outcome, Bytes) {
    let (upstream, fixture) = one().await;
    upstream.script(rule);
    let outcome = get(&upstream, &fixture.nar_path()).await.outcome().await;
    (outcome, fixture.file.to_bytes())
}
