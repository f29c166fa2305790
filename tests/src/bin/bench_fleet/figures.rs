//! The control process, and what can be measured of it from outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ncps_tests::scrape::Scrape;
use ncps_tests::{Process, ReservedPort, eventually};
use tempfile::TempDir;
use url::Url;

/// Where control runs.
#[derive(Clone)]
pub(crate) struct Control {
    program: PathBuf,
    dir: std::sync::Arc<TempDir>,
    grpc: std::sync::Arc<ReservedPort>,
    http: std::sync::Arc<ReservedPort>,
}

impl Control {
    pub(crate) fn new(program: PathBuf) -> Control {
        let dir = tempfile::Builder::new().prefix("ncps-bench-").tempdir().expect("a temporary directory");
        Control {
            program,
            dir: dir.into(),
            grpc: ReservedPort::new().into(),
            http: ReservedPort::new().into(),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("db/db.sqlite")
    }

    /// For edges.
    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.grpc.addr())).expect("a URL")
    }

    /// A process that is ready.
    pub(crate) async fn start(&self) -> Process {
        let flags = [
            format!("--cache-data-path={}", self.dir.path().display()),
            format!("--control-addr={}", self.grpc.addr()),
            format!("--control-http-addr={}", self.http.addr()),
            "--cache-hostname=bench".to_owned(),
            "--prometheus-enabled".to_owned(),
        ];
        let home = self.dir.path().display().to_string();
        let mut process = Process::spawn(&self.program, &flags, &[("HOME", &home)]);
        process.ready(self.http.addr()).await;
        process
    }

    async fn scrape(&self) -> Scrape {
        let mut answer = ncps_tests::get(self.http.addr(), "/metrics").await.expect("control's metrics");
        Scrape::parse(&answer.text().await)
    }

    /// The number of a metric now.
    pub(crate) async fn number(&self, name: &str) -> f64 {
        self.scrape().await.number(name, &[])
    }

    /// Rows that were written so far.
    pub(crate) async fn rows(&self) -> f64 {
        self.number("ncps_index_rows_total").await
    }

    pub(crate) async fn until(&self, name: &str, number: usize) {
        let what = format!("{name} is {number}");
        eventually(&what, async || self.number(name).await == number as f64).await;
    }
}

pub(crate) fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// What a process has in memory, in words.
pub(crate) fn memory(process: &Process) -> String {
    let mebibytes = process.anonymous_memory().unwrap_or(0) as f64 / f64::from(1 << 20);
    format!("{mebibytes:.0} MiB of memory of its own")
}

/// The processor's time that a process took.
pub(crate) fn cpu(process: &Process) -> Duration {
    cpu_of(&process.id().to_string())
}

/// The same of this one.
pub(crate) fn own_cpu() -> Duration {
    cpu_of("self")
}

/// User and system, in hundredths of a second, which is what Linux counts in for others to read.
fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
