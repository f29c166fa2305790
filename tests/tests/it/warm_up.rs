//! Connections to upstreams over TLS are open before anybody asks for anything: at the start, and when a client comes
//! after a time of quiet.

use std::time::Duration;

use ncps_tests::{Cluster, Connection, Front, Mode, Upstream, UpstreamKey, both_modes, eventually};

use crate::scene;

/// Past the time for which a connection counts as warm.
const QUIET: Duration = Duration::from_secs(46);

struct Scene {
    upstream: Upstream,
    front: Front,
    key: UpstreamKey,
}

impl Scene {
    async fn http1() -> Scene {
        let upstream = Upstream::start().await;
        let front = Front::of(&upstream).http1_only().start().await;
        Scene { upstream, front, key: UpstreamKey::new("upstream-1") }
    }

    async fn cluster(&self, mode: Mode) -> Cluster {
        let builder = Cluster::builder(mode).trust(&self.key).upstream_url(&self.front.url());
        builder.settings(|settings| settings.outward.roots = self.front.authority().root()).start().await
    }

    async fn is_greeted(&self, times: usize) {
        self.upstream.wait_for(times, "HEAD", "/nix-cache-info").await;
        eventually("it has answered", async || self.front.active() == 0).await;
    }
}

both_modes! {
    async fn the_first_request_finds_a_connection(mode) {
        let scene = Scene::http1().await;
        let fixture = scene::plain(100_000).build(&scene.key);
        scene.upstream.add(&fixture);
        let cluster = scene.cluster(mode).await;
        scene.is_greeted(1).await;
        cluster.narinfo(&fixture).await;
        scene::is_served(&cluster, &fixture).await;
        assert_eq!((scene.front.connections(), scene.upstream.total()), (1, 3), "greeted, narinfo and NAR");
        cluster.end().await;
    }

    async fn one_that_can_t_be_reached_is_found_out_by_who_asks(mode) {
        let scene = Scene::http1().await;
        let fixture = scene::plain(100_000).build(&scene.key);
        scene.upstream.add(&fixture);
        scene.upstream.down().await;
        let cluster = scene.cluster(mode).await;
        eventually("it was tried", async || scene.front.connections() == 1).await;
        scene.upstream.up().await;
        scene::is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn who_is_near_is_not_greeted(mode) {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        let fixture = scene::plain(100_000).build(&key);
        upstream.add(&fixture);
        let cluster = Cluster::builder(mode).trust(&key).upstream(&upstream).start().await;
        cluster.narinfo(&fixture).await;
        scene::is_served(&cluster, &fixture).await;
        assert_eq!(upstream.total(), 2, "narinfo and NAR");
        cluster.end().await;
    }
}

#[tokio::test]
async fn a_client_that_comes_after_a_time_of_quiet_opens_it_again() {
    let scene = Scene::http1().await;
    let cluster = scene.cluster(Mode::Split).await;
    scene.is_greeted(1).await;
    let _early = Connection::open(cluster.addr).await.expect("listening");
    tokio::time::sleep(QUIET).await;
    assert_eq!(scene.upstream.total(), 1, "nobody came, or it was warm");
    for _ in 0..5 {
        Connection::open(cluster.addr).await.expect("listening");
    }
    scene.is_greeted(2).await;
    assert_eq!(scene.upstream.total(), 2, "once for all who come");
    cluster.end().await;
}
