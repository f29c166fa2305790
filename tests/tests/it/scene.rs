//! Where most tests begin: upstreams that all have a path, and a cluster that knows its narinfo and lacks its
//! NAR.

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::EdgeSettings;
use ncps_tests::fixture::FixtureBuilder;
use ncps_tests::{Cluster, Fixture, Gate, Mode, Outcome, Rule, Upstream, UpstreamKey, eventually};

/// What is held back at the end of a file until its proof.
pub(crate) const HELD_BACK: usize = 64 << 10;
/// What a client has of a body that is begun. Three times as much is more than this and what is held back.
const BEGUN: usize = 50_000;

/// An uncompressed NAR with this much in it.
pub(crate) fn plain(size: u64) -> FixtureBuilder {
    Fixture::new("cold-1.0").size(size).compression(Compression::None)
}

/// Upstreams that lack everything, and a cluster that trusts them in this order. Nobody is asked because
/// another one is slow: that would leave open who gave the narinfo.
pub(crate) async fn empty<const N: usize>(mode: Mode) -> (Cluster, [Upstream; N], UpstreamKey) {
    empty_with(mode, |_| {}).await
}

/// The same with other settings.
pub(crate) async fn empty_with<const N: usize>(
    mode: Mode,
    change: impl FnOnce(&mut EdgeSettings),
) -> (Cluster, [Upstream; N], UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let upstreams = futures::future::join_all((0..N).map(|_| Upstream::start())).await;
    let mut builder = Cluster::builder(mode).trust(&key);
    for upstream in &upstreams {
        builder = builder.upstream(upstream);
    }
    let builder = builder.settings(|settings| settings.hedge_delay = Duration::from_secs(60));
    let cluster = builder.settings(change).start().await;
    (cluster, upstreams.try_into().expect("as many as were started"), key)
}

/// All upstreams have the path, and its narinfo was asked for.
pub(crate) async fn known<const N: usize>(
    mode: Mode,
    fixture: FixtureBuilder,
) -> (Cluster, [Upstream; N], Fixture) {
    known_with(mode, fixture, |_| {}).await
}

/// The same with other settings.
pub(crate) async fn known_with<const N: usize>(
    mode: Mode,
    fixture: FixtureBuilder,
    change: impl FnOnce(&mut EdgeSettings),
) -> (Cluster, [Upstream; N], Fixture) {
    let (cluster, upstreams, key) = empty_with(mode, change).await;
    let fixture = fixture.build(&key);
    learn(&cluster, &upstreams, &fixture).await;
    (cluster, upstreams, fixture)
}

/// Gives the upstreams one path more, and asks for its narinfo.
pub(crate) async fn learn(cluster: &Cluster, upstreams: &[Upstream], fixture: &Fixture) {
    upstreams.iter().for_each(|upstream| upstream.add(fixture));
    cluster.narinfo(fixture).await;
}

/// Two seconds for whatever an upstream must do within a time: those that are well are held to it, too, on a machine that
/// has more to do than answer for them.
pub(crate) fn impatient(settings: &mut EdgeSettings) {
    settings.connect_timeout = Duration::from_secs(2);
    settings.header_timeout = Duration::from_secs(2);
    settings.idle_timeout = Duration::from_secs(2);
}

/// The file is served whole, and is in the store when all is quiet.
pub(crate) async fn is_served(cluster: &Cluster, fixture: &Fixture) {
    let (status, outcome) = cluster.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200, "{}", fixture.nar_path());
    assert!(outcome.whole() == fixture.file.to_bytes(), "the bytes of {}", fixture.nar_path());
    cluster.quiet().await;
    assert!(cluster.stores(&fixture.nar_path()), "{} is stored", fixture.nar_path());
}

/// The file is begun and broken off, and nothing is left of it. Returns what came. The upstream waits until
/// the client has its first bytes: before them a failure would be a status, and another source a second chance.
pub(crate) async fn is_aborted(cluster: &Cluster, upstream: &Upstream, fixture: &Fixture) -> Vec<u8> {
    let gate = Gate::new();
    let pause = upstream.script(Rule::on(&fixture.nar_path()).pause_at(3 * BEGUN as u64, &gate));
    let mut response = cluster.get(&fixture.nar_path()).await;
    assert_eq!(response.status, 200, "{}", fixture.nar_path());
    let begin = response.bytes(BEGUN).await.expect("its first bytes");
    gate.open();
    let Outcome::Truncated(rest) = response.outcome().await else {
        panic!("{} looks complete", fixture.nar_path())
    };
    pause.remove();
    nothing_is_left(cluster, fixture).await;
    [begin, rest].concat()
}

/// The file is refused with this status before its first byte, and nothing is left of it.
pub(crate) async fn is_refused(cluster: &Cluster, fixture: &Fixture, status: u16) {
    assert_eq!(cluster.get(&fixture.nar_path()).await.status, status, "{}", fixture.nar_path());
    nothing_is_left(cluster, fixture).await;
}

async fn nothing_is_left(cluster: &Cluster, fixture: &Fixture) {
    cluster.quiet().await;
    assert!(!cluster.stores(&fixture.nar_path()), "{} is stored", fixture.nar_path());
    // A narinfo that is being written passes through the spool, too.
    let emptied = async || cluster.edge.store.spool_files().expect("listed") == 0;
    eventually("no spool file is left", emptied).await;
}
