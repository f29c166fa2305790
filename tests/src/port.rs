//! A TCP port of our own on 127.0.0.1 that can be listened on, left, and listened on again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port that is bound, without being listened on, for as long as this lives: connections to it
/// are refused, and nobody else is given it. A process that sets `SO_REUSEADDR` (tokio's
/// listeners do) can listen on it meanwhile.
#[derive(Debug)]
pub struct ReservedPort {
    addr: SocketAddr,
    _held: TcpSocket,
}

impl ReservedPort {
    /// Takes a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn new() -> Self {
        Self::take().expect("a free port on 127.0.0.1")
    }

    fn take() -> io::Result<Self> {
        let held = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { addr: held.local_addr()?, _held: held })
    }

    /// Its address.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on it, until the listener is dropped.
    ///
    /// # Errors
    /// If somebody listens already.
    pub fn listen(&self) -> io::Result<TcpListener> {
        bind(self.addr)?.listen(1024)
    }
}

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn is_refused_unless_listened_on() {
        let port = ReservedPort::new();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.addr()).await.expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = port.listen().expect("nobody else listens");
            let client = TcpStream::connect(port.addr()).await.expect("somebody listens");
            let (server, _) = listener.accept().await.expect("a client came");
            drop((client, server, listener));
        }
    }
}
