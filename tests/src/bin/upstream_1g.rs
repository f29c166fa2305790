//! Both ends of `tests/memory`: an upstream with one huge NAR that is made on the fly, and many clients that read it
//! through ncps at once and hash what comes.
//!
//! ```text
//! upstream_1g serve [BYTES]                     prints url, key, narinfo and sha256; at the end of its input, requests
//! upstream_1g stream ADDR NARINFO SHA256 COUNT  fails unless every body is whole and has this hash
//! ```

use std::io::Read;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures::future::join_all;
use ncps_nix::{Compression, NarInfo};
use ncps_tests::client::Digest;
use ncps_tests::{Fixture, Upstream, UpstreamKey, get};

const GIBIBYTE: u64 = 1 << 30;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["serve"] => serve(GIBIBYTE).await,
        ["serve", bytes] => match bytes.parse() {
            Ok(bytes) => serve(bytes).await,
            Err(error) => Err(error.into()),
        },
        ["stream", addr, narinfo, sha256, count] => stream(addr, narinfo, sha256, count).await,
        _ => Err(anyhow::anyhow!("expected: serve [BYTES], or: stream ADDR NARINFO SHA256 COUNT")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("upstream_1g: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(bytes: u64) -> anyhow::Result<()> {
    let key = UpstreamKey::new("huge-1");
    let fixture = Fixture::new("huge-1.0").size(bytes).compression(Compression::None).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    println!("url {}", upstream.url());
    println!("key {}", key.public());
    println!("narinfo {}", fixture.narinfo_path());
    println!("sha256 {}", fixture.nar.sha256());
    let end_of_input = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(end_of_input).await??;
    println!("requests {}", upstream.count("GET", "/nar/"));
    Ok(())
}

async fn stream(addr: &str, narinfo: &str, sha256: &str, count: &str) -> anyhow::Result<()> {
    let (addr, count): (SocketAddr, usize) = (addr.parse()?, count.parse()?);
    let mut response = get(addr, narinfo).await?;
    ensure!(response.status == 200, "the narinfo is answered with {}", response.status);
    let narinfo = NarInfo::parse(&response.whole().await)?;
    let path = format!("/{}", narinfo.url);
    let started = Instant::now();
    let clients = (0..count).map(|_| tokio::spawn(read(addr, path.clone())));
    let mut total = 0;
    for (client, digest) in join_all(clients).await.into_iter().enumerate() {
        let digest = digest?.with_context(|| format!("client {client}"))?;
        is_right(digest, sha256).with_context(|| format!("client {client}"))?;
        total += digest.len;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{count} whole bodies, {} MB in {seconds:.1} s, {:.0} MB/s",
        total / 1_000_000,
        total as f64 / 1e6 / seconds
    );
    Ok(())
}

async fn read(addr: SocketAddr, path: String) -> anyhow::Result<Digest> {
    let mut response = get(addr, &path).await?;
    ensure!(response.status == 200, "answered with {}", response.status);
    Ok(response.digest().await)
}

fn is_right(digest: Digest, sha256: &str) -> anyhow::Result<()> {
    let Digest { sha256: found, len, whole, .. } = digest;
    ensure!(whole, "cut after {len} bytes");
    ensure!(found.to_string() == sha256, "{len} bytes with hash {found}, not {sha256}");
    Ok(())
}
