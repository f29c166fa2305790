//! A NAR of 200 MB that nobody has, from an upstream that gives 1 Gbit/s and is 20 ms away: when its first byte is there,
//! and when all of it is, directly and through ncps, both over connections that were used before.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ncps_nix::Compression;
use ncps_tests::bench::{Start, Target, median, row};
use ncps_tests::{Connection, Fixture, Link, Upstream, UpstreamKey};

const BYTES: u64 = 200_000_000;
const PER_SECOND: u64 = 125_000_000;
/// Half of a round trip.
const ONE_WAY: Duration = Duration::from_millis(10);

pub(crate) async fn measure(program: &Path, runs: usize) {
    let (key, upstream) = (UpstreamKey::new("bench-1"), Upstream::start().await);
    let link = Link::tcp(upstream.addr()).await;
    link.delay(ONE_WAY);
    link.throttle(PER_SECOND);
    let ncps = Start::of(program).upstream(&format!("http://{}", link.addr()), &key).start().await;
    let (mut first, mut total) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for run in 0..runs as u64 {
        for (n, addr) in [link.addr(), ncps.addr()].into_iter().enumerate() {
            let fixture = Fixture::new("large").seed(2 * run + n as u64).size(BYTES);
            let fixture = fixture.compression(Compression::None).build(&key);
            upstream.add(&fixture);
            let (begun, whole) = fetch(addr, &fixture).await;
            first[n].push(begun);
            total[n].push(whole);
            upstream.remove_fixture(&fixture);
        }
    }
    let ([direct, through], [all, all_through]) = (first.map(median), total.map(median));
    let how = format!("{:.1} ms directly, {:.1} ms through ncps", direct * 1e3, through * 1e3);
    row("cold NAR, 200 MB: first byte later by", (through - direct) * 1e3, "ms", Target::AtMost(3.0), &how);
    let how = format!("{all:.2} s directly, {all_through:.2} s through ncps");
    row("cold NAR, 200 MB: total", all_through / all, "times", Target::AtMost(1.05), &how);
}

/// Seconds to the first byte, and to the last one.
async fn fetch(addr: SocketAddr, fixture: &Fixture) -> (f64, f64) {
    let mut connection = Connection::open(addr).await.expect("a connection");
    connection.get(&fixture.narinfo_path()).await.expect("a narinfo").whole().await;
    let started = Instant::now();
    let mut response = connection.get(&fixture.canonical_nar_path()).await.expect("a NAR");
    assert_eq!(response.status, 200);
    let (mut begun, mut bytes) = (None, 0);
    while let Some(chunk) = response.chunk().await.expect("its bytes") {
        begun.get_or_insert_with(|| started.elapsed());
        bytes += chunk.len() as u64;
    }
    assert!(bytes >= BYTES, "only {bytes} bytes came");
    (begun.expect("a byte").as_secs_f64(), started.elapsed().as_secs_f64())
}
