//! Every process of a fleet is renewed, one after the other, and no client notices: edges behind a balancer that looks at
//! `/readyz`, then control.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ncps_tests::{Balancer, Fixture, Fleet, Request, Upstream, UpstreamKey, eventually};
use tokio_util::sync::CancellationToken;

use crate::processes::UNDER_TEST;
use crate::scene::plain;

const EDGES: usize = 3;
const CLIENTS: usize = 6;
/// Some are warm, the others are asked for one after the other while processes go and come.
const PATHS: usize = 200;
const SIZE: u64 = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_all_edges_and_control_are_restarted() {
    let (key, upstream) = (UpstreamKey::new("upstream-1"), Upstream::start().await);
    let fixtures: Vec<_> = (0..PATHS).map(|seed| plain(SIZE).seed(seed as u64).build(&key)).collect();
    fixtures.iter().for_each(|fixture| upstream.add(fixture));
    let fleet = Fleet::new(UNDER_TEST, EDGES, &upstream.url(), &key).await;
    // Longer than the balancer needs to see that an edge is not ready.
    let mut fleet = fleet.edge_flag("--shutdown-delay=3s").started().await;
    let balancer = Balancer::before(fleet.edges().iter().map(|edge| edge.addr()));
    eventually("all get connections", async || balancer.ready() == EDGES).await;

    let load = Load::start(balancer.addr(), fixtures);
    load.goes_on().await;
    for edge in 0..EDGES {
        fleet.terminate_edge(edge).await;
        load.goes_on().await;
        fleet.start_edge(edge);
        fleet.ready(edge).await;
        eventually("it gets connections", async || balancer.ready() == EDGES).await;
    }
    fleet.terminate_control().await;
    load.goes_on().await;
    fleet.start_control();
    eventually("all are attached", async || fleet.attached().await.len() == EDGES).await;
    load.goes_on().await;
    load.end().await;
    fleet.end().await;
}

/// Clients that ask for one path after the other, narinfo and NAR, until they are told to end. A request that fails
/// fails the test.
struct Load {
    done: Arc<AtomicUsize>,
    enough: CancellationToken,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(addr: SocketAddr, fixtures: Vec<Fixture>) -> Load {
        let (done, enough, fixtures) = (Arc::default(), CancellationToken::new(), Arc::new(fixtures));
        let client = |n| {
            let client = Client { addr, done: Arc::clone(&done), fixtures: Arc::clone(&fixtures) };
            let enough = enough.clone();
            tokio::spawn(async move {
                let mut next = n;
                while !enough.is_cancelled() {
                    client.has(next % PATHS).await;
                    next += 1;
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load { done, enough, clients }
    }

    /// Waits for more than any of its clients can have in flight.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        let more = async || {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a request failed");
            self.done.load(Ordering::Relaxed) > before + 2 * CLIENTS
        };
        eventually("requests that are answered", more).await;
    }

    async fn end(self) {
        self.enough.cancel();
        for client in self.clients {
            client.await.expect("no request failed");
        }
        println!("{} paths were had", self.done.load(Ordering::Relaxed));
    }
}

struct Client {
    addr: SocketAddr,
    done: Arc<AtomicUsize>,
    fixtures: Arc<Vec<Fixture>>,
}

impl Client {
    async fn has(&self, path: usize) {
        let fixture = &self.fixtures[path];
        let narinfo = self.gets(&fixture.narinfo_path()).await;
        assert!(narinfo.starts_with(b"StorePath: "));
        assert!(self.gets(&fixture.nar_path()).await == fixture.file.to_bytes());
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    async fn gets(&self, path: &str) -> bytes::Bytes {
        let mut response = Request::get(path).send(self.addr).await.expect("an answer");
        let (status, body) = (response.status, response.whole().await);
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }
}
