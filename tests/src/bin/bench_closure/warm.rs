//! Makes caches warm, and waits until ncps has everything as zstd.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ncps_nix::{Compression, NarInfo, StorePathHash};
use ncps_tests::Connection;

/// How long it may take until everything is zstd.
const PATIENCE: Duration = Duration::from_secs(420);
const LOOK: Duration = Duration::from_secs(1);

/// Has a cache fetch every path, narinfo and NAR.
pub(crate) async fn fetch(addr: SocketAddr, narinfos: &[NarInfo]) {
    let mut connection = Connection::open(addr).await.expect("a connection");
    for narinfo in narinfos {
        let named = ask(&mut connection, narinfo.store_path.hash()).await;
        let mut nar = connection.get(&format!("/{}", named.url)).await.expect("an answer");
        assert_eq!(nar.status, 200, "{}", named.url);
        while nar.chunk().await.expect("its bytes").is_some() {}
    }
}

/// Waits until each narinfo names zstd. Returns how many don't when patience is over.
pub(crate) async fn until_zstd(addr: SocketAddr, narinfos: &[NarInfo]) -> usize {
    let until = Instant::now() + PATIENCE;
    let mut left: Vec<StorePathHash> = narinfos.iter().map(|narinfo| narinfo.store_path.hash()).collect();
    while !left.is_empty() && Instant::now() < until {
        left = not_zstd(addr, &left).await;
        tokio::time::sleep(LOOK).await;
    }
    left.len()
}

async fn not_zstd(addr: SocketAddr, paths: &[StorePathHash]) -> Vec<StorePathHash> {
    let mut connection = Connection::open(addr).await.expect("a connection");
    let mut left = Vec::new();
    for path in paths {
        if ask(&mut connection, *path).await.compression != Compression::Zstd {
            left.push(*path);
        }
    }
    left
}

async fn ask(connection: &mut Connection, path: StorePathHash) -> NarInfo {
    let mut answer = connection.get(&format!("/{path}.narinfo")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    NarInfo::parse(&answer.whole().await).expect("a narinfo")
}
