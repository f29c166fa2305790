//! A fleet reads from itself: a NAR crosses the WAN once, whoever asks for it where, and neighbours feed each other. A
//! peer that dies, lies or lost its file costs no client anything but a moment.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ncps_nix::NarFileName;
use ncps_tests::fixture::FixtureBuilder;
use ncps_tests::{
    Cluster, ClusterBuilder, Fixture, Gate, Link, Mode, Request, Rule, Upstream, UpstreamKey, eventually,
    in_time,
};

use crate::scene::{HELD_BACK, plain};

/// Larger than what sockets between the edges hold, so that who is cut is cut in the middle.
const LARGE: u64 = 12 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_nar_crosses_the_wan_once() {
    let fleet = Fleet::start(3, plain(LARGE), |builder| builder).await;
    let gate = Gate::new();
    fleet.upstream.script(Rule::on(&fleet.path()).pause_at(LARGE / 3, &gate));
    let clients = (0..24).map(|n| fleet.reads_right(n % 3));
    let opened = async {
        gate.reached().await;
        gate.open();
    };
    tokio::join!(join_all(clients), opened);
    assert_eq!(fleet.fetches(), 1, "{:?}", fleet.upstream.requests());
    fleet.cluster.quiet().await;
    for edge in &fleet.cluster.edges {
        assert!(edge.stores(&fleet.path()), "{}", edge.name());
    }
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_nar_is_read_from_a_peer() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    fleet.is_warm_at(0).await;
    fleet.reads_right(1).await;
    assert_eq!(fleet.fetches(), 0);
    fleet.cluster.quiet().await;
    assert!(fleet.cluster.at(1).stores(&fleet.path()));
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_nars_and_small_ones_are_shared_too() {
    for fixture in
        [Fixture::new("small-1.0").size(1000), Fixture::new("middle-1.0").size(3 * HELD_BACK as u64)]
    {
        let fleet = Fleet::start(2, fixture, |builder| builder).await;
        tokio::join!(fleet.reads_right(0), fleet.reads_right(1));
        assert_eq!(fleet.fetches(), 1);
        fleet.cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_dies_while_it_fetches_is_followed_by_one_other() {
    let mut fleet = Fleet::start(3, plain(LARGE), |builder| builder).await;
    let begun = fleet.begun().await;
    let clients: Vec<_> = (0..8).map(|n| fleet.client(1 + n % 2)).collect();
    eventually("they follow", async || fleet.front(0).connections() >= 2).await;
    drop(begun.response);
    fleet.cluster.edges[0].kill().await;
    begun.gate.open();
    for client in clients {
        in_time("a body", client).await.expect("the right bytes");
    }
    assert!(fleet.fetches() <= 2, "{:?}", fleet.upstream.requests());
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_is_resumed_at_the_same_peer() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    fleet.is_warm_at(0).await;
    fleet.front(0).break_after(LARGE / 2);
    fleet.reads_right(1).await;
    assert_eq!(fleet.fetches(), 0);
    assert!(fleet.front(0).connections() >= 2);
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_not_reach_the_one_that_fetches_takes_its_turn() {
    let fleet = Fleet::start(3, plain(LARGE), |builder| builder).await;
    let begun = fleet.begun().await;
    let follow = async {
        tokio::join!(fleet.reads_right(1), fleet.reads_right(2));
    };
    let cut = async {
        eventually("they follow", async || fleet.front(0).connections() >= 2).await;
        fleet.front(0).refuse().await;
        // The one that takes the turn is held up as the first one is.
        fleet.upstream.wait_for(2, "GET", &fleet.path()).await;
        begun.gate.open();
    };
    tokio::join!(follow, cut);
    begun.ends_right(&fleet).await;
    assert_eq!(fleet.fetches(), 2, "one more, not two: {:?}", fleet.upstream.requests());
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_is_cut_off_from_control_feeds_the_others_on() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    let begun = fleet.begun().await;
    let cut = async {
        eventually("it is followed", async || fleet.front(0).connections() >= 1).await;
        fleet.cluster.at(0).link.as_ref().expect("it has one").refuse().await;
        eventually("control knows", async || fleet.cluster.attached().await == ["edge-1"]).await;
        begun.gate.open();
    };
    tokio::join!(fleet.reads_right(1), cut);
    begun.ends_right(&fleet).await;
    assert_eq!(fleet.fetches(), 1);
    fleet.cluster.at(0).link.as_ref().expect("it has one").mend().await;
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_of_a_peer_are_found_out_and_healed() {
    // All of it is held back until the proof: the client sees nothing of it.
    let fleet = Fleet::start(2, plain(HELD_BACK as u64 / 2), |builder| builder).await;
    fleet.is_warm_at(0).await;
    let file = fleet.file_at(0);
    let mut bytes = std::fs::read(&file).expect("stored");
    bytes[500] ^= 1;
    overwrite(&file, &bytes);
    fleet.reads_right(1).await;
    assert_eq!(fleet.fetches(), 1);
    let right = fleet.fixture.file.to_bytes();
    eventually("the peer has healed it", async || std::fs::read(&file).is_ok_and(|now| now == right)).await;
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_cut_short_at_a_peer_is_refused_before_its_first_byte() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    fleet.is_warm_at(0).await;
    let file = fleet.file_at(0);
    let bytes = std::fs::read(&file).expect("stored");
    overwrite(&file, &bytes[..bytes.len() / 2]);
    fleet.reads_right(1).await;
    let right = fleet.fixture.file.to_bytes();
    eventually("the peer has healed it", async || std::fs::read(&file).is_ok_and(|now| now == right)).await;
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_has_lost_is_not_looked_for_there_again() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    fleet.is_warm_at(0).await;
    std::fs::remove_file(fleet.file_at(0)).expect("removed");
    fleet.reads_right(1).await;
    assert_eq!(fleet.fetches(), 1);
    let its_url = format!("http://{}", fleet.front(1).addr());
    eventually("control knows", async || fleet.cluster.control().holders(fleet.name()) == [its_url.clone()])
        .await;
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_believe_that_the_other_has_it_do_not_wait_for_each_other() {
    let fleet = Fleet::start(2, plain(LARGE), |builder| builder).await;
    fleet.is_warm_at(0).await;
    fleet.reads_right(1).await;
    fleet.cluster.quiet().await;
    for edge in 0..2 {
        std::fs::remove_file(fleet.file_at(edge)).expect("removed");
    }
    in_time("both answer", async { tokio::join!(fleet.reads_right(0), fleet.reads_right(1)) }).await;
    assert_eq!(fleet.fetches(), 1, "{:?}", fleet.upstream.requests());
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fakes_a_peer_gets_nothing() {
    let fleet =
        Fleet::start(2, plain(1000), |builder| builder.token("reader", &[ncps_proto::Scope::Read])).await;
    let secret = fleet.secret();
    let asks = async |secret: &str, path: &str| {
        let response = fleet.cluster.send(Request::get(path).header("ncps-fleet", secret)).await;
        response.status
    };
    assert_eq!(asks("guess", &fleet.path()).await, 401);
    assert_eq!(asks("", &fleet.path()).await, 401);
    assert_eq!(asks(&secret, &fleet.path()).await, 404, "nothing is begun for a peer");
    assert_eq!(fleet.fetches(), 0);
    let with_token = Request::get(&fleet.path()).header("Authorization", "Bearer reader");
    assert_eq!(fleet.cluster.send(with_token).await.status, 200);
    fleet.cluster.quiet().await;
    assert_eq!(asks(&secret, &fleet.path()).await, 200, "a peer needs no token");
    assert_eq!(asks("guess", &fleet.path()).await, 401);
    assert_eq!(asks(&secret, &fleet.fixture.narinfo_path()).await, 404, "narinfos are control's to say");
    assert_eq!(fleet.cluster.get(&fleet.path()).await.status, 401);
    fleet.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_peers_are_kept_only_where_they_are_to_be() {
    let passing = |builder: ClusterBuilder| builder.settings(|settings| settings.keep_peer_copies = false);
    let fleet = Fleet::start(2, plain(LARGE), passing).await;
    fleet.is_warm_at(0).await;
    fleet.reads_right(1).await;
    fleet.cluster.quiet().await;
    assert!(fleet.cluster.at(0).stores(&fleet.path()) && !fleet.cluster.at(1).stores(&fleet.path()));
    fleet.reads_right(1).await;
    assert_eq!(fleet.fetches(), 0);
    fleet.cluster.end().await;
}

/// No deadline: it prints what a run on a quiet machine is to be judged by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_bytes_come_close_to_each_other() {
    let fleet = Fleet::start(3, plain(LARGE), |builder| builder).await;
    fleet.upstream.script(Rule::on(&fleet.path()).delay(Duration::from_millis(100)));
    let first_byte = async |edge: usize| {
        let started = Instant::now();
        let mut response = fleet.cluster.at(edge).get(&fleet.path()).await;
        response.bytes(1).await.expect("a byte");
        let first = started.elapsed();
        assert!(response.bytes(fleet.fixture.file.len() as usize - 1).await.is_ok());
        first
    };
    let mut times = join_all((0..3).map(first_byte)).await;
    times.sort_unstable();
    let ratio = times[2].as_secs_f64() / times[0].as_secs_f64();
    println!(
        "first bytes at three edges after {times:?}: the last one {ratio:.2} times as late as the first"
    );
    assert_eq!(fleet.fetches(), 1);
    fleet.cluster.end().await;
}

/// Edges that know the narinfo of a file which only the upstream has.
struct Fleet {
    cluster: Cluster,
    upstream: Upstream,
    fixture: Fixture,
}

/// A client of the first edge, which fetches and is held up by its upstream after a third.
struct Begun {
    response: ncps_tests::Response,
    start: Vec<u8>,
    gate: Gate,
}

impl Fleet {
    async fn start(
        edges: usize,
        fixture: FixtureBuilder,
        change: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Fleet {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let fixture = fixture.build(&key);
        upstream.add(&fixture);
        let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).edges(edges);
        // A loaded machine is no upstream that stalls.
        let builder = builder.settings(|settings| settings.idle_timeout = Duration::from_secs(20));
        let cluster = change(builder).start().await;
        eventually("all are attached", async || cluster.attached().await.len() == edges).await;
        let token = Request::get(&fixture.narinfo_path()).header("Authorization", "Bearer reader");
        assert_eq!(cluster.send(token).await.status, 200);
        Fleet { cluster, upstream, fixture }
    }

    fn path(&self) -> String {
        self.fixture.nar_path()
    }

    fn name(&self) -> NarFileName {
        let path = self.path();
        NarFileName::parse(path.trim_start_matches("/nar/")).expect("a name")
    }

    fn file_at(&self, edge: usize) -> std::path::PathBuf {
        self.cluster.at(edge).store_dir().join(self.path().trim_start_matches('/'))
    }

    fn front(&self, edge: usize) -> &Link {
        self.cluster.at(edge).front.as_ref().expect("each has one")
    }

    fn secret(&self) -> String {
        let settings = self.cluster.control().settings();
        settings.fleet_secret.as_ref().expect("there is one").reveal().to_owned()
    }

    /// Requests for the NAR that the upstream has seen.
    fn fetches(&self) -> usize {
        self.upstream.count("GET", &self.path())
    }

    async fn reads_right(&self, edge: usize) {
        let (status, outcome) = self.cluster.at(edge).fetch(&self.path()).await;
        assert_eq!(status, 200, "at edge {edge}");
        assert!(outcome.whole() == self.fixture.file.to_bytes(), "the bytes at edge {edge}");
    }

    /// The same in a task of its own.
    fn client(&self, edge: usize) -> tokio::task::JoinHandle<()> {
        let (addr, path, bytes) = (self.cluster.at(edge).addr, self.path(), self.fixture.file.to_bytes());
        tokio::spawn(async move {
            let mut response = Request::get(&path).send(addr).await.expect("an answer");
            assert!(response.outcome().await.whole() == bytes);
        })
    }

    /// One edge has it, and the upstream's requests are forgotten.
    async fn is_warm_at(&self, edge: usize) {
        self.reads_right(edge).await;
        self.cluster.quiet().await;
        assert!(self.cluster.at(edge).stores(&self.path()));
        self.upstream.forget();
    }

    async fn begun(&self) -> Begun {
        let gate = Gate::new();
        self.upstream.script(Rule::on(&self.path()).pause_at(LARGE / 3, &gate));
        let mut response = self.cluster.at(0).get(&self.path()).await;
        let start = response.bytes(1000).await.expect("its first bytes").to_vec();
        gate.reached().await;
        Begun { response, start, gate }
    }
}

impl Begun {
    async fn ends_right(mut self, fleet: &Fleet) {
        let rest = self.response.outcome().await.whole();
        assert!([self.start, rest.to_vec()].concat() == fleet.fixture.file.to_bytes());
    }
}

/// As a disk does it: the file keeps its place.
fn overwrite(file: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("ours");
    std::fs::write(file, bytes).expect("written");
}
