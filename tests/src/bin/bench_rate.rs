//! The latency of warm narinfos at a fixed rate. `bench_rate ADDR RATE SECONDS FILE` asks for the paths in FILE, a line
//! each, and prints the p99, in milliseconds. Run by `tests/bench/run`, against ncps and nginx by turns.

use std::time::Duration;

use ncps_tests::bench::Load;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [addr, rate, seconds, file] = &args[..] else { panic!("expected ADDR RATE SECONDS FILE") };
    let paths = std::fs::read_to_string(file).expect("a file with paths");
    let paths: Vec<String> = paths.lines().map(ToOwned::to_owned).collect();
    let (addr, rate) = (addr.parse().expect("an address"), rate.parse().expect("a rate"));
    let time = Duration::from_secs(seconds.parse().expect("whole seconds"));
    let latencies = Load { addr, paths: &paths, rate }.run_for(time).expect("answers");
    println!("{:.3}", latencies.at(0.99));
}
