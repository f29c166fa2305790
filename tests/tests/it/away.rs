//! Control out of reach, where only what is stored is to be served: what an edge has it serves, the rest is 503 and
//! never 404, and when control is back all is as before. That upstreams are asked is in `away_signed.rs`. Only two processes can lose each other, so that these tests have no combined mode.

use std::time::Duration;

use ncps_nix::{Compression, FileHash, NarInfo, Sha256Hash};
use ncps_proto::WhenAway;
use ncps_tests::{Cluster, Fixture, Gate, Link, Mode, Rule, Upstream, UpstreamKey, always, eventually};

use crate::asking::get;
use crate::scene::{is_served, plain};

/// For a call to control. Enough for a slow machine, and short enough to be waited for in vain a few times.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_is_served_and_the_rest_is_503_while_control_refuses() {
    away(async |link| link.refuse().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_is_served_and_the_rest_is_503_while_control_is_silent() {
    away(async |link| link.hang()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_is_served_and_the_rest_is_503_while_control_accepts_and_is_silent() {
    away(async |link| {
        link.hang();
        link.cut();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_for_a_moment_loses_nothing() {
    let (cluster, upstream, key) = split(WhenAway::StoredOnly).await;
    let misnamed = misnamed(&key);
    upstream.add(&misnamed);
    let old = cluster.narinfo(&misnamed).await;
    link(&cluster).cut();
    is_corrected(&cluster, &old, &misnamed).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_runs_when_control_goes_is_finished_and_told_of_later() {
    let (cluster, upstream, key) = split(WhenAway::StoredOnly).await;
    let fixture = plain(500_000).build(&key);
    upstream.add(&fixture);
    let ours = cluster.narinfo(&fixture).await;
    let gate = Gate::new();
    upstream.script(Rule::on("/nar/*").pause_at(200_000, &gate));
    let mut response = cluster.get(&fixture.nar_path()).await;
    let begin = response.bytes(100_000).await.expect("what there is");
    link(&cluster).refuse().await;
    gate.open();
    assert!([begin, response.whole().await].concat() == fixture.file.to_bytes());
    cluster.quiet().await;
    assert!(cluster.stores(&fixture.nar_path()));
    assert_eq!(beside(&cluster, &fixture), Some(ours), "for a start without control");
    assert_eq!(cluster.edge.engine.pending().len(), 1);
    link(&cluster).mend().await;
    is_told(&cluster).await;
    cluster.end().await;
}

async fn away(break_it: impl AsyncFnOnce(&Link)) {
    let (cluster, upstream, key) = split(WhenAway::StoredOnly).await;
    let there = There::new(&key);
    let (stored, near) = there.prepare(&cluster, &upstream).await;
    break_it(link(&cluster)).await;
    is_on_its_own(&cluster, &there, &stored, &near).await;
    link(&cluster).mend().await;
    is_whole_again(&cluster, &there).await;
    cluster.end().await;
}

/// Paths of which an edge knows more or less.
pub(crate) struct There {
    /// Narinfo and NAR are here.
    pub(crate) stored: Fixture,
    /// Its narinfo was asked for. The upstream has the file under the same name.
    pub(crate) near: Fixture,
    /// The same, and the upstream has the file under a name that only control remembers.
    pub(crate) opaque: Fixture,
    /// The same, and its FileHash is wrong.
    pub(crate) misnamed: Fixture,
    /// Nobody has asked for it.
    pub(crate) cold: Fixture,
}

impl There {
    pub(crate) fn new(key: &UpstreamKey) -> There {
        There {
            stored: plain(100_000).build(key),
            near: plain(100_000).seed(1).build(key),
            opaque: plain(100_000).seed(2).url("blobs/7").build(key),
            misnamed: misnamed(key),
            cold: plain(100_000).seed(4).build(key),
        }
    }

    /// Returns the narinfos of what is stored and of what is near.
    pub(crate) async fn prepare(&self, cluster: &Cluster, upstream: &Upstream) -> (NarInfo, NarInfo) {
        for fixture in [&self.stored, &self.near, &self.opaque, &self.misnamed, &self.cold] {
            upstream.add(fixture);
        }
        let stored = cluster.narinfo(&self.stored).await;
        is_served(cluster, &self.stored).await;
        cluster.narinfo(&self.opaque).await;
        cluster.narinfo(&self.misnamed).await;
        (stored, cluster.narinfo(&self.near).await)
    }
}

async fn is_on_its_own(cluster: &Cluster, there: &There, stored: &NarInfo, near: &NarInfo) {
    refuses(cluster, &there.cold.narinfo_path()).await;
    refuses(cluster, &there.opaque.canonical_nar_path()).await;
    refuses(cluster, &Fixture::new("unknown-1.0").build_unsigned().nar_path()).await;
    // Meanwhile the edge tries to attach, again and again.
    let stays = async || cluster.narinfo(&there.near).await == *near;
    always("what is near stays near", 2 * DEADLINE, stays).await;
    assert_eq!(cluster.narinfo(&there.stored).await, *stored);
    is_served(cluster, &there.stored).await;
    // Its name says what the bytes must be, and the upstream has it under that name.
    is_served(cluster, &there.near).await;
    cluster.edge.lookups.near.clear();
    assert_eq!(cluster.narinfo(&there.stored).await, *stored, "it lies beside its NAR");
    assert_eq!(get(cluster, "/nix-cache-info").await.status, 200);
}

async fn refuses(cluster: &Cluster, path: &str) {
    let told = get(cluster, path).await;
    assert_eq!((told.status, told.text()), (503, "temporarily unavailable\n"), "{path}");
    assert!(told.headers.number("Retry-After").is_some_and(|seconds| seconds > 0));
}

async fn is_whole_again(cluster: &Cluster, there: &There) {
    let mut seen = Vec::new();
    let back = async || {
        seen.push(get(cluster, &there.cold.narinfo_path()).await.status);
        seen.ends_with(&[200])
    };
    eventually("unknown paths are found again", back).await;
    assert!(seen.iter().all(|status| matches!(status, 200 | 503)), "{seen:?}");
    is_served(cluster, &there.cold).await;
    let opaque = get(cluster, &there.opaque.canonical_nar_path()).await;
    assert!(opaque.status == 200 && opaque.body == there.opaque.file.to_bytes());
    is_told(cluster).await;
    eventually("its narinfo file", async || beside(cluster, &there.near).is_some()).await;
    let old = cluster.narinfo(&there.misnamed).await;
    is_corrected(cluster, &old, &there.misnamed).await;
}

/// The NAR comes, and its narinfo, which is near, is replaced: the edge hears of invalidations.
pub(crate) async fn is_corrected(cluster: &Cluster, old: &NarInfo, misnamed: &Fixture) {
    let fetched = async || {
        let told = get(cluster, &format!("/{}", old.url)).await;
        told.status == 200 && told.body == misnamed.file.to_bytes()
    };
    eventually("the bytes under the wrong name", fetched).await;
    let right = misnamed.canonical_nar_path();
    let corrected = async || format!("/{}", cluster.narinfo(misnamed).await.url) == right;
    eventually("the narinfo is corrected", corrected).await;
}

fn misnamed(key: &UpstreamKey) -> Fixture {
    let right = plain(100_000).seed(3).compression(Compression::Zstd).build(key);
    right.changed(|narinfo| narinfo.file_hash = Some(FileHash(Sha256Hash::of(b"something else"))))
}

/// The narinfo that lies beside its NAR.
pub(crate) fn beside(cluster: &Cluster, fixture: &Fixture) -> Option<NarInfo> {
    let text =
        std::fs::read(cluster.store_dir().join(fixture.narinfo_path().trim_start_matches('/'))).ok()?;
    Some(NarInfo::parse(&text).expect("it parses"))
}

/// Control knows what was fetched without it.
pub(crate) async fn is_told(cluster: &Cluster) {
    eventually("control is told", async || cluster.edge.engine.pending().is_empty()).await;
}

pub(crate) async fn split(policy: WhenAway) -> (Cluster, Upstream, UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::start().await;
    let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).writable();
    let builder = builder.settings(|settings| settings.when_away = policy);
    (builder.control_deadline(DEADLINE).start().await, upstream, key)
}

pub(crate) fn link(cluster: &Cluster) -> &Link {
    cluster.link.as_ref().expect("split mode has a link")
}
