//! The kinds, asked as Nix asks them.

use super::*;
use crate::{Outcome, Request, Response, decode};

/// Three paths, of which one refers to the others.
fn closure(kind: Kind) -> Vec<Fixture> {
    let key = UpstreamKey::new("zoo-1");
    let part = |name: &str, nth| kind.fixture(Fixture::new(name).size(100_000), nth, &key);
    let (first, second) = (part("first-1.0", 0), part("second-1.0", 1));
    let references = [first.store_path().clone(), second.store_path().clone()];
    let top = Fixture::new("top-1.0").references(&references).deriver(first.store_path().clone());
    vec![kind.fixture(top, 2, &key), first, second]
}

async fn ask(pen: &Pen, of: &crate::Upstream, request: Request) -> Response {
    let request = match pen.kind.login {
        Some((user, password)) => request.header("Authorization", &super::pen::basic(user, password)),
        None => request,
    };
    request.send(of.addr()).await.expect("an answer")
}

/// The NAR file, redirects followed.
async fn nar(pen: &Pen, fixture: &Fixture) -> Outcome {
    let mut answer = ask(pen, &pen.cache, Request::get(&pen.path(&fixture.nar_path()))).await;
    if let Some(target) = answer.header("Location") {
        let path = target.strip_prefix(&pen.bucket.url()).expect("to the bucket").to_owned();
        answer = ask(pen, &pen.bucket, Request::get(&path)).await;
    }
    assert_eq!(answer.status, 200, "{}", pen.kind.name);
    answer.outcome().await
}

async fn is_a_cache(kind: Kind) {
    let fixtures = closure(kind);
    let pen = kind.with(&fixtures.iter().collect::<Vec<_>>()).await;
    let mut info = ask(&pen, &pen.cache, Request::get(&pen.path("/nix-cache-info"))).await;
    assert!(info.text().await.contains("Priority: "), "{}", kind.name);
    for fixture in &fixtures {
        let request = Request::get(&pen.path(&fixture.narinfo_path()));
        let mut answer = ask(&pen, &pen.cache, request).await;
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/x-nix-narinfo")));
        let text = match answer.header("Content-Encoding") {
            Some(_) => zstd::decode_all(&answer.whole().await[..]).expect("it is zstd"),
            None => answer.whole().await.to_vec(),
        };
        let narinfo = ncps_nix::NarInfo::parse(&text).expect("a narinfo");
        assert_eq!((narinfo.nar_hash, &narinfo.url), (fixture.narinfo.nar_hash, &fixture.narinfo.url));
        assert_eq!(narinfo.references.len(), fixture.narinfo.references.len(), "{}", kind.name);
        let file = nar(&pen, fixture).await.whole();
        let decoded = decode(narinfo.compression, &file).expect("it is whole");
        assert!(decoded == fixture.nar.to_bytes(), "{}", kind.name);
    }
    let absent = Request::get(&pen.path("/00000000000000000000000000000000.narinfo"));
    assert!(matches!(ask(&pen, &pen.cache, absent).await.status, 404 | 403), "{}", kind.name);
}

macro_rules! each {
    ($($kind:ident)*) => {$(
        #[tokio::test]
        async fn $kind() {
            is_a_cache(super::$kind()).await;
        }
    )*};
}

crate::kinds!(each);

#[tokio::test]
async fn who_has_no_login_is_a_stranger() {
    for kind in [super::cachix_private(), super::attic_chunked()] {
        let pen = kind.with(&[]).await;
        let answer = Request::get(&pen.path("/nix-cache-info")).send(pen.cache.addr()).await;
        assert_eq!(answer.expect("an answer").status, 401, "{}", kind.name);
    }
}
