//! A process of ncps for a benchmark: with an empty cache, or on the data of a former one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::scrape::Scrape;
use crate::{Process, ReservedPort, UpstreamKey, get};

/// How often it is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(5);

/// How one is to be started.
#[derive(Debug)]
pub struct Start {
    program: PathBuf,
    flags: Vec<String>,
    data: Option<PathBuf>,
}

/// Killed, and its files removed unless they are somebody's, when it is dropped.
#[derive(Debug)]
pub struct Ncps {
    /// To be watched and signalled.
    pub process: Process,
    /// From its start until it said that it is ready.
    pub until_ready: Duration,
    port: ReservedPort,
    _dir: TempDir,
}

impl Start {
    /// This program, with an empty cache and no upstream.
    pub fn of(program: &Path) -> Start {
        Start { program: program.to_owned(), flags: Vec::new(), data: None }
    }

    /// This upstream, whose key is trusted.
    #[must_use]
    pub fn upstream(self, url: &str, key: &UpstreamKey) -> Start {
        self.flag(format!("--upstream-cache={url}")).flag(format!("--upstream-public-key={}", key.public()))
    }

    /// One flag more.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Start {
        self.flags.push(flag.into());
        self
    }

    /// Data that are there, and stay.
    #[must_use]
    pub fn on(mut self, data: &Path) -> Start {
        self.data = Some(data.to_owned());
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(self) -> Ncps {
        let dir = tempfile::Builder::new().prefix("ncps-bench-").tempdir().expect("a temporary directory");
        let port = ReservedPort::new();
        let data = self.data.unwrap_or_else(|| dir.path().join("data"));
        let mut flags = vec![
            "serve".to_owned(),
            format!("--cache-data-path={}", data.display()),
            format!("--control-addr=unix:{}", dir.path().join("control.sock").display()),
            "--control-http-addr=127.0.0.1:0".to_owned(),
            format!("--server-addr={}", port.addr()),
            "--cache-hostname=bench".to_owned(),
            "--prometheus-enabled".to_owned(),
        ];
        flags.extend(self.flags);
        let home = dir.path().display().to_string();
        let began = Instant::now();
        let process = Process::spawn(&self.program, &flags, &[("HOME", &home)]);
        let mut ncps = Ncps { process, until_ready: Duration::ZERO, port, _dir: dir };
        ncps.ready().await;
        ncps.until_ready = began.elapsed();
        ncps
    }
}

impl Ncps {
    /// Asked often, since the time that it takes is a figure.
    async fn ready(&mut self) {
        while !get(self.addr(), "/readyz").await.is_ok_and(|answer| answer.status == 200) {
            let ended = self.process.try_exit();
            assert!(ended.is_none(), "ended by itself:\n{}", self.process.lines().join("\n"));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where clients are served.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The number of a metric now.
    ///
    /// # Panics
    /// If it says none.
    pub async fn number(&self, name: &str) -> f64 {
        let mut answer = get(self.addr(), "/metrics").await.expect("its metrics");
        Scrape::parse(&answer.text().await).number(name, &[])
    }

    /// MB of memory of its own, as `RssAnon` says.
    ///
    /// # Panics
    /// If it has ended.
    pub fn megabytes(&self) -> f64 {
        self.process.anonymous_memory().expect("it runs") as f64 / 1e6
    }
}
