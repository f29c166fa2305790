//! Links, with an upstream behind them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::{self, BodyError};
use crate::{Connection, Rule, Upstream, eventually, in_time};

async fn status(link: &Link) -> io::Result<u16> {
    client::get(link.addr(), "/nix-cache-info").await.map(|response| response.status)
}

#[tokio::test]
async fn passes_cuts_refuses_and_mends() {
    let upstream = Upstream::start().await;
    let link = Link::tcp(upstream.addr()).await;
    let mut connection = Connection::open(link.addr()).await.expect("the link is whole");
    connection.get("/nix-cache-info").await.expect("an answer").whole().await;
    assert!(link.bytes_passed() > 0);
    link.cut();
    connection.get("/nix-cache-info").await.expect_err("it was cut");
    assert_eq!(status(&link).await.expect("new ones pass"), 200);
    for _ in 0..2 {
        link.refuse().await;
        assert_eq!(status(&link).await.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
        link.mend().await;
        assert_eq!(status(&link).await.expect("it is whole again"), 200);
    }
    assert_eq!(link.connections(), 4);
}

#[tokio::test]
async fn breaks_at_a_byte() {
    let upstream = Upstream::start().await;
    upstream.put("/x", vec![0; 100_000]);
    let link = Link::tcp(upstream.addr()).await;
    for bytes in [1, 50, 70_000] {
        let before = link.bytes_passed();
        link.break_after(bytes);
        let broken = match client::get(link.addr(), "/x").await {
            Ok(mut response) => response.bytes(100_000).await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{bytes}");
        eventually("it has passed", async || link.bytes_passed() == before + bytes).await;
        assert_eq!(client::get(link.addr(), "/x").await.expect("whole").whole().await.len(), 100_000);
    }
}

#[tokio::test]
async fn a_body_on_its_way_breaks_with_the_link() {
    let upstream = Upstream::start().await;
    upstream.put("/x", vec![0; 1000]);
    upstream.script(Rule::on("/x").stall_after(500));
    let link = Link::tcp(upstream.addr()).await;
    let mut response = client::get(link.addr(), "/x").await.expect("a head");
    response.bytes(500).await.expect("so much comes");
    link.cut();
    assert!(matches!(response.chunk().await, Err(BodyError::Truncated(_))));
    upstream.wait_idle().await;
}

#[tokio::test]
async fn what_hangs_goes_on_when_mended() {
    let upstream = Upstream::start().await;
    let link = Link::tcp(upstream.addr()).await;
    link.hang();
    let addr = link.addr();
    let client = tokio::spawn(async move { client::get(addr, "/nix-cache-info").await });
    eventually("the connection", async || link.connections() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!client.is_finished());
    assert_eq!(upstream.total(), 0);
    link.mend().await;
    let answer = in_time("the answer", client).await.expect("no panic").expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_long_way_takes_its_time_and_all_arrives() {
    const ONE_WAY: Duration = Duration::from_millis(50);
    let upstream = Upstream::start().await;
    upstream.put("/x", vec![7; 3 << 20]);
    let link = Link::tcp(upstream.addr()).await;
    link.delay(ONE_WAY);
    let started = std::time::Instant::now();
    let mut response = client::get(link.addr(), "/x").await.expect("whole");
    assert!(started.elapsed() >= 4 * ONE_WAY, "a round trip to connect, one to ask");
    assert!(response.whole().await == vec![7; 3 << 20]);
    link.delay(Duration::ZERO);
    assert!(client::get(link.addr(), "/x").await.expect("whole").whole().await == vec![7; 3 << 20]);
}

#[tokio::test]
async fn a_narrow_link_takes_its_time_for_all_connections_together() {
    let upstream = Upstream::start().await;
    upstream.put("/x", vec![7; 100_000]);
    let link = Link::tcp(upstream.addr()).await;
    link.throttle(1_000_000);
    let started = std::time::Instant::now();
    let body = async || client::get(link.addr(), "/x").await.expect("whole").whole().await.len();
    assert_eq!(tokio::join!(body(), body()), (100_000, 100_000));
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_is_lost_is_late_or_breaks_its_connection_or_silences_it() {
    let upstream = Upstream::start().await;
    let link = Link::tcp(upstream.addr()).await;
    let (late, breaks, silent) = (1000, 1000, 1000);
    link.lose(Loss { late, breaks: 0, silent: 0 }, 1);
    let started = std::time::Instant::now();
    assert_eq!(status(&link).await.expect("it comes"), 200);
    assert!(started.elapsed() >= Duration::from_millis(400), "on both ways");
    link.lose(Loss { late: 0, breaks, silent: 0 }, 1);
    status(&link).await.expect_err("it broke");
    link.lose(Loss { late: 0, breaks: 0, silent }, 1);
    let addr = link.addr();
    let client = tokio::spawn(async move { client::get(addr, "/nix-cache-info").await });
    eventually("it fell silent", async || link.lost() == 2).await;
    link.mend().await;
    assert_eq!(status(&link).await.expect("new ones pass"), 200);
    assert!(!client.is_finished(), "nobody was told");
    link.cut();
    in_time("the end", client).await.expect("no panic").expect_err("it was cut");
}

#[tokio::test]
async fn a_target_that_is_away_breaks_the_connection() {
    let upstream = Upstream::start_down();
    let link = Link::tcp(upstream.addr()).await;
    status(&link).await.expect_err("nobody is there");
    upstream.up().await;
    assert_eq!(status(&link).await.expect("somebody is"), 200);
}

#[tokio::test]
async fn unix_sockets() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [near, far] = ["near", "far"].map(|name| dir.path().join(name));
    let listener = UnixListener::bind(&far).expect("a free place");
    let link = Link::unix(&near, far.as_path()).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(b"hello").await);
            drop(stream.read_u8().await);
        }
    });
    let connect = async || {
        let mut stream = tokio::net::UnixStream::connect(&near).await?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.map(|_| (stream, greeting))
    };
    let (mut stream, greeting) = connect().await.expect("the link is whole");
    assert_eq!(&greeting, b"hello");
    link.cut();
    assert_eq!(stream.read(&mut [0]).await.ok(), Some(0));
    link.refuse().await;
    assert_eq!(connect().await.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
    link.mend().await;
    connect().await.expect("it is whole again");
    assert_eq!(link.endpoint(), Endpoint::Unix(near.clone()));
}
