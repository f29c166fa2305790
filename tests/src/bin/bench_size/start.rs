//! How long a process takes from its start until it says that it is ready, with many files in its store and many paths in
//! its index. What it has to know of each file it learns after that; how long this takes stands beside.

use std::path::Path;
use std::time::{Duration, Instant};

use ncps_tests::bench::{Ncps, Target, median, row};

use crate::made::Large;
use crate::store::{self, Store};

const STARTS: usize = 5;

pub(crate) async fn measure(program: &Path, large: &Large, store: &Store) {
    // The first one makes what an edge keeps beside its store.
    let (mut ready, mut known) = (Vec::new(), Vec::new());
    for start in 0..=STARTS {
        let mut ncps = store::start(program, large).start().await;
        let all = all_known(&ncps, store).await;
        if start > 0 {
            ready.push(ncps.until_ready.as_secs_f64());
            known.push((ncps.until_ready + all).as_secs_f64());
        }
        ncps.process.terminate().await;
    }
    let how = format!(
        "{} NARs, as many narinfo files, {} paths; all known to control after {:.1} s",
        store.files,
        large.paths,
        median(known)
    );
    row("start to ready, a large store and index", median(ready), "s", Target::AtMost(1.0), &how);
}

async fn all_known(ncps: &Ncps, store: &Store) -> Duration {
    let began = Instant::now();
    while ncps.number("ncps_placements").await < store.files as f64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}
