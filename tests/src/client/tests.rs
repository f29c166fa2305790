//! The client against canned bytes: it must know an end from a cut whoever serves it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// Answers one connection with these bytes, and returns what it was sent until then or, if `all`,
/// until the client had sent `all` of it.
async fn canned(reply: &'static str, all: usize) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut got = Vec::new();
        while !got.windows(4).any(|window| window == b"\r\n\r\n") || got.len() < all {
            assert_ne!(stream.read_buf(&mut got).await.expect("bytes"), 0, "{got:?}");
        }
        stream.write_all(reply.as_bytes()).await.expect("the client is there");
        String::from_utf8(got).expect("text")
    });
    (addr, task)
}

async fn outcome_of(reply: &'static str) -> Outcome {
    let (addr, task) = canned(reply, 0).await;
    let outcome = get(addr, "/x").await.expect("a head").outcome().await;
    let request = task.await.expect("no panic");
    assert_eq!(request, format!("GET /x HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    outcome
}

fn whole(text: &'static str) -> Outcome {
    Outcome::Whole(text.into())
}

fn truncated(text: &'static str) -> Outcome {
    Outcome::Truncated(text.into())
}

#[tokio::test]
async fn by_length() {
    for (reply, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", whole("hello")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloxx", whole("hello")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", whole("")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", truncated("hell")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", truncated("")),
    ] {
        assert_eq!(outcome_of(reply).await, expected, "{reply}");
    }
}

#[tokio::test]
async fn by_chunks() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, expected) in [
        ("5\r\nhello\r\n0\r\n\r\n", whole("hello")),
        ("2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", whole("hello")),
        ("0\r\n\r\n", whole("")),
        ("5\r\nhello\r\n0\r\n", truncated("hello")),
        ("5\r\nhello\r\n", truncated("hello")),
        ("5\r\nhel", truncated("hel")),
        ("5\r\nhelloX\r\n0\r\n\r\n", truncated("hello")),
        ("", truncated("")),
    ] {
        let reply: &'static str = Box::leak(format!("{HEAD}{body}").into_boxed_str());
        assert_eq!(outcome_of(reply).await, expected, "{body:?}");
    }
}

#[tokio::test]
async fn by_close() {
    assert_eq!(outcome_of("HTTP/1.1 200 OK\r\n\r\nhello").await, whole("hello"));
    assert_eq!(outcome_of("HTTP/1.1 204 No Content\r\n\r\n").await, whole(""));
}

#[tokio::test]
async fn no_answer_is_an_error() {
    for reply in ["", "HTTP/1.1 200 OK\r\n", "garbage\r\n\r\n", "HTTP/1.1 x\r\n\r\n"] {
        let (addr, _task) = canned(reply, 0).await;
        get(addr, "/").await.expect_err(reply);
    }
}

#[tokio::test]
async fn reading_in_portions_and_slowly() {
    let (addr, _task) = canned("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0).await;
    let mut response = get(addr, "/").await.expect("a head");
    assert_eq!(response.bytes(2).await, Ok("he".into()));
    assert_eq!(response.framed(), Framed::Length(3));
    let start = std::time::Instant::now();
    assert_eq!(response.slowly(20).await, whole("llo"));
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn digests() {
    let (addr, _task) = canned("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 0).await;
    let digest = get(addr, "/").await.expect("a head").digest().await;
    assert_eq!((digest.len, digest.whole), (3, false));
    assert_eq!(digest.sha256, ncps_nix::Sha256Hash::of(b"abc"));
}

#[tokio::test]
async fn raw_bytes_and_odd_targets_go_out_as_they_are() {
    let (addr, task) = canned("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0).await;
    let response = raw(addr, &b"GET /\0 HTTP/1.1\r\n\r\n"[..]).await.expect("a head");
    assert_eq!((response.status, task.await.expect("no panic")), (404, "GET /\0 HTTP/1.1\r\n\r\n".into()));
    let (addr, task) = canned("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0).await;
    Request::get("/nar/../%2e%2e/x").header("Host", "h").send(addr).await.expect("a head");
    assert_eq!(task.await.expect("no panic"), "GET /nar/../%2e%2e/x HTTP/1.1\r\nHost: h\r\n\r\n");
}

#[tokio::test]
async fn uploads_by_length_and_in_chunks() {
    const REPLY: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    let put = || Request::put("/x", "hello").header("Host", "h");
    for (request, sent) in [
        (put(), "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
        (
            put().chunked(),
            "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ] {
        let (addr, task) = canned(REPLY, sent.len()).await;
        assert_eq!(request.send(addr).await.expect("a head").status, 204);
        assert_eq!(task.await.expect("no panic"), sent);
    }
}

#[tokio::test]
async fn an_expected_continue_that_does_not_come_keeps_the_body_back() {
    let (addr, task) = canned("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 0).await;
    let put = Request::put("/x", "hello").header("Host", "h").expect_continue();
    let response = put.clone().send(addr).await.expect("a head");
    assert_eq!((response.status, response.continued), (401, false));
    let head = "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(task.await.expect("no panic"), head);
    let reply = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
    let (addr, _task) = canned(reply, 0).await;
    let response = put.send(addr).await.expect("a head");
    assert_eq!((response.status, response.continued), (201, true));
}

#[tokio::test]
async fn a_cut_upload_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let upload = tokio::spawn(Request::put("/x", vec![b'x'; 100_000]).cut_after(50_000).send(addr));
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got).await;
    assert!(end.is_err());
    assert!(got.iter().filter(|byte| **byte == b'x').count() <= 50_001);
    upload.await.expect("no panic").expect_err("it was cut");
}

#[tokio::test]
async fn a_closed_connection_is_seen() {
    let (addr, _task) = canned("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 0).await;
    let mut connection = Connection::open(addr).await.expect("it listens");
    connection.get("/").await.expect("a head").whole().await;
    assert_eq!(connection.closes().await.ok(), Some(true));
}
