//! Many at once, and limits: connections, streams, downloads, readers that stop. (PROTOCOL.md §11, lines 66
//! and 67.)

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ncps_nix::Compression;
use ncps_proto::EdgeSettings;
use ncps_tests::client::Connection;
use ncps_tests::{
    Cluster, Fixture, Gate, Request, Rule, UpstreamKey, always, both_modes, eventually, in_time,
};
use tokio::net::TcpStream;

use crate::asking::get;
use crate::scene::{empty, empty_with, impatient, is_served, known, known_with, learn, plain};

const A_WHILE: Duration = Duration::from_millis(200);
/// Longer than any gate here is shut.
const NO_HURRY: Duration = Duration::from_secs(600);
/// After which clients close idle connections themselves is 90 s.
const IDLE: Duration = Duration::from_secs(91);
/// Longer than any time that is given to a client, or to a download, here.
const STOPPED: Duration = Duration::from_secs(121);
/// As many streams as Nix opens on one connection.
const STREAMS: usize = 125;

both_modes! {
    /// 25,000 requests take some seconds.
    async fn line_66_25_connections_ask_for_1000_narinfos_each(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixtures = several(&key, 25, 100);
        let mut texts = Vec::new();
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
            texts.push((fixture.narinfo_path(), get(&cluster, &fixture.narinfo_path()).await.body));
        }
        let clients = (0..25).map(async |client| {
            let mut connection = Connection::open(cluster.addr).await.expect("connected");
            for n in 0..1000 {
                let (path, text) = &texts[(client + n) % texts.len()];
                let mut told = connection.get(path).await.expect("answered on the same connection");
                assert_eq!(told.status, 200);
                assert!(told.whole().await == text);
            }
        });
        join_all(clients).await;
        assert_eq!(upstream.total(), 25);
        cluster.end().await;
    }

    async fn line_66_one_h2_connection_carries_125_streams(mode) {
        let (cluster, [upstream], key) =
            empty_with(mode, |settings| settings.header_timeout = NO_HURRY).await;
        let fixtures = several(&key, STREAMS as u64, 100);
        fixtures.iter().for_each(|fixture| upstream.add(fixture));
        let gate = Gate::new();
        upstream.script(Rule::on("*.narinfo").gate(&gate));
        let client = h2(&cluster).await;
        let ask = |fixture: &Fixture| ask_h2(&client, &cluster, fixture.narinfo_path());
        let asked = join_all(fixtures.iter().map(ask));
        // All of them are under way at the same time.
        let upstream_side = async {
            gate.reached_by(STREAMS).await;
            gate.open();
        };
        let (narinfos, ()) = tokio::join!(asked, upstream_side);
        assert!(narinfos.iter().all(|(status, body)| *status == 200 && !body.is_empty()));
        drop(client);
        cluster.end().await;
    }

    async fn line_66_one_h2_connection_carries_125_bodies(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(300_000)).await;
        let file = fixture.file.to_bytes();
        let client = h2(&cluster).await;
        for _ in ["cold", "stored"] {
            let bodies = join_all((0..STREAMS).map(|_| ask_h2(&client, &cluster, fixture.nar_path()))).await;
            assert!(bodies.iter().all(|(status, body)| *status == 200 && *body == file));
            cluster.quiet().await;
        }
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        drop(client);
        cluster.end().await;
    }

    /// Takes 91 s: nothing but time can show it.
    async fn line_66_an_idle_connection_is_alive_after_90_seconds(mode) {
        let (cluster, [_], fixture) = known(mode, plain(100)).await;
        let path = fixture.narinfo_path();
        let mut used = Connection::open(cluster.addr).await.expect("connected");
        let text = used.get(&path).await.expect("answered").whole().await;
        let mut fresh = Connection::open(cluster.addr).await.expect("connected");
        let client = h2(&cluster).await;
        ask_h2(&client, &cluster, path.clone()).await;
        tokio::time::sleep(IDLE).await;
        for connection in [&mut used, &mut fresh] {
            let mut told = connection.get(&path).await.expect("answered on the same connection");
            assert_eq!((told.status, told.whole().await), (200, text.clone()));
        }
        assert_eq!(ask_h2(&client, &cluster, path).await, (200, text));
        drop((used, fresh, client));
        cluster.end().await;
    }

    /// Takes three seconds, of the cold body and of the stored one: longer than an upstream would be given.
    async fn line_67_a_client_that_stops_reading_goes_on_later(mode) {
        let (cluster, [upstream], fixture) = known_with(mode, plain(16 << 20), impatient).await;
        let file = fixture.file.to_bytes();
        for _ in ["cold", "stored"] {
            let mut connection = Connection::with_small_buffer(cluster.addr, 4096).await.expect("connected");
            let mut response = connection.get(&fixture.nar_path()).await.expect("answered");
            let begin = response.bytes(10_000).await.expect("its beginning");
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!([begin, response.whole().await].concat() == file);
            cluster.quiet().await;
        }
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    /// Takes 121 s: nothing but time can show it. The cold body and the stored one wait side by side.
    async fn line_67_a_client_that_stops_reading_for_two_minutes_goes_on(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(16 << 20)).await;
        let file = fixture.file.to_bytes();
        let mut stopped = Vec::new();
        for _ in ["cold", "stored"] {
            let connection = Connection::with_small_buffer(cluster.addr, 4096).await.expect("connected");
            let mut response = Request::get(&fixture.nar_path()).send_over(connection).await.expect("answered");
            let begin = response.bytes(10_000).await.expect("its beginning");
            stopped.push((begin, response));
            eventually("it is stored", async || cluster.stores(&fixture.nar_path())).await;
        }
        tokio::time::sleep(STOPPED).await;
        for (begin, mut response) in stopped {
            assert!([begin, response.whole().await].concat() == file);
        }
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn no_more_than_max_downloads_run_at_once(mode) {
        let two = |settings: &mut EdgeSettings| {
            (settings.max_downloads, settings.header_timeout) = (2, NO_HURRY);
        };
        let (cluster, [upstream], key) = empty_with(mode, two).await;
        let fixtures = several(&key, 20, 100_000);
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        upstream.forget();
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").gate(&gate));
        let upstream_side = async {
            eventually("all are asked for", async || cluster.edge.engine.running() == 20).await;
            gate.reached_by(2).await;
            always("two are fetched", A_WHILE, async || upstream.active() == 2).await;
            gate.open();
        };
        let fetch = async |fixture: &Fixture| get(&cluster, &fixture.nar_path()).await;
        let served = join_all(fixtures.iter().map(fetch));
        let (served, ()) = tokio::join!(served, upstream_side);
        for (fixture, told) in fixtures.iter().zip(served) {
            assert!(told.status == 200 && told.body == fixture.file.to_bytes());
        }
        assert_eq!((upstream.max_concurrent(), upstream.total()), (2, 20));
        cluster.end().await;
    }

    /// Each keeps a thread for its proof.
    async fn as_many_downloads_as_may_be_leave_threads_for_others(mode) {
        const MOST: usize = 256;
        let many = |settings: &mut EdgeSettings| {
            (settings.max_downloads, settings.header_timeout) = (MOST as u32, NO_HURRY);
            settings.idle_timeout = NO_HURRY;
        };
        let (cluster, [upstream], key) = empty_with(mode, many).await;
        let compressed = |seed| plain(20_000).seed(seed).compression(Compression::Zstd).build(&key);
        let fixtures: Vec<_> = (0..=MOST as u64).map(compressed).collect();
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        let (stored, fetched) = fixtures.split_first().expect("one more");
        is_served(&cluster, stored).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(10_000, &gate));
        let others = async {
            gate.reached_by(MOST).await;
            let told = in_time("a stored file", get(&cluster, &stored.nar_path())).await;
            assert!(told.status == 200 && told.body == stored.file.to_bytes());
            gate.open();
        };
        let served = join_all(fetched.iter().map(async |fixture| get(&cluster, &fixture.nar_path()).await));
        let (served, ()) = tokio::join!(served, others);
        assert!(served.iter().zip(fetched).all(|(told, fixture)| told.body == fixture.file.to_bytes()));
        cluster.end().await;
    }

    async fn beyond_what_may_wait_a_download_is_refused_until_there_is_room(mode) {
        let few = |settings: &mut EdgeSettings| {
            (settings.max_downloads, settings.max_waiting_downloads) = (1, 2);
            settings.header_timeout = NO_HURRY;
        };
        let (cluster, [upstream], key) = empty_with(mode, few).await;
        let fixtures = several(&key, 4, 100_000);
        for fixture in &fixtures {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        let (admitted, refused) = (&fixtures[..3], &fixtures[3]);
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").gate(&gate));
        let others = async {
            eventually("three are asked for", async || cluster.edge.engine.running() == 3).await;
            let told = get(&cluster, &refused.nar_path()).await;
            assert_eq!((told.status, told.text()), (503, "too much to do, try again\n"));
            assert!(told.headers.number("Retry-After").is_some_and(|seconds| seconds > 0));
            assert_eq!(get(&cluster, &refused.narinfo_path()).await.status, 200, "that needs no download");
            gate.open();
        };
        // The first one twice: who wants what is under way already needs no place.
        let wanted = admitted.iter().chain(&admitted[..1]);
        let served = join_all(wanted.map(async |fixture| { get(&cluster, &fixture.nar_path()).await }));
        let (served, ()) = tokio::join!(served, others);
        assert!(served.iter().all(|told| told.status == 200));
        cluster.quiet().await;
        is_served(&cluster, refused).await;
        cluster.end().await;
    }
}

fn several(key: &UpstreamKey, n: u64, size: u64) -> Vec<Fixture> {
    (0..n).map(|seed| plain(size).seed(seed).build(key)).collect()
}

type H2 = SendRequest<Empty<Bytes>>;

/// One connection of HTTP/2 with prior knowledge. It ends when the client is dropped.
async fn h2(cluster: &Cluster) -> H2 {
    let stream = TcpStream::connect(cluster.addr).await.expect("connected");
    let made = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (client, connection) = made.expect("the edge speaks HTTP/2");
    tokio::spawn(connection);
    client
}

/// The whole answer to a GET; a reset stream is a panic.
async fn ask_h2(client: &H2, cluster: &Cluster, path: String) -> (u16, Bytes) {
    let request = http::Request::get(cluster.url() + &path).body(Empty::new()).expect("a request");
    let response = client.clone().send_request(request).await.expect("answered");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("not reset");
    (status, body.to_bytes())
}
