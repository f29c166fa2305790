//! An address to listen at, and listening at it.
//!
//! Knows that `:8501` means every address of the machine, IPv6 and IPv4, whatever the system's setting for
//! dual-stack sockets is, and that a machine may have no IPv6 at all. Absent: names other than `localhost`;
//! what a name resolves to can change between two starts.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::net::TcpListener;

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// Every address of the machine, IPv6 and IPv4, at this port.
    Every(u16),
    /// This address only.
    At(SocketAddr),
}

impl ListenAddr {
    /// The port; 0 lets the system choose one.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Every(port) => *port,
            Self::At(addr) => addr.port(),
        }
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// The system's: the port is taken, the address isn't the machine's, the port needs privileges.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        match self {
            Self::At(addr) => TcpListener::bind(addr).await,
            Self::Every(port) => match dual_stack(*port) {
                Err(error) if no_ipv6(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await,
                bound => bound,
            },
        }
    }
}

fn dual_stack(port: u16) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

/// The kernel has no IPv6, or has it switched off.
fn no_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(port) => write!(f, ":{port}"),
            Self::At(addr) => addr.fmt(f),
        }
    }
}

impl std::str::FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        listen_addr(text)
    }
}

/// An address to listen at: `:8501`, `127.0.0.1:8501`, `[::1]:8501` or `localhost:8501`.
///
/// # Errors
/// What is expected.
pub fn listen_addr(text: &str) -> Result<ListenAddr, String> {
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|_| !digits.starts_with('+'));
    let parsed = if let Some(digits) = text.strip_prefix(':') {
        port(digits).map(ListenAddr::Every)
    } else if let Some(digits) = text.strip_prefix("localhost:") {
        port(digits).map(|port| ListenAddr::At((Ipv4Addr::LOCALHOST, port).into()))
    } else {
        text.parse().ok().map(ListenAddr::At)
    };
    parsed.ok_or_else(|| {
        "expected an address and a port, such as :8501 (all addresses), 127.0.0.1:8501 or [::1]:8501"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in [":8501", "127.0.0.1:8501", "[::1]:8501", "0.0.0.0:0", "[::]:80"] {
            assert_eq!(listen_addr(text).map(|addr| addr.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(listen_addr("localhost:80"), listen_addr("127.0.0.1:80"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ":",
            "8501",
            ":+80",
            ":65536",
            "host.example:80",
            "::1:80",
            "127.0.0.1",
            "http://127.0.0.1:80",
        ] {
            assert!(listen_addr(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn every_address_answers_ipv4() {
        let listener = ListenAddr::Every(0).bind().await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("IPv4 is served");
        let (_, peer) = listener.accept().await.expect("the client waits");
        assert_eq!(peer.port(), client.local_addr().expect("connected").port());
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error() {
        let first = ListenAddr::Every(0).bind().await.expect("a free port");
        let port = first.local_addr().expect("bound").port();
        let error = ListenAddr::Every(port).bind().await.expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
