//! A cold NAR on its way through a fleet, and then something goes: the edge that fetches is killed or cut off, or control
//! is. Nobody gets wrong bytes, nobody hangs, who reads at an edge that lives gets one unbroken body, and the upstream is
//! asked at most once more. Each fault alone, and 20 in random order on one fleet.
//!
//! The order follows from a seed, which is printed; `NCPS_SEED` repeats one, and `NCPS_ROUNDS` asks for more rounds. With the
//! size of a large NAR, many clients and long ways it is run by the command in `docs/OPERATIONS.md`.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use ncps_nix::Sha256Hash;
use ncps_tests::client::Digest;
use ncps_tests::{
    Fixture, Fleet, Gate, Link, Request, Response, Rule, SplitMix, Upstream, UpstreamKey, eventually, in_time,
};
use tokio::task::JoinHandle;

use crate::processes::UNDER_TEST;
use crate::scene::plain;

const EDGES: usize = 3;
const ROUNDS: u64 = 20;
/// What each client has before the fault.
const BEGUN: usize = 1000;

/// Long enough that a call of an edge gets no answer in time, and too short for an outage.
const SLOW: Duration = Duration::from_millis(1200);

/// How much of everything there is.
#[derive(Clone, Copy, Debug)]
struct Size {
    nar: u64,
    clients_of_an_edge: usize,
    /// Half of a round trip, both.
    to_upstream: Duration,
    between_edges: Duration,
}

const SMALL: Size =
    Size { nar: 4 << 20, clients_of_an_edge: 4, to_upstream: Duration::ZERO, between_edges: Duration::ZERO };
const FULL: Size = Size {
    nar: 200_000_000,
    clients_of_an_edge: 20,
    to_upstream: Duration::from_millis(50),
    between_edges: Duration::from_millis(1),
};

#[derive(Clone, Copy, Debug)]
enum Fault {
    FetcherKilled,
    FetcherCutFromControl,
    FetcherCutFromPeers,
    ControlKilled,
    ControlRestarted,
    /// Nobody hears of control for a moment, just when it has to be asked whose turn it is now.
    FetcherKilledControlSlow,
}

const FAULTS: [Fault; 6] = [
    Fault::FetcherKilled,
    Fault::FetcherKilledControlSlow,
    Fault::FetcherCutFromControl,
    Fault::FetcherCutFromPeers,
    Fault::ControlKilled,
    Fault::ControlRestarted,
];

impl Fault {
    /// How often the upstream may be asked again for the rest.
    fn more_fetches(self) -> RangeInclusive<usize> {
        match self {
            // The others have 30 %: one of them fetches what is missing.
            Fault::FetcherKilled | Fault::FetcherKilledControlSlow | Fault::FetcherCutFromPeers => 1..=1,
            Fault::FetcherCutFromControl => 0..=1,
            // Where nobody can be asked whose turn it is, each may go.
            Fault::ControlKilled | Fault::ControlRestarted => 0..=EDGES - 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_that_fetches_is_killed() {
    alone(Fault::FetcherKilled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_that_fetches_is_killed_while_control_is_slow() {
    alone(Fault::FetcherKilledControlSlow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_that_fetches_is_cut_off_from_control() {
    alone(Fault::FetcherCutFromControl).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_that_fetches_is_cut_off_from_its_peers() {
    alone(Fault::FetcherCutFromPeers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_killed() {
    alone(Fault::ControlKilled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_is_restarted() {
    alone(Fault::ControlRestarted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_faults_one_after_the_other() {
    in_random_order(SMALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "25 times 12 GB, and as much of a disk as 15: for a machine that does nothing else"]
async fn faults_with_many_clients_of_a_large_nar() {
    for fault in FAULTS {
        alone_at(FULL, fault).await;
    }
    in_random_order(FULL).await;
}

async fn in_random_order(size: Size) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (seed, rounds) = (number("NCPS_SEED").unwrap_or_else(now), number("NCPS_ROUNDS").unwrap_or(ROUNDS));
    println!("repeated by NCPS_SEED={seed}");
    let (mut random, mut scene) = (SplitMix(seed), Scene::start(size).await);
    for round in 0..rounds {
        let mut pick = |of: usize| (random.next() % of as u64) as usize;
        let (fault, fetcher) = (FAULTS[pick(FAULTS.len())], pick(EDGES));
        scene.round(round, fault, fetcher).await;
    }
    scene.fleet.end().await;
}

async fn alone(fault: Fault) {
    alone_at(SMALL, fault).await;
}

async fn alone_at(size: Size, fault: Fault) {
    let mut scene = Scene::start(size).await;
    scene.round(0, fault, 0).await;
    scene.fleet.end().await;
}

struct Scene {
    size: Size,
    fleet: Fleet,
    upstream: Upstream,
    _wan: Link,
    key: UpstreamKey,
}

/// A client that has the beginning of a body.
struct Begun {
    edge: usize,
    start: Vec<u8>,
    response: Response,
}

impl Scene {
    async fn start(size: Size) -> Scene {
        let (key, upstream) = (UpstreamKey::new("upstream-1"), Upstream::start().await);
        let wan = Link::tcp(upstream.addr()).await;
        let fleet = Fleet::new(UNDER_TEST, EDGES, &format!("http://{}", wan.addr()), &key).await;
        // A loaded machine is no upstream that stalls.
        let fleet = fleet.control_flag("--upstream-idle-timeout=20s").started().await;
        wan.delay(size.to_upstream);
        let links = fleet.edges().iter().flat_map(|edge| [&edge.link, &edge.front]);
        links.for_each(|link| link.delay(size.between_edges));
        Scene { size, fleet, upstream, _wan: wan, key }
    }

    /// One fault, while all edges are in the middle of one file. Afterwards all is whole again.
    async fn round(&mut self, round: u64, fault: Fault, fetcher: usize) {
        let fixture = plain(self.size.nar).seed(round).build(&self.key);
        self.upstream.add(&fixture);
        let at_30_percent = Gate::new();
        let pause = Rule::on(&fixture.nar_path()).pause_at(self.size.nar * 3 / 10, &at_30_percent);
        let pause = self.upstream.script(pause);
        let started = Instant::now();
        let begun = self.all_begin(&fixture, fetcher).await;
        at_30_percent.reached().await;
        let killed = self.strike(fault, fetcher).await;
        at_30_percent.open();
        self.all_end_right(&fixture, begun, killed).await;
        let (took, more) = (started.elapsed(), self.upstream.count("GET", &fixture.nar_path()) - 1);
        println!("round {round}: {fault:?}, edge {fetcher} fetches: {more} more fetches, {took:.1?}");
        assert!(
            fault.more_fetches().contains(&more),
            "{more} more fetches: {:#?}\n{}",
            self.upstream.requests_to(&fixture.nar_path()),
            self.lines_about(&fixture)
        );
        pause.remove();
        self.mend(fetcher).await;
    }

    /// What the edges that live said of it.
    fn lines_about(&self, fixture: &Fixture) -> String {
        let path = fixture.nar_path();
        let name = path.rsplit('/').next().unwrap_or(&path);
        let lines = (0..EDGES).filter(|edge| self.fleet.at(*edge).runs()).flat_map(|edge| {
            let lines = self.fleet.at(edge).lines().into_iter();
            lines.filter(|line| line.contains(name)).map(move |line| format!("edge {edge}: {line}\n"))
        });
        lines.collect()
    }

    /// The first one at the edge that is to fetch, then all others.
    async fn all_begin(&self, fixture: &Fixture, fetcher: usize) -> Vec<Begun> {
        for edge in self.fleet.edges() {
            assert_eq!(edge.get(&fixture.narinfo_path()).await.status, 200);
        }
        let first = self.begins(fixture, fetcher).await;
        let others = (0..EDGES * self.size.clients_of_an_edge - 1).map(|n| self.begins(fixture, n % EDGES));
        let mut all = join_all(others).await;
        all.push(first);
        all
    }

    async fn begins(&self, fixture: &Fixture, edge: usize) -> Begun {
        let mut response = self.fleet.at(edge).get(&fixture.nar_path()).await;
        assert_eq!(response.status, 200, "at edge {edge}");
        let start = response.bytes(BEGUN).await.expect("its beginning").to_vec();
        Begun { edge, start, response }
    }

    /// Returns the edge that was killed.
    async fn strike(&mut self, fault: Fault, fetcher: usize) -> Option<usize> {
        match fault {
            Fault::FetcherKilled => {
                self.fleet.kill_edge(fetcher).await;
                return Some(fetcher);
            }
            Fault::FetcherKilledControlSlow => {
                self.fleet.edges().iter().for_each(|edge| edge.link.hang());
                self.fleet.kill_edge(fetcher).await;
                tokio::time::sleep(SLOW).await;
                join_all(self.fleet.edges().iter().map(|edge| edge.link.mend())).await;
                return Some(fetcher);
            }
            Fault::FetcherCutFromControl => self.fleet.at(fetcher).link.refuse().await,
            Fault::FetcherCutFromPeers => self.fleet.at(fetcher).front.refuse().await,
            Fault::ControlKilled => self.fleet.kill_control().await,
            Fault::ControlRestarted => {
                self.fleet.kill_control().await;
                self.fleet.start_control();
            }
        }
        None
    }

    async fn all_end_right(&self, fixture: &Fixture, begun: Vec<Begun>, killed: Option<usize>) {
        let right = fixture.nar.sha256();
        let ends = begun.into_iter().map(|client| {
            let is_killed = killed == Some(client.edge);
            tokio::spawn(async move { client.ends(right, is_killed).await })
        });
        let ends: Vec<JoinHandle<()>> = ends.collect();
        for end in ends {
            in_time("the end of a body", end).await.expect("the right bytes");
        }
        // Whom the killed edge left asks another one.
        let other = (0..EDGES).find(|edge| killed != Some(*edge)).expect("one lives");
        let request = Request::get(&fixture.nar_path()).send(self.fleet.at(other).addr());
        let Digest { sha256, whole, .. } = request.await.expect("an answer").digest().await;
        assert!(whole && sha256 == right, "wrong bytes at edge {other}");
    }

    async fn mend(&mut self, fetcher: usize) {
        if !self.fleet.has_control() {
            self.fleet.start_control();
        }
        self.fleet.at(fetcher).link.mend().await;
        self.fleet.at(fetcher).front.mend().await;
        if !self.fleet.at(fetcher).runs() {
            self.fleet.start_edge(fetcher);
            self.fleet.ready(fetcher).await;
        }
        let (fleet, wanted) = (&self.fleet, EDGES);
        eventually("all are attached", async || fleet.attached().await.len() == wanted).await;
    }
}

impl Begun {
    /// What is cut short is not compared: that its beginning was right is seen where it goes on.
    async fn ends(mut self, right: Sha256Hash, is_killed: bool) {
        let Digest { sha256, whole, .. } = self.response.digest_after(&self.start).await;
        assert!(whole || is_killed, "cut at edge {}, which lives", self.edge);
        assert!(!whole || sha256 == right, "wrong bytes at edge {}", self.edge);
    }
}
