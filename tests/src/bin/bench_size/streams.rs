//! What a cache has in memory at most while 200 clients read a NAR of 1 GiB that it is fetching. `tests/memory` does the
//! same with fewer clients and looks at every byte.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use ncps_nix::Compression;
use ncps_tests::bench::{Ncps, Start, Target, row};
use ncps_tests::{Fixture, Upstream, UpstreamKey, get};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::number;

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// A client's.
const BUFFER: usize = 256 << 10;

pub(crate) async fn measure(program: &Path) {
    let (streams, bytes) = (number("BENCH_STREAMS", 200), number("BENCH_STREAM_BYTES", 1 << 30));
    let key = UpstreamKey::new("bench-1");
    let nar = Fixture::new("huge").size(bytes as u64).compression(Compression::None).build(&key);
    let upstream = Upstream::with(&[&nar]).await;
    let ncps = Arc::new(Start::of(program).upstream(&upstream.url(), &key).start().await);
    get(ncps.addr(), &nar.narinfo_path()).await.expect("a narinfo").whole().await;
    let over = Arc::new(AtomicBool::new(false));
    let most = tokio::spawn(most(Arc::clone(&ncps), Arc::clone(&over)));
    let began = Instant::now();
    let clients = (0..streams).map(|_| tokio::spawn(read(ncps.addr(), nar.canonical_nar_path())));
    for read in join_all(clients).await {
        let read = read.expect("no panic").expect("a body");
        assert!(read > bytes, "a body of {read} bytes");
    }
    let took = began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let how = format!(
        "{streams} streams of {} MiB, {:.0} MB/s",
        bytes >> 20,
        (streams * bytes) as f64 / 1e6 / took
    );
    row("memory of its own, streams", most.await.expect("no panic"), "MB", Target::AtMost(150.0), &how);
}

/// The most megabytes that were seen.
async fn most(ncps: Arc<Ncps>, over: Arc<AtomicBool>) -> f64 {
    let mut most = ncps.megabytes();
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        most = most.max(ncps.megabytes());
    }
    most
}

/// Reads all that comes, and says how much that was, its head included.
async fn read(addr: SocketAddr, path: String) -> io::Result<usize> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut buffer, mut all) = (vec![0; BUFFER], 0);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(all),
            some => all += some,
        }
    }
}
