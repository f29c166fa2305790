//! A cold NAR on its way through a fleet, and then something goes: the edge that fetches is killed or cut off, or control
//! is. Nobody gets wrong bytes, nobody hangs, who reads at an edge that lives gets one unbroken body, and the upstream is
//! asked at most once more. Each fault alone, and 20 in random order on one fleet.
//!
//! The order follows from a seed, which is printed; `NCPS_SEED` repeats one, and `NCPS_ROUNDS` asks for more rounds.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use ncps_nix::Sha256Hash;
use ncps_tests::{
    Fixture, Fleet, Gate, Outcome, Request, Response, Rule, SplitMix, Upstream, UpstreamKey, eventually,
    in_time,
};
use tokio::task::JoinHandle;

use crate::processes::UNDER_TEST;
use crate::scene::plain;

const EDGES: usize = 3;
const CLIENTS_OF_AN_EDGE: usize = 4;
const SIZE: u64 = 4 << 20;
const ROUNDS: u64 = 20;
/// What each client has before the fault.
const BEGUN: usize = 1000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    FetcherKilled,
    FetcherCutFromControl,
    FetcherCutFromPeers,
    ControlKilled,
    ControlRestarted,
}

const FAULTS: [Fault; 5] = [
    Fault::FetcherKilled,
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
            Fault::FetcherKilled | Fault::FetcherCutFromPeers => 1..=1,
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
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let (seed, rounds) = (number("NCPS_SEED").unwrap_or_else(now), number("NCPS_ROUNDS").unwrap_or(ROUNDS));
    println!("repeated by NCPS_SEED={seed}");
    let (mut random, mut scene) = (SplitMix(seed), Scene::start().await);
    for round in 0..rounds {
        let mut pick = |of: usize| (random.next() % of as u64) as usize;
        let (fault, fetcher) = (FAULTS[pick(FAULTS.len())], pick(EDGES));
        println!("round {round}: {fault:?}, edge {fetcher} fetches");
        scene.round(round, fault, fetcher).await;
    }
    scene.fleet.end().await;
}

async fn alone(fault: Fault) {
    let mut scene = Scene::start().await;
    scene.round(0, fault, 0).await;
    scene.fleet.end().await;
}

struct Scene {
    fleet: Fleet,
    upstream: Upstream,
    key: UpstreamKey,
}

/// A client that has the beginning of a body.
struct Begun {
    edge: usize,
    start: Vec<u8>,
    response: Response,
}

impl Scene {
    async fn start() -> Scene {
        let (key, upstream) = (UpstreamKey::new("upstream-1"), Upstream::start().await);
        let fleet = Fleet::new(UNDER_TEST, EDGES, &upstream.url(), &key).await.started().await;
        Scene { fleet, upstream, key }
    }

    /// One fault, while all edges are in the middle of one file. Afterwards all is whole again.
    async fn round(&mut self, seed: u64, fault: Fault, fetcher: usize) {
        let fixture = plain(SIZE).seed(seed).build(&self.key);
        self.upstream.add(&fixture);
        let at_30_percent = Gate::new();
        let pause =
            self.upstream.script(Rule::on(&fixture.nar_path()).pause_at(SIZE * 3 / 10, &at_30_percent));
        let begun = self.all_begin(&fixture, fetcher).await;
        at_30_percent.reached().await;
        let killed = self.strike(fault, fetcher).await;
        at_30_percent.open();
        self.all_end_right(&fixture, begun, killed).await;
        let more = self.upstream.count("GET", &fixture.nar_path()) - 1;
        assert!(
            fault.more_fetches().contains(&more),
            "{more} more fetches: {:#?}",
            self.upstream.requests_to(&fixture.nar_path())
        );
        pause.remove();
        self.mend(fetcher).await;
    }

    /// The first one at the edge that is to fetch, then all others.
    async fn all_begin(&self, fixture: &Fixture, fetcher: usize) -> Vec<Begun> {
        for edge in self.fleet.edges() {
            assert_eq!(edge.get(&fixture.narinfo_path()).await.status, 200);
        }
        let first = self.begins(fixture, fetcher).await;
        let others = (0..EDGES * CLIENTS_OF_AN_EDGE - 1).map(|n| self.begins(fixture, n % EDGES));
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
        let right = Arc::new(fixture.file.to_bytes());
        let ends = begun.into_iter().map(|client| {
            let (right, is_killed) = (Arc::clone(&right), killed == Some(client.edge));
            tokio::spawn(async move { client.ends(&right, is_killed).await })
        });
        let ends: Vec<JoinHandle<()>> = ends.collect();
        for end in ends {
            in_time("the end of a body", end).await.expect("the right bytes");
        }
        // Whom the killed edge left asks another one.
        let other = (0..EDGES).find(|edge| killed != Some(*edge)).expect("one lives");
        let request = Request::get(&fixture.nar_path()).send(self.fleet.at(other).addr());
        let again = request.await.expect("an answer").whole().await;
        assert!(Sha256Hash::of(&again) == fixture.nar.sha256());
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
    async fn ends(mut self, right: &[u8], is_killed: bool) {
        match self.response.outcome().await {
            Outcome::Whole(rest) => {
                assert!([&self.start[..], &rest].concat() == right, "wrong bytes at edge {}", self.edge);
            }
            Outcome::Truncated(_) => assert!(is_killed, "cut at edge {}, which lives", self.edge),
        }
    }
}
