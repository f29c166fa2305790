//! Telling the service manager that the process has started or stops (`sd_notify(3)`).
//!
//! Knows the protocol: a datagram of `KEY=value` lines to the socket that `$NOTIFY_SOCKET` names. Absent:
//! the watchdog, and sockets handed over (whoever listens takes them).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::Env;

/// A service manager, or nobody.
#[derive(Debug, Clone, Default)]
pub struct Notify(Option<String>);

impl Notify {
    /// Nobody to tell.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }

    /// Whoever `$NOTIFY_SOCKET` names: a path, or an abstract socket after `@`.
    #[must_use]
    pub fn from_env(env: Env<'_>) -> Self {
        Self(env("NOTIFY_SOCKET").filter(|name| name.starts_with(['/', '@'])))
    }

    /// The process has started.
    pub fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// The process was asked to stop, and stops.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, message: &str) {
        if let Some(name) = &self.0
            && let Err(error) = send(name, message)
        {
            tracing::warn!(%error, socket = name, "the service manager can't be told");
        }
    }
}

fn send(name: &str, message: &str) -> io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_reach_the_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let name = path.to_str().expect("temporary paths are text").to_owned();
        let notify = Notify::from_env(&|key| (key == "NOTIFY_SOCKET").then(|| name.clone()));
        notify.ready();
        notify.stopping();
        let mut buffer = [0; 64];
        let mut receive = || manager.recv(&mut buffer).map(|n| buffer[..n].to_vec()).expect("sent");
        assert_eq!(receive(), b"READY=1\n");
        assert_eq!(receive(), b"STOPPING=1\n");
    }

    #[test]
    fn without_a_socket_nobody_is_told() {
        assert!(Notify::from_env(&|_| None).0.is_none());
        assert!(Notify::from_env(&|_| Some("relative".to_owned())).0.is_none());
    }
}
