//! Lookups while half of a large store is evicted: narinfos at a fixed rate, of paths by chance, so that hardly one is
//! near and control has to find it, while the edge removes files and control plans which.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ncps_tests::SplitMix;
use ncps_tests::bench::paths::{self, CLOSURE};
use ncps_tests::bench::{Latencies, Load, Ncps, Target, row};
use tokio::task::JoinHandle;

use crate::made::Large;
use crate::store::{self, BYTES_EACH, Store};

/// Narinfos per second.
const RATE: u32 = 1_000;
/// An eviction goes down to so much of the limit.
const AFTER: f64 = 0.9;
/// How long the eviction may take.
const PATIENCE: Duration = Duration::from_secs(240);

pub(crate) async fn measure(program: &Path, large: &Large, store: &Store) {
    let goal = store.files / 2;
    let left = (store.files - goal) as u64 * BYTES_EACH + store.directories;
    let limit = (left as f64 / AFTER) as u64;
    let start = store::start(program, large).flag(format!("--cache-max-size={limit}B"));
    let mut ncps = start.start().await;
    let (running, asked) = ask(&ncps, large.paths);
    let began = Instant::now();
    let gone = evicted(&ncps, store.files, goal * 95 / 100).await;
    let took = began.elapsed().as_secs_f64();
    running.store(false, Ordering::Relaxed);
    let latencies = asked.await.expect("no panic").expect("answers");
    ncps.process.terminate().await;
    let how = format!(
        "{RATE} a second, p50 {:.1} ms, the slowest {:.0} ms, while {gone} files went in {took:.1} s",
        latencies.at(0.5),
        latencies.at(1.0)
    );
    row(
        "large index: p99 of lookups during an eviction",
        latencies.at(0.99),
        "ms",
        Target::AtMost(10.0),
        &how,
    );
}

type Asked = JoinHandle<std::io::Result<Latencies>>;

fn ask(ncps: &Ncps, of: usize) -> (Arc<AtomicBool>, Asked) {
    let (running, addr) = (Arc::new(AtomicBool::new(true)), ncps.addr());
    let (paths, on) = (unrelated(of), Arc::clone(&running));
    let asked = tokio::task::spawn_blocking(move || Load { addr, paths: &paths, rate: RATE }.run_while(&on));
    (running, asked)
}

/// Paths by chance, of each closure one: else the edge would look ahead for a client that goes through closures.
fn unrelated(of: usize) -> Vec<String> {
    let mut chance = SplitMix(2);
    let mut closures: Vec<usize> = (0..of / CLOSURE).collect();
    closures.sort_by_cached_key(|_| chance.next());
    let one = |closure: usize| closure * CLOSURE + chance.next() as usize % CLOSURE;
    closures.into_iter().map(one).map(|n| format!("/{}.narinfo", paths::hash(n))).collect()
}

/// Waits until so many of these files are gone.
async fn evicted(ncps: &Ncps, files: usize, goal: usize) -> usize {
    let until = Instant::now() + PATIENCE;
    // Nothing is known before the edge has said what it holds.
    let mut known = false;
    loop {
        let there = ncps.number("ncps_placements").await as usize;
        known |= there > files - goal;
        if known && files - there >= goal {
            return files - there;
        }
        assert!(Instant::now() < until, "{there} of {files} files are still there after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
