//! What a cache that does nothing has in memory: with 100,000 narinfos in its index, after its start, and again after each
//! of them was asked for.

use std::path::Path;
use std::time::Duration;

use ncps_tests::Connection;
use ncps_tests::bench::{Ncps, Start, Target, paths, row};

use crate::{made, number};

/// What is left then stays.
const REST: Duration = Duration::from_secs(8);

pub(crate) async fn measure(program: &Path) {
    let narinfos = number("BENCH_IDLE_NARINFOS", 100_000);
    let dir = made::small(narinfos).await;
    let start = Start::of(program).on(&dir.path().join("data"));
    let ncps = start.flag("--log-level=warn").start().await;
    tokio::time::sleep(REST).await;
    let idle = ncps.megabytes();
    ask_for_all(&ncps, narinfos).await;
    tokio::time::sleep(REST).await;
    let how = format!("{narinfos} narinfos; {:.0} MB after each was asked for", ncps.megabytes());
    row("memory of its own, idle", idle, "MB", Target::AtMost(60.0), &how);
}

async fn ask_for_all(ncps: &Ncps, narinfos: usize) {
    let mut connection = Connection::open(ncps.addr()).await.expect("a connection");
    for n in 0..narinfos {
        let path = format!("/{}.narinfo", paths::hash(n));
        let mut answer = connection.get(&path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        answer.whole().await;
    }
}
