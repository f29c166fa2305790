//! Upstreams that are away: who has a say when a path is called absent, and what happens when they are back.
//! (docs/ARCHITECTURE.md; PROTOCOL.md §11, lines 44 and 45.)

use std::time::Duration;

use ncps_proto::EdgeSettings;
use ncps_tests::{Cluster, Fixture, Mode, Rule, Upstream, UpstreamKey, always, both_modes, eventually};

use crate::asking::get;
use crate::scene::{impatient, is_served, plain};

both_modes! {
    async fn an_optional_upstream_that_sleeps_turns_no_absence_into_an_error(mode) {
        for silently in [false, true] {
            let (cluster, [sleeper, other], key) = with_a_sleeper(mode, |_| {}).await;
            if silently { sleeper.blackhole() } else { sleeper.down().await }
            for seed in 0..5 {
                assert_eq!(get(&cluster, &absent(seed).narinfo_path()).await.status, 404);
                let log = format!("/log/{}.drv", absent(seed).narinfo.store_path);
                assert_eq!(get(&cluster, &log).await.status, 404);
                let fixture = plain(1000).seed(seed).build(&key);
                other.add(&fixture);
                cluster.narinfo(&fixture).await;
                is_served(&cluster, &fixture).await;
            }
            cluster.end().await;
        }
    }

    async fn what_was_absent_without_it_is_asked_for_when_it_is_back(mode) {
        let (cluster, [sleeper, _other], key) = with_a_sleeper(mode, |_| {}).await;
        let fixture = plain(1000).build(&key);
        sleeper.add(&fixture);
        sleeper.down().await;
        for _ in 0..10 {
            assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        }
        sleeper.up().await;
        // Long before an absence ends by itself.
        let seen = async || get(&cluster, &fixture.narinfo_path()).await.status == 200;
        eventually("what it has is seen", seen).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn an_absence_that_all_stated_stays_when_an_upstream_is_back(mode) {
        let (cluster, [sleeper, other], _) = with_a_sleeper(mode, |_| {}).await;
        assert_eq!(get(&cluster, &absent(0).narinfo_path()).await.status, 404);
        sleeper.down().await;
        assert_eq!(get(&cluster, &absent(1).narinfo_path()).await.status, 404);
        sleeper.up().await;
        let seen = async || {
            get(&cluster, &absent(1).narinfo_path()).await;
            sleeper.count("GET", &absent(1).narinfo_path()) > 0
        };
        eventually("the second is asked for again", seen).await;
        assert_eq!(get(&cluster, &absent(0).narinfo_path()).await.status, 404);
        assert_eq!(other.count("GET", &absent(0).narinfo_path()), 1, "the first is not");
        cluster.end().await;
    }

    async fn who_answers_uselessly_does_not_come_back(mode) {
        let (cluster, [closed, other], _) = with_a_sleeper(mode, |_| {}).await;
        closed.require_authorization(Some("Basic of-somebody-else"));
        let path = absent(0).narinfo_path();
        assert_eq!(get(&cluster, &path).await.status, 404);
        let asked_once = async || {
            get(&cluster, &path).await.status == 404 && other.count("GET", &path) == 1
        };
        always("the absence is believed", Duration::from_secs(3), asked_once).await;
        cluster.end().await;
    }

    async fn when_nobody_can_be_asked_that_is_no_absence_optional_or_not(mode) {
        let (cluster, [sleeper, other], _) = with_a_sleeper(mode, |settings| {
            settings.give_up_after = Some(Duration::ZERO);
        })
        .await;
        sleeper.down().await;
        other.down().await;
        for seed in 0..10 {
            assert_eq!(get(&cluster, &absent(seed).narinfo_path()).await.status, 502);
        }
        cluster.end().await;
    }

    async fn an_upstream_has_a_say_until_it_is_given_up(mode) {
        let (cluster, [down, other], key) = with_a_sleeper(mode, |settings| {
            settings.upstreams[0].optional = false;
            settings.give_up_after = Some(Duration::from_secs(2));
        })
        .await;
        let fixture = plain(1000).build(&key);
        down.add(&fixture);
        down.down().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502, "it may have it");
        let (mut seed, mut seen) = (0, vec![502]);
        let given_up = async || {
            seed += 1;
            seen.push(get(&cluster, &absent(seed).narinfo_path()).await.status);
            seen.ends_with(&[404])
        };
        eventually("it is given up", given_up).await;
        assert!(seen.iter().all(|s| [404, 502].contains(s)), "{seen:?}");
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        assert_eq!(cluster.edge.current.get().expect("configured").upstreams.breakers()[0].1, 2);
        down.up().await;
        let back = async || get(&cluster, &fixture.narinfo_path()).await.status == 200;
        eventually("what it has is seen at once", back).await;
        assert_eq!(other.count("GET", &fixture.nar_path()), 0);
        cluster.end().await;
    }

    async fn who_is_never_given_up_keeps_its_say(mode) {
        let (cluster, [down, _other], _) = with_a_sleeper(mode, |settings| {
            settings.upstreams[0].optional = false;
            settings.give_up_after = None;
        })
        .await;
        down.script(Rule::on("*").status(500));
        for seed in 0..20 {
            assert_eq!(get(&cluster, &absent(seed).narinfo_path()).await.status, 502);
        }
        cluster.end().await;
    }

    async fn nobody_waits_for_an_upstream_that_is_left_alone(mode) {
        let (cluster, [silent, _other], _) = with_a_sleeper(mode, |_| {}).await;
        silent.blackhole();
        let mut seed = 0;
        let left_alone = async || {
            seed += 3;
            let paths = [seed, seed + 1, seed + 2].map(|seed| absent(seed).narinfo_path());
            futures::future::join_all(paths.iter().map(|path| get(&cluster, path))).await;
            cluster.edge.current.get().expect("configured").upstreams.breakers()[0].1 > 0
        };
        eventually("it is left alone", left_alone).await;
        silent.forget();
        for seed in 1000..1190 {
            assert_eq!(get(&cluster, &absent(seed).narinfo_path()).await.status, 404);
        }
        assert_eq!(silent.count("GET", "/nix-cache-info"), silent.total(), "probes alone: {:?}", silent.requests());
        cluster.end().await;
    }

    async fn a_nar_that_only_a_sleeper_has_is_absent_until_it_is_back(mode) {
        let (cluster, [sleeper, _other], key) = with_a_sleeper(mode, |_| {}).await;
        let fixture = plain(1000).build(&key);
        sleeper.add(&fixture);
        cluster.narinfo(&fixture).await;
        sleeper.down().await;
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 404, "a build goes on without it");
        sleeper.up().await;
        is_served_again(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_45_what_appears_upstream_is_seen_when_its_absence_ends(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let ttl = Duration::from_millis(300);
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).negative_ttl(ttl).start().await;
        let fixture = plain(1000).build(&key);
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        upstream.add(&fixture);
        let seen = async || get(&cluster, &fixture.narinfo_path()).await.status == 200;
        eventually("it is seen", seen).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }
}

/// Two upstreams, of which the first is optional. Absences last for a minute.
async fn with_a_sleeper(
    mode: Mode,
    change: impl FnOnce(&mut EdgeSettings),
) -> (Cluster, [Upstream; 2], UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let builder = Cluster::builder(mode).trust(&key).upstream(&upstreams[0]).upstream(&upstreams[1]);
    let builder = builder.settings(impatient).settings(|settings| settings.upstreams[0].optional = true);
    (builder.settings(change).start().await, upstreams, key)
}

async fn is_served_again(cluster: &Cluster, fixture: &Fixture) {
    let back = async || get(cluster, &fixture.nar_path()).await.status == 200;
    eventually("it is back", back).await;
    assert_eq!(get(cluster, &fixture.narinfo_path()).await.status, 200);
    is_served(cluster, fixture).await;
}

fn absent(seed: u64) -> Fixture {
    Fixture::new("absent-1.0").seed(seed).build_unsigned()
}
