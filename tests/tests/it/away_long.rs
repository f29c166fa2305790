//! Control away for ten minutes, of tokio's time: everything in this process sees them pass, in steps of a second between
//! which clients come. What is warm is served without a call to control all the time, what is cold as the policy says, and
//! afterwards the index and the disks agree.
//!
//! The time of day and what the databases believe do not move; whatever waits for a time does.

use std::collections::BTreeMap;
use std::time::Duration;

use ncps_edge::metrics::ControlCall;
use ncps_nix::NarInfo;
use ncps_proto::WhenAway;
use ncps_tests::cluster::EdgeNode;
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, eventually};

use crate::away_signed::agree;
use crate::scene::plain;

const EDGES: usize = 2;
const MINUTES: u64 = 10;

#[tokio::test(flavor = "current_thread")]
async fn ten_minutes_alone_with_the_upstreams() {
    let mut scene = Scene::new(WhenAway::UpstreamSigned).await;
    scene
        .ten_minutes(async |scene, edge, cold| {
            let narinfo = edge.narinfo(cold).await;
            assert_eq!(narinfo.signatures, cold.narinfo.signatures, "nobody has our key");
            scene.is_had(edge, cold).await;
            let unknown = Fixture::new("unknown-1.0").build_unsigned();
            assert_eq!(edge.get(&unknown.narinfo_path()).await.status, 404, "all upstreams say so");
        })
        .await;
    let fetched = scene.upstream.count("GET", "/nar/");
    scene.is_one_cache_again().await;
    assert_eq!(scene.upstream.count("GET", "/nar/"), fetched, "nothing is fetched twice");
    scene.cluster.end().await;
}

#[tokio::test(flavor = "current_thread")]
async fn ten_minutes_with_what_is_stored_only() {
    let mut scene = Scene::new(WhenAway::StoredOnly).await;
    let asked = scene.upstream.count("GET", "/");
    scene
        .ten_minutes(async |_, edge, cold| {
            let told = edge.get(&cold.narinfo_path()).await;
            assert_eq!(told.status, 503);
            assert!(told.headers.number("Retry-After").is_some_and(|seconds| seconds > 0));
        })
        .await;
    assert_eq!(scene.upstream.count("GET", "/"), asked, "nobody asks the upstreams");
    scene.is_one_cache_again().await;
    scene.cluster.end().await;
}

/// A fleet and what its clients know.
struct Scene {
    cluster: Cluster,
    upstream: Upstream,
    /// Stored at every edge.
    warm: Vec<Fixture>,
    known: BTreeMap<String, NarInfo>,
    /// Each asked for in one of the minutes, at one of the edges.
    cold: Vec<Fixture>,
}

impl Scene {
    async fn new(policy: WhenAway) -> Scene {
        let (key, upstream) = (UpstreamKey::new("upstream-1"), Upstream::start().await);
        let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).edges(EDGES).writable();
        let cluster = builder.settings(|settings| settings.when_away = policy).start().await;
        eventually("all are attached", async || cluster.attached().await.len() == EDGES).await;
        let paths = |seeds: std::ops::Range<u64>| seeds.map(|seed| plain(50_000).seed(seed).build(&key));
        let (warm, cold) = (paths(0..3).collect(), paths(3..3 + MINUTES).collect());
        let mut scene = Scene { cluster, upstream, warm, known: BTreeMap::new(), cold };
        scene.warm_up().await;
        scene
    }

    async fn warm_up(&mut self) {
        self.warm.iter().chain(&self.cold).for_each(|fixture| self.upstream.add(fixture));
        for fixture in &self.warm {
            for edge in &self.cluster.edges {
                self.known.insert(fixture.narinfo_path(), edge.narinfo(fixture).await);
                self.is_had(edge, fixture).await;
            }
        }
    }

    /// Narinfo and NAR come, and the NAR stays.
    async fn is_had(&self, edge: &EdgeNode, fixture: &Fixture) {
        let (status, body) = edge.fetch(&fixture.canonical_nar_path()).await;
        assert!(status == 200 && body.whole() == fixture.file.to_bytes(), "{status} at {}", edge.name());
        edge.quiet().await;
        assert!(edge.stores(&fixture.canonical_nar_path()), "{} keeps it", edge.name());
    }

    /// Control is killed, ten minutes pass, and control is started again.
    async fn ten_minutes(&mut self, is_as_the_policy_says: impl AsyncFn(&Scene, &EdgeNode, &Fixture)) {
        self.cluster.kill_control().await;
        self.is_known_to_be_away().await;
        for (minute, cold) in self.cold.iter().enumerate() {
            let edge = &self.cluster.edges[minute % EDGES];
            is_as_the_policy_says(self, edge, cold).await;
            self.takes_nothing(edge).await;
            for second in 0..60 {
                a_second_passes().await;
                if second % 7 == 0 {
                    self.is_warm().await;
                }
            }
        }
        self.cluster.start_control().await;
    }

    async fn is_known_to_be_away(&self) {
        let unknown = Fixture::new("unknown-1.0").seed(1).build_unsigned().narinfo_path();
        for edge in &self.cluster.edges {
            let is_known = async || {
                edge.get(&unknown).await;
                not_made(edge) > 0
            };
            eventually("control is known to be away", is_known).await;
        }
    }

    /// What is stored is served as before, and control is not even thought of.
    async fn is_warm(&self) {
        for edge in &self.cluster.edges {
            let before = not_made(edge);
            for fixture in &self.warm {
                assert_eq!(edge.narinfo(fixture).await, self.known[&fixture.narinfo_path()]);
            }
            self.is_had(edge, &self.warm[0]).await;
            assert_eq!(not_made(edge), before, "a warm read needs no call");
            assert_eq!(edge.get("/readyz").await.status, 200);
        }
    }

    async fn takes_nothing(&self, edge: &EdgeNode) {
        let put = Request::put(&self.warm[0].narinfo_path(), self.warm[0].narinfo_text());
        assert_eq!(edge.send(put).await.status, 503);
    }

    async fn is_one_cache_again(&self) {
        eventually("all are attached again", async || self.cluster.attached().await.len() == EDGES).await;
        for edge in &self.cluster.edges {
            eventually("control is told", async || edge.edge.engine.pending().is_empty()).await;
            for fixture in self.warm.iter().chain(&self.cold) {
                let signed = async || {
                    let mut told = edge.get(&fixture.narinfo_path()).await;
                    told.status == 200 && self.is_ours(&told.whole().await)
                };
                eventually("our signature at every edge", signed).await;
                self.is_had(edge, fixture).await;
            }
            agree(&self.cluster, edge).await;
        }
    }

    /// Whether it has a signature of the key that signed what is warm, beside its upstream's.
    fn is_ours(&self, narinfo: &[u8]) -> bool {
        let names =
            |narinfo: &NarInfo| narinfo.signatures.iter().map(|s| s.key_name.clone()).collect::<Vec<_>>();
        names(&NarInfo::parse(narinfo).expect("it parses"))
            == names(&self.known[&self.warm[0].narinfo_path()])
    }
}

/// A second, for everything in this process that waits for a time.
async fn a_second_passes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
}

/// Calls to control that were not even made, since it is known to be away. Its probes are made.
fn not_made(edge: &EdgeNode) -> u64 {
    edge.edge.metrics.control_calls.get(ControlCall::NotMade)
}
