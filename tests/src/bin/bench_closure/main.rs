//! A warm closure, copied by a real Nix to a store in memory: from ncps, from nginx before the same upstream, which has it
//! as xz, and from a directory that has it as zstd. Run by `tests/bench/run`.
//!
//! ```text
//! bench_closure make DIR           makes the closure in DIR, unless it is there
//! bench_closure NCPS DIR [RUNS]    measures it, RUNS (3) times by turns
//! ```
//!
//! What ncps keeps is compressed anew in the background; copies begin after that has ended. `BENCH_CLOSURE_AS_IS=1` does
//! not wait for it. Absent: cold caches (see `bench_cold`), and a client that has a part of the closure.

mod made;
mod trees;
mod warm;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ncps_nix::NarInfo;
use ncps_tests::bench::{Nginx, Start, Target, median, row};
use ncps_tests::{Nix, Upstream};

use made::{Closure, to_its_end};
use trees::Amount;

/// `TMPFS_MAGIC` of Linux.
const TMPFS: i64 = 0x0102_1994;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next().expect("expected make, or the program ncps");
    let dir = PathBuf::from(args.next().expect("expected the directory of the closure"));
    let runs = args.next().map_or(3, |runs| runs.parse().expect("a whole number of runs"));
    let dir = std::path::absolute(dir).expect("a path");
    if first != "make" {
        return measure(Path::new(&first), &dir, runs).await;
    }
    let most = Amount {
        bytes: number("BENCH_CLOSURE_BYTES", 1_300_000_000),
        files: number("BENCH_CLOSURE_FILES", 60_000),
    };
    Closure::make(&Nix::find().expect("a nix on the PATH"), &dir, most).await;
}

async fn measure(program: &Path, dir: &Path, runs: usize) {
    let closure = Closure::of(dir).expect("bench_closure make makes the closure");
    let (upstream, narinfos) = (Upstream::start().await, closure.narinfos());
    upstream.serve_dir(&closure.xz());
    // As nginx, without a line for each request.
    let start =
        Start::of(program).flag("--log-level=warn").flag(format!("--upstream-cache={}", upstream.url()));
    let ncps = start.flag(format!("--upstream-public-key={}", closure.key)).start().await;
    let nginx = Nginx::before(upstream.addr()).await;
    warm::fetch(nginx.addr(), &narinfos).await;
    warm::fetch(ncps.addr(), &narinfos).await;
    let transcoded = transcoded(ncps.addr(), &narinfos).await;
    let urls = [
        format!("http://{}", ncps.addr()),
        format!("http://{}", nginx.addr()),
        format!("file://{}", closure.zstd().display()),
    ];
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (url, took) in urls.iter().zip(&mut took) {
            took.push(copy(&closure, url).await.as_secs_f64());
        }
    }
    nginx.end().await;
    let [ncps, nginx, file] = took.map(median);
    let how = format!("{ncps:.2} s, nginx {nginx:.2} s; {}; {transcoded}", closure.size);
    row("warm closure to a Nix store: faster", nginx / ncps, "times", Target::AtLeast(3.5), &how);
    let how = format!("{ncps:.2} s, from file:// {file:.2} s");
    row("the same: longer than from files of zstd", ncps / file, "times", Target::AtMost(1.3), &how);
}

/// Waits until everything is zstd, and says how that went.
async fn transcoded(addr: std::net::SocketAddr, narinfos: &[NarInfo]) -> String {
    if std::env::var_os("BENCH_CLOSURE_AS_IS").is_some() {
        return "as it came".to_owned();
    }
    let began = Instant::now();
    match warm::until_zstd(addr, narinfos).await {
        0 => format!("all zstd after {:.0} s more", began.elapsed().as_secs_f64()),
        left => format!("NOT TRANSCODED: {left} of {} narinfos do not name zstd", narinfos.len()),
    }
}

/// With a new client, which knows nothing.
async fn copy(closure: &Closure, url: &str) -> Duration {
    let nix = Nix::find_in(&memory()).expect("a nix on the PATH");
    nix.trust(std::slice::from_ref(&closure.key));
    let mut command = nix.command("nix");
    command.args(["copy", "--from", url, &closure.root.absolute()]);
    let began = Instant::now();
    to_its_end(command).await;
    let took = began.elapsed();
    assert!(nix.real_path(&closure.root).exists(), "it was copied");
    took
}

/// A directory that lies in memory.
fn memory() -> PathBuf {
    let dir = PathBuf::from(std::env::var_os("BENCH_TMPFS").unwrap_or_else(|| "/dev/shm".into()));
    let kind = rustix::fs::statfs(&dir).expect("a file system").f_type;
    assert!(kind == TMPFS, "{} is no tmpfs: name one in BENCH_TMPFS", dir.display());
    dir
}

fn number(name: &str, usually: u64) -> u64 {
    std::env::var(name).map_or(usually, |text| text.parse().expect("a whole number"))
}
