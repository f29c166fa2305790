//! Upstreams over TLS and HTTP/2, as all that are on the Internet: one connection for many requests, streams that are
//! reset, connections that end under them or say GOAWAY first, certificates on either side.

use ncps_proto::Secret;
use ncps_tests::front::Authority;
use ncps_tests::zoo::{self, Kind};
use ncps_tests::{
    Cluster, Cut, Fixture, Front, Gate, Mode, Rule, Upstream, UpstreamKey, both_modes, eventually, kinds,
};

use crate::asking::get;
use crate::scene;
use crate::zoo_scene::{closure, is_absent, is_served};

macro_rules! each {
    ($($kind:ident)*) => {
        both_modes! {$(
            async fn $kind(mode) {
                is_served_over_h2(mode, zoo::$kind()).await;
            }
        )*}
    };
}

kinds!(each);

async fn is_served_over_h2(mode: Mode, kind: Kind) {
    let key = UpstreamKey::new("zoo-1");
    let fixtures = closure(&kind, &key);
    let pen = kind.with(&fixtures.iter().collect::<Vec<_>>()).await;
    let front = Front::of(&pen.cache).start().await;
    let url = front.url() + &pen.path("");
    let builder =
        Cluster::builder(mode).trust(&key).upstream_with(&url, |upstream| upstream.login = pen.login());
    let cluster =
        builder.settings(|settings| settings.outward.roots = front.authority().root()).start().await;
    is_warm(&pen.cache, &pen.path("/nix-cache-info")).await;
    is_absent(&cluster).await;
    for fixture in &fixtures {
        is_served(&cluster, fixture).await;
    }
    assert_eq!((front.connections(), front.requests().1), (1, 0), "one connection of HTTP/2");
    cluster.end().await;
}

/// A connection was opened before anybody asked for anything. What is asked while it is being opened may open one more.
async fn is_warm(upstream: &Upstream, greeted: &str) {
    upstream.wait_for(1, "HEAD", greeted).await;
    upstream.wait_idle().await;
    upstream.forget();
}

/// A cluster behind whose upstream is a front.
struct Scene {
    upstream: Upstream,
    front: Front,
    cluster: Cluster,
    key: UpstreamKey,
}

impl Scene {
    async fn new(mode: Mode) -> Scene {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        let front = Front::of(&upstream).max_streams(16).start().await;
        let cluster = Cluster::builder(mode).trust(&key).upstream_url(&front.url());
        let cluster = cluster.settings(|settings| settings.outward.roots = front.authority().root());
        let cluster = cluster.start().await;
        is_warm(&upstream, "/nix-cache-info").await;
        Scene { cluster, upstream, front, key }
    }

    fn has(&self, size: u64, seed: u64) -> Fixture {
        let fixture = scene::plain(size).seed(seed).build(&self.key);
        self.upstream.add(&fixture);
        fixture
    }
}

both_modes! {
    async fn many_narinfos_share_a_connection_and_wait_for_a_stream(mode) {
        let scene = Scene::new(mode).await;
        let fixtures: Vec<_> = (0..60).map(|seed| scene.has(100, seed)).collect();
        scene.cluster.narinfo(&fixtures[0]).await;
        let gate = Gate::new();
        scene.upstream.script(Rule::on("*").gate(&gate));
        let all = fixtures.iter().skip(1).map(|fixture| scene.cluster.narinfo(fixture));
        let opens = async {
            gate.reached_by(16).await;
            gate.open();
        };
        futures::join!(futures::future::join_all(all), opens);
        assert_eq!((scene.front.connections(), scene.front.requests()), (1, (61, 0)));
        assert_eq!(scene.front.max_concurrent(), 16, "as many as it takes");
        scene.cluster.end().await;
    }

    async fn a_stream_that_is_reset_is_resumed_on_its_connection(mode) {
        let scene = Scene::new(mode).await;
        let fixture = scene.has(1_000_000, 0);
        scene.cluster.narinfo(&fixture).await;
        scene.upstream.script(Rule::on("/nar/*").times(1).cut_after(400_000, Cut::Fin));
        scene::is_served(&scene.cluster, &fixture).await;
        let asked = scene.upstream.requests_to("/nar/");
        assert!(asked[1].range().is_some(), "{asked:?}");
        assert_eq!((asked.len(), scene.front.connections()), (2, 1));
        scene.cluster.end().await;
    }

    async fn a_connection_that_is_cut_is_replaced(mode) {
        let scene = Scene::new(mode).await;
        let fixture = scene.has(1_000_000, 0);
        scene.cluster.narinfo(&fixture).await;
        let gate = Gate::new();
        scene.upstream.script(Rule::on("/nar/*").times(1).pause_at(400_000, &gate));
        let cut = async {
            gate.reached().await;
            scene.front.cut();
        };
        futures::join!(scene::is_served(&scene.cluster, &fixture), cut);
        assert_eq!((scene.upstream.count("GET", "/nar/"), scene.front.connections()), (2, 2));
        scene.cluster.end().await;
    }

    async fn after_goaway_a_body_comes_to_its_end_and_others_go_elsewhere(mode) {
        let scene = Scene::new(mode).await;
        let fixture = scene.has(1_000_000, 0);
        scene.cluster.narinfo(&fixture).await;
        let gate = Gate::new();
        scene.upstream.script(Rule::on("/nar/*").times(1).pause_at(400_000, &gate));
        let goes = async {
            gate.reached().await;
            scene.front.go_away();
            let mut seeds = 1..;
            // What is asked before the client has heard of it still goes over the old connection.
            eventually("others go elsewhere", async || {
                let other = scene.has(100, seeds.next().expect("endless"));
                scene.cluster.narinfo(&other).await;
                scene.front.connections() == 2
            })
            .await;
            gate.open();
        };
        futures::join!(scene::is_served(&scene.cluster, &fixture), goes);
        assert_eq!((scene.upstream.count("GET", "/nar/"), scene.front.connections()), (1, 2));
        scene.cluster.end().await;
    }

    async fn goaway_among_many_narinfos_is_not_seen(mode) {
        let scene = Scene::new(mode).await;
        let fixtures: Vec<_> = (0..200).map(|seed| scene.has(100, seed)).collect();
        let ask = async |fixtures: &[Fixture]| {
            for fixture in fixtures {
                scene.cluster.narinfo(fixture).await;
            }
        };
        let goes = async {
            for n in 1..=5 {
                scene.upstream.wait_for(n * 30, "GET", "/").await;
                scene.front.go_away();
            }
        };
        let all = futures::future::join_all(fixtures.chunks(20).map(ask));
        futures::join!(all, goes);
        assert!(scene.front.connections() > 2, "it went away");
        scene.cluster.end().await;
    }

    async fn who_wants_to_know_us_is_shown_a_certificate(mode) {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        let fixture = scene::plain(100_000).build(&key);
        upstream.add(&fixture);
        let front = Front::of(&upstream).with_client_certificates().start().await;
        let identity = Secret::new(front.authority().client_identity());
        let trusting = || {
            let builder = Cluster::builder(mode).trust(&key);
            builder.settings(|settings| settings.outward.roots = front.authority().root())
        };
        let cluster = trusting().upstream_url(&front.url()).start().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502, "strangers are refused");
        cluster.end().await;
        let known = |upstream: &mut ncps_proto::UpstreamSettings| upstream.identity = Some(identity);
        let cluster = trusting().upstream_with(&front.url(), known).start().await;
        is_warm(&upstream, "/nix-cache-info").await;
        is_served(&cluster, &fixture).await;
        assert_eq!(upstream.total(), 2, "narinfo and NAR");
        cluster.end().await;
    }

    async fn who_is_vouched_for_by_nobody_is_passed_over(mode) {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        let fixture = scene::plain(100_000).build(&key);
        upstream.add(&fixture);
        let front = Front::of(&upstream).start().await;
        let trusting = || {
            let builder = Cluster::builder(mode).trust(&key).upstream_url(&front.url());
            builder.settings(|settings| settings.outward.roots = Authority::new().root())
        };
        let cluster = trusting().start().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502, "no absence");
        assert_eq!(upstream.total(), 0, "it learned nothing of us");
        cluster.end().await;
        let cluster = trusting().upstream(&upstream).start().await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }
}
