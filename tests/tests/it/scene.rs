//! Where most tests begin: upstreams that all have a path, and a cluster that knows its narinfo and lacks its NAR.

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::EdgeSettings;
use ncps_tests::fixture::FixtureBuilder;
use ncps_tests::{Cluster, Fixture, Mode, Outcome, Upstream, UpstreamKey, eventually};

/// What is held back at the end of a file until its proof.
pub(crate) const HELD_BACK: usize = 64 << 10;

/// An uncompressed NAR with this much in it.
pub(crate) fn plain(size: u64) -> FixtureBuilder {
    Fixture::new("cold-1.0").size(size).compression(Compression::None)
}

/// Upstreams that lack everything, and a cluster that trusts them in this order. Nobody is asked because another
/// one is slow: that would leave open who gave the narinfo.
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

/// A second for whatever an upstream must do within a time.
pub(crate) fn impatient(settings: &mut EdgeSettings) {
    settings.connect_timeout = Duration::from_millis(500);
    settings.header_timeout = Duration::from_millis(500);
    settings.idle_timeout = Duration::from_secs(1);
}

/// The file is served whole, and is in the store when all is quiet.
pub(crate) async fn is_served(cluster: &Cluster, fixture: &Fixture) {
    let (status, outcome) = cluster.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200, "{}", fixture.nar_path());
    assert!(outcome.whole() == fixture.file.to_bytes(), "the bytes of {}", fixture.nar_path());
    cluster.quiet().await;
    assert!(cluster.stores(&fixture.nar_path()), "{} is stored", fixture.nar_path());
}

/// The file is begun and broken off, rightly as far as it came, and nothing is left of it. Returns how far.
pub(crate) async fn is_aborted(cluster: &Cluster, fixture: &Fixture) -> usize {
    let (status, outcome) = cluster.fetch(&fixture.nar_path()).await;
    assert_eq!(status, 200, "{}", fixture.nar_path());
    let Outcome::Truncated(begin) = outcome else { panic!("{} looks complete", fixture.nar_path()) };
    nothing_is_left(cluster, fixture).await;
    begin.len()
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
