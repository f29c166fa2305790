//! One cold NAR and a fleet that wants it all at once: 60 clients of three edges, 100 ms away from the upstream and 2 ms
//! from each other and from control.
//!
//! With the size of a large NAR, and with a limit to how late the last edge may be, it is run by
//! `cargo test --workspace --test it -- --ignored --nocapture the_last_edge_has_its_first_byte`.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ncps_tests::client::Digest;
use ncps_tests::{Fixture, Fleet, Link, Request, Upstream, UpstreamKey, eventually};
use tokio::sync::Barrier;

use crate::processes::UNDER_TEST;
use crate::scene::plain;

const EDGES: usize = 3;
const CLIENTS: usize = 60;
/// Half of a round trip.
const TO_UPSTREAM: Duration = Duration::from_millis(50);
const BETWEEN_EDGES: Duration = Duration::from_millis(1);
/// How much later than the first edge the last one may have its first byte.
const MOST_LATE: f64 = 1.3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_clients_of_three_edges_cost_one_fetch() {
    let cold = Cold::start(8 << 20).await;
    cold.is_read_by_all().await;
    cold.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "12 GB, and an assertion about time: for a quiet machine"]
async fn the_last_edge_has_its_first_byte_nearly_as_soon_as_the_first() {
    let cold = Cold::start(200_000_000).await;
    let late = cold.is_read_by_all().await;
    assert!(late <= MOST_LATE, "the last edge was {late:.2} times as late as the first");
    cold.end().await;
}

/// Edges that know the narinfo of a file which only an upstream far away has.
struct Cold {
    fleet: Fleet,
    upstream: Upstream,
    _wan: Link,
    fixture: Fixture,
}

/// What a client had of it.
struct Had {
    edge: usize,
    /// From the moment at which all asked.
    first_byte: Duration,
    digest: Digest,
}

impl Cold {
    async fn start(size: u64) -> Cold {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let wan = Link::tcp(upstream.addr()).await;
        let fixture = plain(size).build(&key);
        upstream.add(&fixture);
        let fleet = Fleet::new(UNDER_TEST, EDGES, &format!("http://{}", wan.addr()), &key).await;
        // A loaded machine is no upstream that stalls.
        let fleet = fleet.control_flag("--upstream-idle-timeout=20s").started().await;
        wan.delay(TO_UPSTREAM);
        fleet
            .edges()
            .iter()
            .flat_map(|edge| [&edge.link, &edge.front])
            .for_each(|link| link.delay(BETWEEN_EDGES));
        assert_eq!(fleet.at(0).get(&fixture.narinfo_path()).await.status, 200);
        Cold { fleet, upstream, _wan: wan, fixture }
    }

    /// All ask at once and get the right bytes, which cross the WAN once. Returns how many times as late as the first
    /// edge the last one was with its first byte.
    async fn is_read_by_all(&self) -> f64 {
        let barrier = Barrier::new(CLIENTS);
        let all = join_all((0..CLIENTS).map(|n| self.client(n % EDGES, &barrier))).await;
        for had in &all {
            let Digest { sha256, whole, .. } = had.digest;
            assert!(whole && sha256 == self.fixture.nar.sha256(), "at edge {}: {:?}", had.edge, had.digest);
        }
        let fetches = self.upstream.count("GET", &self.fixture.nar_path());
        assert_eq!(fetches, 1, "{:?}", self.upstream.requests());
        lateness(&all)
    }

    async fn client(&self, edge: usize, barrier: &Barrier) -> Had {
        barrier.wait().await;
        let asked = Instant::now();
        let request = Request::get(&self.fixture.nar_path());
        let mut response = request.send(self.fleet.at(edge).addr()).await.expect("an answer");
        assert_eq!(response.status, 200, "at edge {edge}");
        let digest = response.digest().await;
        Had { edge, first_byte: digest.first.expect("a byte") - asked, digest }
    }

    async fn end(self) {
        let kept = async || self.fleet.edges().iter().all(|edge| edge.stores(&self.fixture.nar_path()));
        eventually("every edge keeps it", kept).await;
        self.fleet.end().await;
    }
}

fn lateness(all: &[Had]) -> f64 {
    let first = |edge| all.iter().filter(|had| had.edge == edge).map(|had| had.first_byte).min();
    let mut edges: Vec<_> = (0..EDGES).filter_map(first).collect();
    edges.sort_unstable();
    let clients = all.iter().map(|had| had.first_byte).max().unwrap_or_default();
    let (soonest, latest) = (edges[0], edges[EDGES - 1]);
    let late = latest.as_secs_f64() / soonest.as_secs_f64();
    println!(
        "first bytes: {edges:?} at the edges, {late:.2} times as late at the last; all clients after {clients:?}"
    );
    late
}
