//! Which upstream answers: where one lacks a path, is down, is slow, says nothing or lies, the next one does;
//! where none can say, that is no absence. (PROTOCOL.md §11, lines 41 to 44 and 46.)

use std::time::{Duration, Instant};

use ncps_proto::EdgeSettings;
use ncps_tests::{Cluster, Cut, Fixture, Gate, Mode, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::get;
use crate::scene::{empty, empty_with, impatient, is_served, known, known_with, learn, plain};

/// What two upstreams that say nothing may cost who is [`impatient`]: a connection and a head each, and as much again
/// for a machine with too much to do.
const ALL_SILENT: Duration = Duration::from_secs(16);

both_modes! {
    async fn line_41_who_lacks_a_path_sends_to_the_next(mode) {
        let (cluster, [first, second], key) = empty(mode).await;
        let fixture = plain(1000).build(&key);
        learn(&cluster, std::slice::from_ref(&second), &fixture).await;
        is_served(&cluster, &fixture).await;
        assert_eq!((first.count("GET", "/nar/"), second.count("GET", "/nar/")), (0, 1));
        cluster.end().await;
    }

    async fn line_42_an_upstream_that_is_down_is_passed_over(mode) {
        passed_over(mode, async |first| first.down().await).await;
    }

    async fn line_42_an_upstream_that_fails_is_passed_over(mode) {
        for status in [500, 502, 503, 504, 400, 401, 418, 429] {
            passed_over(mode, async |first| drop(first.script(Rule::on("*").status(status)))).await;
        }
    }

    async fn line_42_an_upstream_that_breaks_every_connection_is_passed_over(mode) {
        for cut in [Cut::Fin, Cut::Rst] {
            passed_over(mode, async |first| drop(first.script(Rule::on("*").drop_connection(cut)))).await;
        }
    }

    async fn line_42_an_upstream_that_speaks_something_else_is_passed_over(mode) {
        passed_over(mode, async |first| drop(first.script(Rule::on("*").raw("SSH-2.0-OpenSSH\r\n")))).await;
    }

    async fn line_42_a_blackhole_is_passed_over(mode) {
        passed_over(mode, async |first| first.blackhole()).await;
    }

    async fn line_42_a_slow_upstream_is_not_waited_for(mode) {
        let hedged = |settings: &mut EdgeSettings| {
            settings.hedge_delay = Duration::from_millis(100);
            settings.header_timeout = Duration::from_secs(600);
        };
        let (cluster, [slow, second], key) = empty_with(mode, hedged).await;
        let fixture = plain(1000).build(&key);
        for upstream in [&slow, &second] {
            upstream.add(&fixture);
        }
        let gate = Gate::new();
        slow.script(Rule::on("*").gate(&gate));
        // The gate is shut all the while.
        cluster.narinfo(&fixture).await;
        assert_eq!((slow.total(), second.total()), (1, 1));
        is_served(&cluster, &fixture).await;
        assert_eq!(second.count("GET", "/nar/"), 1);
        gate.open();
        cluster.end().await;
    }

    async fn line_42_what_an_upstream_that_fell_silent_gave_away_is_fetched_from_the_next(mode) {
        let (cluster, [first, second], fixture) = known_with(mode, plain(300_000), impatient).await;
        first.blackhole();
        is_served(&cluster, &fixture).await;
        assert_eq!((first.count("GET", "/nar/"), second.count("GET", "/nar/")), (1, 1));
        cluster.end().await;
    }

    async fn line_42_an_upstream_that_fails_often_is_left_alone_and_comes_back(mode) {
        let (cluster, [failing, second], key) = empty(mode).await;
        let fixtures: Vec<_> = (0..60).map(|seed| plain(100).seed(seed).build(&key)).collect();
        let outage = failing.script(Rule::on("*").status(503));
        for fixture in &fixtures {
            second.add(fixture);
            cluster.narinfo(fixture).await;
        }
        assert_eq!(second.total(), 60);
        // Three, and then one at the end of each pause; these grow.
        assert!(failing.total() < 20, "asked {} times", failing.total());
        outage.remove();
        failing.forget();
        let mut seed = 1000;
        let asked_again = async || {
            seed += 1;
            let absent = Fixture::new("absent-1.0").seed(seed).build_unsigned();
            get(&cluster, &absent.narinfo_path()).await.status == 404 && failing.total() > 1
        };
        eventually("it is asked again for everything", asked_again).await;
        cluster.end().await;
    }

    async fn line_42_connections_that_break_together_are_one_event(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixtures: Vec<_> = (0..50).map(|seed| plain(100).seed(seed).build(&key)).collect();
        fixtures.iter().for_each(|fixture| upstream.add(fixture));
        let gate = Gate::new();
        let held = upstream.script(Rule::on("*").gate(&gate));
        let paths: Vec<_> = fixtures.iter().map(|fixture| fixture.narinfo_path()).collect();
        let asked = paths.iter().map(|path| get(&cluster, path));
        let break_all = async {
            upstream.wait_for(50, "GET", "/").await;
            held.remove();
            upstream.down().await;
            upstream.up().await;
        };
        let (answers, ()) = futures::join!(futures::future::join_all(asked), break_all);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200; 50]);
        cluster.end().await;
    }

    async fn line_42_who_lies_about_a_path_is_passed_over(mode) {
        let (cluster, [liar, honest], key) = empty(mode).await;
        let stranger = UpstreamKey::new("upstream-1");
        let other = plain(1000).seed(100).build(&key);
        let lies = [
            |fixture: &Fixture, _: &UpstreamKey, _: &Fixture| {
                fixture.changed(|narinfo| narinfo.signatures.clear()).narinfo_text()
            },
            |fixture: &Fixture, stranger: &UpstreamKey, _: &Fixture| {
                fixture.changed(|narinfo| narinfo.signatures.clear()).signed(stranger).narinfo_text()
            },
            |fixture: &Fixture, _: &UpstreamKey, _: &Fixture| {
                fixture.changed(|narinfo| narinfo.nar_size += 1).narinfo_text()
            },
            |_: &Fixture, _: &UpstreamKey, other: &Fixture| other.narinfo_text(),
        ];
        for (seed, lie) in lies.into_iter().enumerate() {
            let fixture = plain(1000).seed(seed as u64).build(&key);
            liar.put(&fixture.narinfo_path(), lie(&fixture, &stranger, &other));
            honest.add(&fixture);
            assert_eq!(cluster.narinfo(&fixture).await.nar_hash, fixture.narinfo.nar_hash);
            is_served(&cluster, &fixture).await;
            assert_eq!((liar.total(), honest.total()), (seed + 1, 2 * (seed + 1)), "lie {seed}");
        }
        cluster.end().await;
    }

    async fn line_42_who_has_another_nar_than_it_says_is_passed_over(mode) {
        let (cluster, [liar, honest], fixture) = known(mode, plain(10_000)).await;
        let other = plain(10_000).seed(1).build_unsigned();
        liar.script(Rule::on("/nar/*").body(other.file.clone()));
        is_served(&cluster, &fixture).await;
        assert_eq!((liar.count("GET", "/nar/"), honest.count("GET", "/nar/")), (1, 1));
        cluster.end().await;
    }

    async fn line_43_with_all_upstreams_gone_what_is_here_is_served(mode) {
        let (cluster, [down, silent], fixture) = known(mode, plain(100_000)).await;
        is_served(&cluster, &fixture).await;
        let narinfo = cluster.narinfo(&fixture).await;
        down.down().await;
        silent.blackhole();
        for upstream in [&down, &silent] {
            upstream.forget();
        }
        for _ in 0..10 {
            is_served(&cluster, &fixture).await;
            assert_eq!(cluster.narinfo(&fixture).await, narinfo);
        }
        cluster.edge.lookups.near.clear();
        assert_eq!(cluster.narinfo(&fixture).await, narinfo, "control knows it");
        assert_eq!((down.total(), silent.total()), (0, 0), "nobody waited for them");
        cluster.end().await;
    }

    async fn line_44_with_all_upstreams_down_the_rest_is_502_and_not_remembered(mode) {
        let (cluster, [first, second], key) = empty_with(mode, impatient).await;
        let fixture = plain(1000).build(&key);
        first.add(&fixture);
        first.down().await;
        second.script(Rule::on("*").status(500));
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502);
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 502);
        first.up().await;
        comes_back(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_44_with_all_upstreams_silent_the_rest_is_504_and_not_remembered(mode) {
        let (cluster, [first, second], key) = empty_with(mode, impatient).await;
        let fixture = plain(1000).build(&key);
        for upstream in [&first, &second] {
            upstream.add(&fixture);
            upstream.blackhole();
        }
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            let asked = Instant::now();
            assert_eq!(get(&cluster, &path).await.status, 504);
            assert!(asked.elapsed() < ALL_SILENT, "{path} took {:?}", asked.elapsed());
        }
        first.up().await;
        second.up().await;
        comes_back(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn an_upstream_that_is_down_at_the_start_is_used_when_it_comes(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(1000).build(&key);
        let late = Upstream::start_down();
        late.add(&fixture);
        let cluster = Cluster::of(mode, &late, &key).await;
        for _ in 0..5 {
            assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502);
            assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 502);
        }
        late.up().await;
        comes_back(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn line_46_403_is_an_absence(mode) {
        let (cluster, [bucket, second], key) = empty(mode).await;
        let (absent, present) = (plain(1000).build(&key), plain(1000).seed(1).build(&key));
        bucket.script(Rule::on("*").status(403));
        learn(&cluster, std::slice::from_ref(&second), &present).await;
        is_served(&cluster, &present).await;
        for _ in 0..3 {
            assert_eq!(get(&cluster, &absent.narinfo_path()).await.status, 404);
        }
        assert_eq!(bucket.count("GET", &absent.narinfo_path()), 1, "believed for a while, as a 404 is");
        assert_eq!(get(&cluster, &absent.nar_path()).await.status, 404);
        cluster.end().await;
    }
}

/// The first of two upstreams that have a path is made unusable: it comes from the second one.
async fn passed_over(mode: Mode, spoil: impl AsyncFnOnce(&Upstream)) {
    let (cluster, [first, second], key) = empty_with(mode, impatient).await;
    let fixture = plain(300_000).build(&key);
    for upstream in [&first, &second] {
        upstream.add(&fixture);
    }
    spoil(&first).await;
    cluster.narinfo(&fixture).await;
    is_served(&cluster, &fixture).await;
    assert_eq!(second.total(), 2, "{:?}", second.requests());
    cluster.end().await;
}

/// Nobody remembered that it could not be had: within seconds it can.
async fn comes_back(cluster: &Cluster, fixture: &Fixture) {
    let mut seen = Vec::new();
    let back = async || {
        seen.push(get(cluster, &fixture.narinfo_path()).await.status);
        seen.ends_with(&[200])
    };
    eventually("the narinfo is back", back).await;
    assert!(!seen.contains(&404), "an outage is no absence");
    is_served(cluster, fixture).await;
}
