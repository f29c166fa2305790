//! Limits: connections, requests, heads, and narinfos asked of the upstreams. Past them clients wait or are
//! refused, and nothing collapses. PROTOCOL §11, line 66.

use std::time::Duration;

use ncps_nix::Compression;
use ncps_tests::{
    Cluster, Connection, Fixture, Gate, Request, Rule, Upstream, UpstreamKey, both_modes, eventually,
};

/// What a head may take: little for who waits until it is over, and much for a head that is sent at once.
const HEAD: Duration = Duration::from_secs(2);

/// One request on a connection that is kept.
async fn status(connection: &mut Connection, path: &str) -> u16 {
    let mut response = connection.get(path).await.expect("no reset");
    response.whole().await;
    response.status
}

both_modes! {
    async fn line_66_5000_narinfos_over_a_slow_upstream_stay_within_the_bound(mode) {
        const BOUND: usize = 12;
        let key = UpstreamKey::new("upstream-1");
        let fixture = |n| Fixture::new("many").seed(n).size(16).compression(Compression::None).build(&key);
        let fixtures: Vec<_> = (0..2500).map(fixture).collect();
        let upstream = Upstream::start().await;
        fixtures.iter().for_each(|fixture| upstream.add_narinfo(fixture));
        upstream.script(Rule::on("*.narinfo").delay(Duration::from_millis(50)));
        let builder = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder.settings(|s| s.max_narinfo_requests = BOUND as u32).start().await;

        let paths: Vec<_> = fixtures.iter().map(Fixture::narinfo_path).collect();
        let absent = |n: usize| format!("/{}.narinfo", paths[n][1..33].chars().rev().collect::<String>());
        let asked: Vec<_> = (0..paths.len()).flat_map(|n| [(paths[n].clone(), 200), (absent(n), 404)]).collect();
        let addr = cluster.addr;
        let connections = asked.chunks(asked.len() / 25).map(|share| async move {
            let mut connection = Connection::open(addr).await.expect("accepted");
            for (path, expected) in share {
                assert_eq!(status(&mut connection, path).await, *expected, "{path}");
            }
        });
        let done = futures::future::join_all(connections).await;
        assert_eq!((done.len(), asked.len()), (25, 5000));
        println!("{} connections", upstream.connections());
        assert!(upstream.max_concurrent() <= BOUND, "{}", upstream.max_concurrent());
        assert!(upstream.max_concurrent() > BOUND / 2, "the bound was reached for: {}", upstream.max_concurrent());
        assert_eq!(upstream.total(), 5000, "each once");
        // A client that finds all connections taken opens one more, and takes what is free first.
        assert!(upstream.connections() <= 2 * BOUND, "{} connections in all", upstream.connections());
        cluster.end().await;
    }

    async fn past_the_requests_in_flight_others_are_refused(mode) {
        let upstream = Upstream::start().await;
        let gate = Gate::new();
        upstream.script(Rule::on("*.narinfo").gate(&gate));
        let builder = Cluster::builder(mode).upstream(&upstream);
        let cluster = builder.edge_config(|edge| edge.limits.requests = 2).start().await;
        let path = |n: usize| format!("/{}{n}.narinfo", "0".repeat(31));
        let (first, second) = (path(0), path(1));
        let both = async { tokio::join!(cluster.fetch(&first), cluster.fetch(&second)) };
        let refused = async {
            upstream.wait_for(2, "GET", "/").await;
            let refused = cluster.get("/nix-cache-info").await;
            assert_eq!(refused.status, 503);
            assert!(refused.header("Retry-After").is_some());
            for health in ["/healthz", "/readyz"] {
                assert_eq!(cluster.fetch(health).await.0, 200, "{health} is always answered");
            }
            gate.open();
        };
        let (((a, _), (b, _)), ()) = tokio::join!(both, refused);
        assert_eq!((a, b), (404, 404));
        let again = async || cluster.fetch("/nix-cache-info").await.0 == 200;
        eventually("turns are given back", again).await;
        cluster.end().await;
    }

    async fn a_turn_ends_with_the_body(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("big").size(8 << 20).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let builder = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder.edge_config(|edge| edge.limits.requests = 1).start().await;
        cluster.narinfo(&fixture).await;
        let slow = Connection::with_small_buffer(cluster.addr, 4096).await.expect("accepted");
        let mut body = Request::get(&fixture.canonical_nar_path()).send_over(slow).await.expect("answered");
        body.bytes(1000).await.expect("it has begun");
        assert_eq!(cluster.get("/nix-cache-info").await.status, 503, "the body still runs");
        drop(body);
        eventually("the turn is given back", async || cluster.fetch("/nix-cache-info").await.0 == 200).await;
        cluster.end().await;
    }

    async fn past_the_busy_connections_others_wait(mode) {
        let (upstream, gate) = (Upstream::start().await, Gate::new());
        upstream.script(Rule::on("*.narinfo").gate(&gate));
        let builder = Cluster::builder(mode).upstream(&upstream);
        let cluster = builder.edge_config(|edge| edge.limits.connections = 2).start().await;
        let mut two = Vec::new();
        for n in 0..2 {
            let mut connection = Connection::open(cluster.addr).await.expect("accepted");
            let ask = format!("GET /{}{n}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n", "0".repeat(31));
            connection.write(ask.as_bytes()).await.expect("written");
            two.push(connection);
        }
        upstream.wait_for(2, "GET", "/").await;
        let mut third = Connection::open(cluster.addr).await.expect("the kernel accepts it");
        third.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let early = tokio::time::timeout(Duration::from_millis(400), third.closes()).await;
        assert!(early.is_err(), "neither answered nor refused");
        gate.open();
        for connection in &mut two {
            let mut response = connection.read().await.expect("nobody busy has to go");
            assert_eq!(response.status, 404);
            response.whole().await;
        }
        assert_eq!(third.read().await.expect("answered when one of them is quiet").status, 200);
        drop((two, third));
        cluster.end().await;
    }

    async fn a_connection_in_reserve_makes_room(mode) {
        let builder = Cluster::builder(mode).edge_config(|edge| edge.limits.connections = 2);
        let cluster = builder.start().await;
        let mut in_reserve = Connection::open(cluster.addr).await.expect("accepted");
        assert_eq!(status(&mut in_reserve, "/healthz").await, 200);
        let mut later = Connection::open(cluster.addr).await.expect("accepted");
        assert_eq!(status(&mut later, "/healthz").await, 200);
        let mut third = Connection::open(cluster.addr).await.expect("the kernel accepts it");
        assert_eq!(status(&mut third, "/healthz").await, 200);
        assert!(in_reserve.closes().await.expect("without a reset"), "it was quiet for longest");
        assert_eq!(status(&mut third, "/healthz").await, 200);
        drop((later, third));
        cluster.end().await;
    }

    async fn who_says_nothing_keeps_no_place(mode) {
        let builder = Cluster::builder(mode).edge_config(|edge| {
            edge.limits.connections = 2;
            edge.limits.head_timeout = HEAD;
        });
        let cluster = builder.start().await;
        let silent = Connection::open(cluster.addr).await.expect("accepted");
        // The beginning of HTTP/2, and no more: which version it is stays open.
        let mut vague = Connection::open(cluster.addr).await.expect("accepted");
        vague.write(b"PRI * HT").await.expect("written");
        assert_eq!(cluster.fetch("/healthz").await.0, 200, "a place is free again");
        assert!(vague.closes().await.expect("readable"));
        drop(silent);
        cluster.end().await;
    }

    async fn long_and_slow_heads_are_refused(mode) {
        let builder = Cluster::builder(mode);
        let slow = |edge: &mut ncps_edge::config::EdgeConfig| {
            edge.limits.head_timeout = HEAD;
        };
        let cluster = builder.edge_config(slow).start().await;
        assert_eq!(cluster.fetch(&format!("/{}", "a".repeat(5000))).await.0, 414);
        assert_eq!(cluster.fetch(&format!("/{}", "a".repeat(4000))).await.0, 404);
        for len in [33 << 10, 50 << 10, 200 << 10] {
            let request = Request::get("/healthz").header("X", &"x".repeat(len));
            // The last one is not read to its end, so its answer may be overtaken by a reset.
            let status = request.send(cluster.addr).await.map(|response| response.status);
            assert!(matches!(status, Ok(431)) || (len > 64 << 10 && status.is_err()), "{len}: {status:?}");
        }
        let mut slow = Connection::open(cluster.addr).await.expect("accepted");
        slow.write(b"GET /healthz HTTP/1.1\r\nHos").await.expect("written");
        let ended = slow.read().await;
        assert!(ended.is_err() || ended.is_ok_and(|r| r.status == 408), "a head that does not end is not waited for");
        assert_eq!(cluster.fetch("/healthz").await.0, 200);
        cluster.end().await;
    }
}
