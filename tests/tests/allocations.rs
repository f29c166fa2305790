//! How often memory is asked for to answer one warm narinfo: a number that does not depend on the machine or its load,
//! where a time would. What makes the answer dearer by one allocation fails here, and whoever means it states the new
//! number.
//!
//! A whole request is counted, from the client's bytes to the last byte of the answer: hyper, the edge's front, the
//! near cache, the metrics and, the second time, the line of the log as it is written by default. The edge is a real one
//! with its port, and everything runs on the test's thread, which is the only one that is counted. The client asks for no
//! memory. The allocator that counts is that of this test binary alone.
//!
//! Absent on purpose: time, bytes, connecting, TLS and HTTP/2.

use ncps_nix::StorePath;
use ncps_runtime::logs::{self, LogFilter, LogFormat, LogOptions};
use ncps_tests::cluster::Mode;
use ncps_tests::{Cluster, Fixture, Upstream, UpstreamKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// 12 are counted, in each of the requests. None is to spare.
const BUDGET: u64 = 12;
/// 52 are counted: the line itself takes 40.
const BUDGET_LOGGED: u64 = 52;

const REFERENCES: u64 = 30;
/// What Nix sends with each.
const HEADERS: &str = "Host: cache.test\r\nUser-Agent: curl/8.18.0 Nix/2.34.0\r\nAccept: */*\r\nAccept-Encoding: zstd, br, gzip\r\n";
/// Before it is counted, for what is made once and kept.
const WARM_UP: usize = 50;
/// Requests that are counted. Background work falls into some of them, so their median counts.
const COUNTED: usize = 101;

#[test]
fn a_warm_narinfo_keeps_to_its_budget() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (cluster, fixture) = runtime.block_on(warm());
    let mut client = runtime.block_on(Client::connect(&cluster, &fixture));
    let silent = client.median(&runtime);
    let logged = tracing::subscriber::with_default(logging(), || client.median(&runtime));
    drop(client);
    runtime.block_on(cluster.end());
    assert!(silent <= BUDGET, "{silent} allocations for a warm narinfo, where {BUDGET} are stated");
    assert!(logged <= BUDGET_LOGGED, "{logged} with the line of the log, where {BUDGET_LOGGED} are stated");
}

/// An edge whose near cache has the narinfo.
async fn warm() -> (Cluster, Fixture) {
    let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
    let references: Vec<StorePath> =
        (0..REFERENCES).map(|n| Fixture::new("library").seed(n).store_path()).collect();
    let fixture = Fixture::new("program-1.0").references(&references).build(&key);
    upstream.add(&fixture);
    let cluster = Cluster::builder(Mode::Combined).upstream(&upstream).trust(&key).prometheus().start().await;
    cluster.narinfo(&fixture).await;
    (cluster, fixture)
}

/// Lines as a program writes them that is told nothing else, to nowhere.
fn logging() -> impl Subscriber + Send + Sync {
    let options = LogOptions { filter: LogFilter::default(), format: LogFormat::Json };
    let lines = logs::layer(&options, false, std::io::sink);
    Registry::default().with(lines.with_filter(options.filter.to_env_filter()))
}

/// A client that asks for no memory once it is connected.
struct Client {
    stream: TcpStream,
    request: String,
    /// The last answer; all are of one length.
    answer: Vec<u8>,
}

impl Client {
    /// Asks once, and so learns how long an answer is.
    async fn connect(cluster: &Cluster, fixture: &Fixture) -> Client {
        let body = cluster.narinfo(fixture).await.render();
        let mut stream = TcpStream::connect(cluster.addr).await.expect("the edge listens");
        let request = format!("GET {} HTTP/1.1\r\n{}\r\n", fixture.narinfo_path(), HEADERS);
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(body.as_bytes()) {
            assert_ne!(stream.read_buf(&mut answer).await.expect("read"), 0, "closed before its end");
        }
        Client { stream, request, answer }
    }

    async fn ask(&mut self) {
        self.stream.write_all(self.request.as_bytes()).await.expect("sent");
        self.stream.read_exact(&mut self.answer).await.expect("read");
        assert!(self.answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }

    /// Allocations of one request in the middle of many.
    fn median(&mut self, runtime: &Runtime) -> u64 {
        let mut one = || allocation_counter::measure(|| runtime.block_on(self.ask())).count_total;
        let all: Vec<u64> = (0..WARM_UP + COUNTED).map(|_| one()).collect();
        let mut counts = all[WARM_UP..].to_vec();
        counts.sort_unstable();
        counts[COUNTED / 2]
    }
}
