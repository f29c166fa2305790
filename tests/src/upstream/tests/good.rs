//! What a good upstream does.

use super::*;

#[tokio::test]
async fn cache_info_narinfo_and_nar() {
    let (upstream, fixture) = one().await;
    let info = get(&upstream, "/nix-cache-info").await.text().await;
    assert_eq!(info, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
    let mut narinfo = get(&upstream, &fixture.narinfo_path()).await;
    assert_eq!((narinfo.status, narinfo.header("Content-Type")), (200, Some("text/x-nix-narinfo")));
    assert_eq!(narinfo.text().await, fixture.narinfo_text());
    let mut nar = get(&upstream, &fixture.nar_path()).await;
    assert_eq!(nar.headers.number("Content-Length"), Some(fixture.file.len()));
    assert_eq!(nar.header("Accept-Ranges"), Some("bytes"));
    assert_eq!(nar.whole().await, fixture.file.to_bytes());
    assert_eq!(get(&upstream, "/nar/other").await.status, 404);
}

#[tokio::test]
async fn head_has_the_same_header_and_no_body() {
    let (upstream, fixture) = one().await;
    let mut connection = crate::Connection::open(upstream.addr()).await.expect("it listens");
    let head = connection.send(Request::head(&fixture.nar_path())).await.expect("an answer");
    let head = (head.status, head.headers);
    let get = connection.get(&fixture.nar_path()).await.expect("another answer");
    assert_eq!(head, (get.status, get.headers.clone()));
}

#[tokio::test]
async fn ranges() {
    let (upstream, fixture) = one().await;
    let (all, len) = (fixture.file.to_bytes(), fixture.file.len());
    for (range, from, to) in
        [("0-0", 0, 1), ("150000-", 150_000, len), ("-10", len - 10, len), ("7-9999", 7, 10_000)]
    {
        let request = Request::get(&fixture.nar_path()).range(range);
        let mut response = request.send(upstream.addr()).await.expect("an answer");
        assert_eq!(response.status, 206);
        let content_range = format!("bytes {from}-{}/{len}", to - 1);
        assert_eq!(response.header("Content-Range"), Some(&content_range[..]));
        assert_eq!(response.whole().await, all.slice(from as usize..to as usize));
    }
    let request = Request::get(&fixture.nar_path()).range(&format!("{len}-"));
    let response = request.send(upstream.addr()).await.expect("an answer");
    assert_eq!(response.status, 416);
    assert_eq!(response.header("Content-Range"), Some(&format!("bytes */{len}")[..]));
}

#[tokio::test]
async fn conditions() {
    let (upstream, fixture) = one().await;
    let path = fixture.nar_path();
    let etag = get(&upstream, &path).await.header("ETag").expect("it has one").to_owned();
    let status = async |request: Request| request.send(upstream.addr()).await.expect("an answer").status;
    assert_eq!(status(Request::get(&path).header("If-None-Match", &etag)).await, 304);
    assert_eq!(status(Request::get(&path).header("If-None-Match", "\"other\"")).await, 200);
    assert_eq!(status(Request::get(&path).range("5-").header("If-Range", &etag)).await, 206);
    assert_eq!(status(Request::get(&path).range("5-").header("If-Range", "\"other\"")).await, 200);
}

#[tokio::test]
async fn queries_are_ignored_or_required() {
    let upstream = Upstream::start().await;
    upstream.put("/nar/x.nar?hash=abc", "x");
    assert_eq!(get(&upstream, "/nar/x.nar").await.status, 200);
    upstream.require_queries(true);
    assert_eq!(get(&upstream, "/nar/x.nar").await.status, 404);
    assert_eq!(get(&upstream, "/nar/x.nar?hash=abd").await.status, 404);
    assert_eq!(get(&upstream, "/nar/x.nar?hash=abc").await.status, 200);
    assert_eq!(upstream.requests()[2].query.as_deref(), Some("hash=abd"));
}

#[tokio::test]
async fn credentials_are_required() {
    let (upstream, fixture) = one().await;
    upstream.require_authorization(Some("Basic dTpw"));
    let refused = get(&upstream, &fixture.narinfo_path()).await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers.has("WWW-Authenticate"));
    let request = Request::get(&fixture.narinfo_path()).header("Authorization", "Basic dTpw");
    assert_eq!(request.send(upstream.addr()).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_directory_is_served_but_nothing_above_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(dir.path().join("cache")).expect("room");
    std::fs::write(dir.path().join("cache/nix-cache-info"), "StoreDir: /nix/store\n").expect("room");
    std::fs::write(dir.path().join("secret"), "secret").expect("room");
    let upstream = Upstream::start().await;
    upstream.serve_dir(&dir.path().join("cache"));
    assert_eq!(get(&upstream, "/nix-cache-info").await.text().await, "StoreDir: /nix/store\n");
    for path in ["/../secret", "//etc/passwd", "/", "/cache"] {
        assert_eq!(get(&upstream, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn writing_is_refused_and_the_connection_goes_on() {
    let (upstream, fixture) = one().await;
    let mut connection = crate::Connection::open(upstream.addr()).await.expect("it listens");
    let put = Request::put("/x.narinfo", vec![0; 100_000]);
    let mut refused = connection.send(put).await.expect("an answer");
    assert_eq!(refused.status, 405);
    refused.whole().await;
    assert_eq!(connection.get(&fixture.narinfo_path()).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_huge_file_is_streamed() {
    let fixture = Fixture::new("huge").size(256 << 20).compression(Compression::None).build_unsigned();
    let upstream = Upstream::with(&[&fixture]).await;
    let digest = get(&upstream, &fixture.nar_path()).await.digest().await;
    assert!(digest.whole);
    assert_eq!((digest.sha256, digest.len), (fixture.file_hash().0, fixture.narinfo.nar_size));
}
