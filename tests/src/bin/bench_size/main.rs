//! What size costs: memory of an idle cache and of many streams, lookups in a large index, the start with a large store.
//! Prints a line for each figure with its target, and ok or short. Run by `tests/bench/run`.
//!
//! ```text
//! bench_size index FILE [PATHS]   makes the large index (5,000,000 paths), unless it is there
//! bench_size NCPS FILE [WHAT…]    measures, with that index: memory, lookups, store; usually all of them
//! ```
//!
//! The index is made apart since it takes minutes, and is never written to: what is measured runs on a copy beside it.
//! Absent: what nginx is compared with.

mod evict;
mod idle;
mod lookups;
mod made;
mod start;
mod store;
mod streams;

use std::path::PathBuf;

use made::Large;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of the large index.
const PATHS: usize = 5_000_000;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next();
    let first = next().expect("expected index, or the program ncps");
    let file = PathBuf::from(next().expect("expected the file of the large index"));
    if first == "index" {
        let paths = next().map_or(PATHS, |paths| paths.parse().expect("a whole number of paths"));
        return made::make(&file, paths).await;
    }
    let program = PathBuf::from(first);
    let chosen: Vec<String> = args.collect();
    let is_chosen = |what: &str| chosen.is_empty() || chosen.iter().any(|one| one == what);
    if is_chosen("memory") {
        idle::measure(&program).await;
        streams::measure(&program).await;
    }
    if is_chosen("lookups") || is_chosen("store") {
        let large = Large::copy(&file);
        large.weigh();
        if is_chosen("lookups") {
            lookups::measure(&large).await;
        }
        if is_chosen("store") {
            let store = store::make(&large);
            start::measure(&program, &large, &store).await;
            evict::measure(&program, &large, &store).await;
        }
    }
}

/// A number that the environment may change, for a quick try.
fn number(name: &str, usually: usize) -> usize {
    std::env::var(name).map_or(usually, |text| text.parse().expect("a whole number"))
}
