//! The upstream of the benchmark: serves signed narinfos and one large NAR until it is killed, and writes into a
//! directory where they are. `bench_upstream DIR NARINFOS NAR_BYTES`.

use std::fs;
use std::path::Path;

use ncps_nix::Compression;
use ncps_tests::{Fixture, Upstream, UpstreamKey};

#[tokio::main]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [dir, narinfos, nar_bytes] = &args[..] else { panic!("expected DIR NARINFOS NAR_BYTES") };
    let (narinfos, nar_bytes) = (number(narinfos), number(nar_bytes));
    let key = UpstreamKey::new("bench-1");
    let build = |name: &str, seed, size| {
        Fixture::new(name).seed(seed).size(size).compression(Compression::None).build(&key)
    };
    let upstream = Upstream::start().await;
    let mut paths = String::new();
    for seed in 0..narinfos {
        let fixture = build("small", seed, 1000);
        paths += &format!("{}\n", fixture.narinfo_path());
        upstream.add(&fixture);
    }
    let large = build("large", 0, nar_bytes);
    upstream.add(&large);
    let dir = Path::new(dir);
    let write =
        |name: &str, text: String| fs::write(dir.join(name), text).expect("the directory can be written");
    write("narinfos", paths);
    write("large", format!("{}\n{}\n", large.narinfo_path(), large.canonical_nar_path()));
    write("key", format!("{}\n", key.public()));
    // The last one: who waits for it finds the others.
    write("url", format!("{}\n", upstream.url()));
    std::future::pending::<()>().await;
}

fn number(text: &str) -> u64 {
    text.parse().expect("a whole number")
}
