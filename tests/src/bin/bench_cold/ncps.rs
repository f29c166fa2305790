//! A process of ncps with an empty cache.

use std::net::SocketAddr;
use std::path::Path;

use ncps_tests::{Process, ReservedPort, UpstreamKey};
use tempfile::TempDir;

/// Killed, and its files removed, when it is dropped.
pub(crate) struct Ncps {
    _process: Process,
    port: ReservedPort,
    _dir: TempDir,
}

impl Ncps {
    /// Ready, with this upstream, whose authority is trusted where one is given, in PEM.
    pub(crate) async fn start(
        program: &Path,
        upstream: &str,
        key: &UpstreamKey,
        roots: Option<&str>,
    ) -> Ncps {
        let dir = tempfile::Builder::new().prefix("ncps-bench-").tempdir().expect("a temporary directory");
        let port = ReservedPort::new();
        let mut flags = vec![
            "serve".to_owned(),
            format!("--cache-data-path={}", dir.path().join("data").display()),
            format!("--control-addr=unix:{}", dir.path().join("control.sock").display()),
            format!("--server-addr={}", port.addr()),
            format!("--upstream-cache={upstream}"),
            format!("--upstream-public-key={}", key.public()),
            "--cache-hostname=bench".to_owned(),
            "--prometheus-enabled".to_owned(),
        ];
        if let Some(roots) = roots {
            let file = dir.path().join("roots.pem");
            std::fs::write(&file, roots).expect("written");
            flags.push(format!("--upstream-ca-file={}", file.display()));
        }
        let home = dir.path().display().to_string();
        let mut process = Process::spawn(program, &flags, &[("HOME", &home)]);
        process.ready(port.addr()).await;
        Ncps { _process: process, port, _dir: dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }
}
