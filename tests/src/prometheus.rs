//! The real Prometheus, as Debian ships it: a server that scrapes what a test starts, and `promtool`. Where they are
//! not on the PATH the tests that want them pass without having tried; with `NCPS_REQUIRE_PROMETHEUS=1` they fail.
//!
//! Absent: what is asked of it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Process, Request, ReservedPort};

/// A server, which is killed when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: ReservedPort,
    _dir: TempDir,
}

/// Whether both programs are there.
///
/// # Panics
/// If they are not, and `NCPS_REQUIRE_PROMETHEUS` is `1`.
pub fn is_there() -> bool {
    if on_path("prometheus").is_some() && on_path("promtool").is_some() {
        return true;
    }
    let required = std::env::var("NCPS_REQUIRE_PROMETHEUS").is_ok_and(|value| value == "1");
    assert!(!required, "NCPS_REQUIRE_PROMETHEUS is set and there is no prometheus and promtool on the PATH");
    eprintln!("skipped: there is no prometheus on the PATH");
    false
}

/// Processes of ours have no PATH that they could be found by.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

impl Prometheus {
    /// Scrapes these jobs every second, and evaluates the rules of this file.
    ///
    /// # Panics
    /// If it is not there, or does not become ready.
    pub async fn start(jobs: &[(&str, Vec<SocketAddr>)], rules: &Path) -> Self {
        let dir =
            tempfile::Builder::new().prefix("ncps-prometheus-").tempdir().expect("a temporary directory");
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, configuration(jobs, rules)).expect("room");
        let port = ReservedPort::new();
        let args = [
            "--log.level=warn".to_owned(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.path().join("data").display()),
            format!("--web.listen-address={}", port.addr()),
        ];
        let program = on_path("prometheus").expect("it is there");
        let process = Process::spawn(&program, &args, &[]);
        let mut server = Self { process, port, _dir: dir };
        server.process.answers(server.port.addr(), "/-/ready").await;
        server
    }

    /// What a query has for an answer: its series, or a single number.
    ///
    /// # Errors
    /// What Prometheus says of it.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={query}")).await;
        match answer["data"]["result"].as_array() {
            Some(result) if answer["status"] == "success" => Ok(result.clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The rules that it evaluates, with how that went.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules").await;
        let groups = answer["data"]["groups"].as_array().expect("groups").clone();
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }

    async fn get(&self, path: &str) -> Value {
        let mut response = Request::get(path).send(self.port.addr()).await.expect("it answers");
        serde_json::from_slice(&response.whole().await).expect("JSON")
    }
}

fn configuration(jobs: &[(&str, Vec<SocketAddr>)], rules: &Path) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n",
        rules.display()
    );
    for (job, targets) in jobs {
        let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let targets = targets.join(", ");
        writeln!(text, "  - {{job_name: {job}, static_configs: [{{targets: [{targets}]}}]}}")
            .expect("a string");
    }
    text
}
