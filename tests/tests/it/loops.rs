//! Caches that list each other, or themselves, as upstreams: nobody waits for who waits for him.
//! (docs/ARCHITECTURE.md, `Via`.)

use std::time::Duration;

use futures::future::join_all;
use ncps_tests::{Cluster, Fixture, Mode, Request, ReservedPort, Upstream, UpstreamKey, both_modes, in_time};

use crate::asking::{ask, get, head};
use crate::scene::{known, plain};

/// Far below any timeout of a cluster that waits for another.
const SOON: Duration = Duration::from_secs(60);

both_modes! {
    async fn who_asks_says_through_whom(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1000)).await;
        get(&cluster, &fixture.nar_path()).await;
        let own = own_id(&cluster);
        for seen in upstream.requests() {
            assert_eq!(seen.headers.get("Via"), Some(&*format!("1.1 ncps-{own}")), "{}", seen.path);
        }
        upstream.forget();
        let other = Fixture::new("other-1.0").build_unsigned();
        ask(&cluster, Request::get(&other.narinfo_path()).header("Via", "1.0 fred, 1.1 ncps-other")).await;
        let said = format!("1.1 ncps-other, 1.1 ncps-{own}");
        assert_eq!(upstream.requests()[0].headers.get("Via"), Some(&*said));
        cluster.end().await;
    }

    async fn what_comes_back_gets_what_is_stored_and_nothing_else(mode) {
        let (cluster, [upstream], stored) = known(mode, plain(1000)).await;
        get(&cluster, &stored.nar_path()).await;
        cluster.quiet().await;
        let key = UpstreamKey::new("upstream-2");
        let unknown = plain(1000).seed(7).build(&key);
        upstream.add(&unknown);
        upstream.put(&format!("/log/{}.drv", stored.narinfo.store_path), "a log");
        upstream.forget();
        let back = format!("1.1 ncps-{}", own_id(&cluster));
        let ask_back = |path: &str| ask(&cluster, Request::get(path).header("Via", &back));
        assert_eq!(ask_back(&stored.narinfo_path()).await.status, 200);
        assert_eq!(ask_back(&stored.nar_path()).await.body, stored.file.to_bytes());
        assert_eq!(ask_back(&unknown.narinfo_path()).await.status, 404);
        assert_eq!(ask_back(&unknown.nar_path()).await.status, 404);
        assert_eq!(ask_back(&format!("/log/{}.drv", stored.narinfo.store_path)).await.status, 404);
        let head_back = Request::head(&unknown.nar_path()).header("Via", &back);
        assert_eq!(ask(&cluster, head_back).await.status, 404);
        assert_eq!(upstream.total(), 0, "{:?}", upstream.requests());
        assert_eq!(head(&cluster, &unknown.nar_path()).await.status, 200, "it was not remembered as absent");
        cluster.end().await;
    }

    async fn a_cache_that_lists_itself_answers_at_once(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (port, upstream) = (ReservedPort::new(), Upstream::start().await);
        let fixture = plain(300_000).build(&key);
        upstream.add(&fixture);
        let itself = Cluster::builder(mode).upstream_url(&format!("http://{}", port.addr()));
        let itself = itself.upstream(&upstream).trust(&key).settings(patient);
        let cluster = itself.edge_config(|edge| edge.server_addr = at(&port)).start().await;
        in_time("an answer", async {
            assert_eq!(get(&cluster, &Fixture::new("absent-1.0").build_unsigned().narinfo_path()).await.status, 404);
            cluster.narinfo(&fixture).await;
            assert!(get(&cluster, &fixture.nar_path()).await.body == fixture.file.to_bytes());
        })
        .await;
        cluster.end().await;
    }

    async fn two_that_list_each_other_don_t_wait_for_each_other(mode) {
        let key = UpstreamKey::new("upstream-1");
        let sources = [Upstream::start().await, Upstream::start().await];
        let [left, right] = pair(mode, &key, &sources).await;
        let of = |source: &Upstream, seed| {
            let fixture = plain(200_000).seed(seed).build(&key);
            source.add(&fixture);
            fixture
        };
        for seed in (0..30).step_by(3) {
            let (a, b) = (of(&sources[0], seed), of(&sources[1], seed + 1));
            let absent = Fixture::new("absent-1.0").seed(seed).build_unsigned().narinfo_path();
            let paths = [a.narinfo_path(), b.narinfo_path(), absent];
            // Both are asked for the same at the same time.
            let both = [&left, &right].map(|cluster| async {
                let answers = paths.each_ref().map(|path| get(cluster, path));
                let statuses: Vec<_> = join_all(answers).await.iter().map(|answer| answer.status).collect();
                assert_eq!(statuses, [200, 200, 404], "{seed}");
                let bodies = [&a, &b].map(|fixture| async {
                    let answer = get(cluster, &fixture.nar_path()).await;
                    assert_eq!(answer.status, 200);
                    assert!(answer.body == fixture.file.to_bytes());
                });
                join_all(bodies).await;
            });
            tokio::time::timeout(SOON, join_all(both)).await.expect("nobody waits for a timeout");
        }
        left.end().await;
        right.end().await;
    }
}

/// With its own source, which comes after the other cluster.
async fn pair(mode: Mode, key: &UpstreamKey, sources: &[Upstream; 2]) -> [Cluster; 2] {
    let ports = [ReservedPort::new(), ReservedPort::new()];
    let start = async |own: usize, other: usize| {
        let other = format!("http://{}", ports[other].addr());
        let builder = Cluster::builder(mode).upstream_url(&other).upstream(&sources[own]).trust(key);
        let builder = builder.settings(patient);
        builder.edge_config(|edge| edge.server_addr = at(&ports[own])).start().await
    };
    [start(0, 1).await, start(1, 0).await]
}

/// A wait for each other would last longer than the test.
fn patient(settings: &mut ncps_proto::EdgeSettings) {
    settings.header_timeout = 10 * SOON;
    settings.idle_timeout = 10 * SOON;
}

fn at(port: &ReservedPort) -> ncps_runtime::config::ListenAddr {
    port.addr().to_string().parse().expect("an address")
}

fn own_id(cluster: &Cluster) -> String {
    cluster.edge.current.get().expect("configured").settings.index_id.clone()
}
