//! What a cache costs and gains while it has nothing yet: a cold closure query, absences, a cold NAR, and many at once.
//! Prints one line per figure with its target, and ok or short.
//!
//! ```text
//! bench_cold NCPS [RUNS]      NCPS is the program; medians of RUNS (3) alternating runs
//! ```
//!
//! Absent: what is warm (`tests/bench/run` measures it beside nginx), and any claim about numbers that are no ratios.

mod absent;
mod closure;
mod many;
mod nar;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().expect("the path of ncps"));
    let runs = args.next().map_or(3, |runs| runs.parse().expect("a whole number of runs"));
    closure::measure(&program, runs).await;
    absent::measure(&program).await;
    nar::measure(&program, runs).await;
    many::measure(&program).await;
}
