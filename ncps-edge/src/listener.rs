//! Where Nix clients are listened for: at the socket that systemd handed over, else at `--server-addr`.

use std::io;

use listenfd::ListenFd;
use ncps_runtime::config::ListenAddr;
use tokio::net::TcpListener;

/// The first TCP socket that was handed over (`sd_listen_fds(3)`: `$LISTEN_FDS`, `$LISTEN_PID`), else a new one.
///
/// # Errors
/// The system's; also where something else than a listening TCP socket was handed over.
pub(crate) async fn listen(addr: &ListenAddr) -> io::Result<TcpListener> {
    match ListenFd::from_env().take_tcp_listener(0)? {
        Some(inherited) => {
            inherited.set_nonblocking(true)?;
            tracing::info!(addr = %inherited.local_addr()?, "listening at the socket that was handed over");
            TcpListener::from_std(inherited)
        }
        None => addr.bind().await,
    }
}
