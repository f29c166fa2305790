//! 500 cold NARs at once: all come, so many downloads run and no more, and meanwhile narinfos are answered as fast as ever.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ncps_nix::Compression;
use ncps_tests::bench::{Start, Target, row};
use ncps_tests::scrape::Scrape;
use ncps_tests::{Connection, Fixture, Link, Upstream, UpstreamKey, get};

const NARS: u64 = 500;
const BYTES: u64 = 1_000_000;
/// Between two narinfos.
const PAUSE: Duration = Duration::from_millis(2);
/// Narinfos between two looks at the downloads.
const LOOK_EVERY: usize = 10;
/// Half of a round trip to the upstream.
const ONE_WAY: Duration = Duration::from_millis(10);
/// `--max-downloads`, unless it is given.
const DOWNLOADS: f64 = 32.0;

pub(crate) async fn measure(program: &Path) {
    let key = UpstreamKey::new("bench-1");
    let build = |seed| Fixture::new("many").seed(seed).size(BYTES).compression(Compression::None).build(&key);
    let fixtures: Vec<Fixture> = (0..NARS).map(build).collect();
    let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
    let link = Link::tcp(upstream.addr()).await;
    link.delay(ONE_WAY);
    let ncps = Start::of(program).upstream(&format!("http://{}", link.addr()), &key).start().await;
    for fixture in &fixtures {
        get(ncps.addr(), &fixture.narinfo_path()).await.expect("a narinfo").whole().await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let narinfos = tokio::spawn(ask(ncps.addr(), fixtures[0].narinfo_path(), Arc::clone(&over)));
    let started = Instant::now();
    let clients =
        fixtures.iter().map(|fixture| tokio::spawn(fetch(ncps.addr(), fixture.canonical_nar_path())));
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a whole NAR");
    }
    let took = started.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let (mut latencies, most) = narinfos.await.expect("narinfos");
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3;
    let how = format!("{NARS} whole NARs of 1 MB in {took:.2} s");
    row("500 cold NARs at once: p99 of narinfos", p99, "ms", Target::AtMost(50.0), &how);
    row("500 cold NARs at once: downloads", most, "", Target::AtMost(DOWNLOADS), "as --max-downloads says");
}

async fn fetch(addr: SocketAddr, path: String) {
    let mut response = get(addr, &path).await.expect("an answer");
    assert_eq!(response.status, 200);
    assert!(response.whole().await.len() as u64 >= BYTES);
}

/// How long narinfos took, and the most downloads that were seen to run.
async fn ask(addr: SocketAddr, path: String, over: Arc<AtomicBool>) -> (Vec<Duration>, f64) {
    let mut connection = Connection::open(addr).await.expect("a connection");
    let (mut latencies, mut most) = (Vec::new(), 0.0_f64);
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        connection.get(&path).await.expect("a narinfo").whole().await;
        latencies.push(asked.elapsed());
        if latencies.len().is_multiple_of(LOOK_EVERY) {
            let metrics = connection.get("/metrics").await.expect("metrics").text().await;
            let fetching = Scrape::parse(&metrics).get("ncps_transfers", &[("stage", "fetching")]);
            most = most.max(fetching.unwrap_or_default());
        }
        tokio::time::sleep(PAUSE).await;
    }
    (latencies, most)
}
