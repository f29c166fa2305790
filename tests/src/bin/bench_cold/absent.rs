//! 5,000 paths that no upstream has, asked for twice: the second time nobody is to be asked.

use std::path::Path;

use ncps_nix::StorePathHash;
use ncps_tests::bench::{Ncps, Start, Target, row};
use ncps_tests::{Connection, SplitMix, Upstream, UpstreamKey};

const PATHS: usize = 5_000;

pub(crate) async fn measure(program: &Path) {
    let (key, upstream) = (UpstreamKey::new("bench-1"), Upstream::start().await);
    let ncps = Start::of(program).upstream(&upstream.url(), &key).start().await;
    let first = round(&ncps, &upstream).await;
    let again = round(&ncps, &upstream).await;
    let how = format!("{first} the first time");
    row("5,000 absences again: requests to the upstream", again as f64, "", Target::AtMost(0.0), &how);
}

/// How often the upstream was asked.
async fn round(ncps: &Ncps, upstream: &Upstream) -> usize {
    let before = upstream.total();
    let mut connection = Connection::open(ncps.addr()).await.expect("a connection");
    let mut chance = SplitMix(1);
    for _ in 0..PATHS {
        let mut bytes = [0; 20];
        bytes.chunks_mut(8).for_each(|some| some.copy_from_slice(&chance.next().to_le_bytes()[..some.len()]));
        let path = format!("/{}.narinfo", StorePathHash::from_bytes(bytes));
        let mut response = connection.get(&path).await.expect("an answer");
        assert_eq!(response.status, 404);
        response.whole().await;
    }
    upstream.total() - before
}
