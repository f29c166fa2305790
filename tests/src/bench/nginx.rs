//! nginx's `proxy_cache` before an upstream, as `tests/bench/nginx.conf` sets it up, with an empty cache.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::{Process, ReservedPort};

const CONFIGURATION: &str = include_str!("../../bench/nginx.conf");

/// Ended, and its cache removed, when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: ReservedPort,
    dir: TempDir,
}

impl Nginx {
    /// Ready, before the upstream at this address.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn before(upstream: SocketAddr) -> Nginx {
        let dir = tempfile::Builder::new().prefix("ncps-nginx-").tempdir().expect("a temporary directory");
        // Of root's nginx the workers are another user.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("it is ours");
        let port = ReservedPort::new();
        let text = configuration(dir.path(), port.addr(), upstream);
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, text).expect("room for its configuration");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-c").arg(file);
        let mut process = Process::spawn_command(command);
        process.answers(port.addr(), "/nix-cache-info").await;
        Nginx { process, port, dir }
    }

    /// Where clients are served.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Asks it to end, so that its workers end with it.
    pub async fn end(mut self) {
        self.process.terminate().await;
        drop(self.dir);
    }
}

fn configuration(dir: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    CONFIGURATION
        .replace("@DIR@", &dir.display().to_string())
        .replace("@PORT@", &listen.port().to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
}
