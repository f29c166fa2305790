//! One of three upstreams that swallows requests: narinfos come within a second all the same, and nobody sees an error.
//! And one that may sleep: what the others lack is absent, whatever it is up to.

use std::time::{Duration, Instant};

use ncps_proto::EdgeSettings;
use ncps_tests::{Cluster, Cut, Fixture, Mode, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::get;
use crate::scene::{impatient, plain};

/// What is promised: that it costs no more than this. What else a narinfo takes on this machine is measured beside it.
const PROMISE: Duration = Duration::from_secs(1);
/// A machine that is busy with something else may be late now and then; what is late by nature always is.
const TRIES: usize = 3;

/// Three upstreams, the first of which are asked before the others.
async fn three(mode: Mode, change: impl FnOnce(&mut EdgeSettings)) -> (Cluster, [Upstream; 3], UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let builder = Cluster::builder(mode).trust(&key);
    let builder = upstreams.iter().fold(builder, |builder, upstream| builder.upstream(upstream));
    // Whoever waits for it waits for good.
    let builder = builder.settings(|settings| settings.header_timeout = Duration::from_secs(600));
    (builder.settings(change).start().await, upstreams, key)
}

/// Paths that nobody has asked for.
struct Paths<'a> {
    key: &'a UpstreamKey,
    next: u64,
}

impl Paths<'_> {
    /// Some more, which this upstream has.
    fn at(&mut self, upstream: &Upstream, count: u64) -> Vec<Fixture> {
        let fixtures = self.next..self.next + count;
        self.next += count;
        let fixtures = fixtures.map(|seed| plain(100).seed(seed).build(self.key));
        fixtures.inspect(|fixture| upstream.add(fixture)).collect()
    }
}

/// How long the slowest of these narinfos took, all asked for at once.
async fn slowest(cluster: &Cluster, fixtures: &[Fixture]) -> Duration {
    let ask = async |fixture: &Fixture| {
        let started = Instant::now();
        assert_eq!(get(cluster, &fixture.narinfo_path()).await.status, 200);
        started.elapsed()
    };
    let all = futures::future::join_all(fixtures.iter().map(ask)).await;
    all.into_iter().max().expect("some were asked for")
}

/// `awake` is what they take while nobody is silent.
async fn is_in_time(cluster: &Cluster, awake: Duration, mut fixtures: impl FnMut() -> Vec<Fixture>) {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        took.push(slowest(cluster, &fixtures()).await.saturating_sub(awake));
        if took.last().is_some_and(|took| *took < PROMISE) {
            return;
        }
    }
    panic!("never within {PROMISE:?}: {took:?}");
}

/// What sleeps, and how.
async fn falls_asleep(upstream: &Upstream, how: usize) {
    match how {
        0 => upstream.down().await,
        1 => upstream.blackhole(),
        2 => drop(upstream.script(Rule::on("*").status(503))),
        _ => drop(upstream.script(Rule::on("*").drop_connection(Cut::Rst))),
    }
}

both_modes! {
    async fn narinfos_come_within_a_second_whoever_is_silent(mode) {
        for silent in 0..3 {
            let (cluster, upstreams, key) = three(mode, |_| {}).await;
            let mut paths = Paths { key: &key, next: 0 };
            let awake = slowest(&cluster, &paths.at(&upstreams[2], 20)).await;
            upstreams[silent].blackhole();
            for has in (0..3).filter(|has| *has != silent) {
                is_in_time(&cluster, awake, || paths.at(&upstreams[has], 20)).await;
            }
            cluster.end().await;
        }
    }

    async fn narinfos_come_within_a_second_in_a_rush_as_well(mode) {
        let mut took = Vec::new();
        for _ in 0..TRIES {
            let few = |settings: &mut EdgeSettings| {
                settings.max_narinfo_requests = 32;
                settings.header_timeout = Duration::from_secs(2);
            };
            let (cluster, upstreams, key) = three(mode, few).await;
            let mut paths = Paths { key: &key, next: 0 };
            let awake = slowest(&cluster, &paths.at(&upstreams[2], 96)).await;
            upstreams[0].blackhole();
            took.push(slowest(&cluster, &paths.at(&upstreams[2], 96)).await.saturating_sub(awake));
            cluster.end().await;
        }
        assert!(took.iter().any(|took| *took < PROMISE), "never within {PROMISE:?}: {took:?}");
    }

    async fn a_sleeper_that_may_sleep_makes_no_error_of_an_absence(mode) {
        for how in 0..4 {
            let sleeper = Upstream::start().await;
            let (awake, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
            let builder = Cluster::builder(mode).trust(&key).settings(impatient);
            let builder = builder.upstream_with(&sleeper.url(), |upstream| upstream.optional = true);
            let cluster = builder.upstream(&awake).start().await;
            falls_asleep(&sleeper, how).await;
            let mut paths = Paths { key: &key, next: 0 };
            let absent = (1000..1006).map(|seed| plain(100).seed(seed).build_unsigned().narinfo_path());
            let asked = absent.map(async |path| get(&cluster, &path).await.status);
            assert_eq!(futures::future::join_all(asked).await, [404; 6], "{how}");
            for present in paths.at(&awake, 3) {
                cluster.narinfo(&present).await;
            }
            cluster.end().await;
        }
    }

    async fn a_sleeper_that_nobody_stands_beside_makes_no_absence(mode) {
        for how in 0..4 {
            let sleeper = Upstream::start().await;
            let builder = Cluster::builder(mode).settings(impatient);
            let builder = builder.upstream_with(&sleeper.url(), |upstream| upstream.optional = true);
            let cluster = builder.start().await;
            falls_asleep(&sleeper, how).await;
            let absent = plain(100).build_unsigned();
            let status = get(&cluster, &absent.narinfo_path()).await.status;
            assert!(matches!(status, 502 | 504), "{how}: {status}");
            cluster.end().await;
        }
    }

    async fn what_a_sleeper_has_is_there_when_it_wakes(mode) {
        let (sleeper, awake) = (Upstream::start().await, Upstream::start().await);
        let key = UpstreamKey::new("upstream-1");
        let builder = Cluster::builder(mode).trust(&key).settings(impatient);
        let builder = builder.upstream_with(&sleeper.url(), |upstream| upstream.optional = true);
        let cluster = builder.upstream(&awake).start().await;
        let fixture = plain(100).build(&key);
        sleeper.add(&fixture);
        sleeper.down().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        // It fails so often that it is left alone, and looked after.
        for seed in 1..5 {
            let absent = plain(100).seed(seed).build_unsigned();
            assert_eq!(get(&cluster, &absent.narinfo_path()).await.status, 404);
        }
        sleeper.up().await;
        let back = async || get(&cluster, &fixture.narinfo_path()).await.status == 200;
        eventually("its path, long before an absence is forgotten", back).await;
        cluster.end().await;
    }
}
