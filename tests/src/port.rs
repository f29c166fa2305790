//! A TCP port of our own on 127.0.0.1, or on a host of a test's network, that can be listened on, left, and listened on again.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::netns::Host;
use crate::{eventually, patience};

/// A port that is bound, without being listened on, for as long as this lives: connections to it
/// are refused, and nobody else is given it. A process that sets `SO_REUSEADDR` (tokio's
/// listeners do) can listen on it meanwhile.
#[derive(Debug)]
pub struct ReservedPort {
    addr: SocketAddr,
    /// The host that it is on, if not this one.
    namespace: Option<PathBuf>,
    _held: TcpSocket,
}

impl ReservedPort {
    /// Takes a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn new() -> Self {
        Self::take(Ipv4Addr::LOCALHOST, None).expect("a free port on 127.0.0.1")
    }

    /// Takes a free port of this host.
    ///
    /// # Panics
    /// If there is none.
    pub fn on(host: &Host) -> Self {
        Self::take(host.addr(), Some(host.file())).expect("a free port of the host")
    }

    fn take(ip: Ipv4Addr, namespace: Option<PathBuf>) -> io::Result<Self> {
        let held = bind(SocketAddr::from((ip, 0)), namespace.as_deref())?;
        Ok(Self { addr: held.local_addr()?, namespace, _held: held })
    }

    /// Its address.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens on it, until the listener is dropped.
    ///
    /// # Errors
    /// If somebody listens already, and goes on to for the usual patience: that a listener was dropped does not mean that
    /// it is gone, since a process that is begun here has a copy of each socket from its fork to its exec.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let until = Instant::now() + patience();
        loop {
            match bind(self.addr, self.namespace.as_deref())?.listen(1024) {
                Err(taken) if taken.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                listening => return listening,
            }
        }
    }

    /// Waits until nobody listens on it any more, for the same reason.
    ///
    /// # Panics
    /// If somebody goes on to.
    pub async fn is_left(&self) {
        let is_left = async || TcpStream::connect(self.addr).await.is_err();
        eventually("nobody listens on a port that was left", is_left).await;
    }
}

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// A socket stays where it was made: a thread goes there to make it, and ends.
pub(crate) fn bind(addr: SocketAddr, namespace: Option<&Path>) -> io::Result<TcpSocket> {
    let Some(namespace) = namespace else { return bind_here(addr) };
    let there = || {
        let namespace = File::open(namespace)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        bind_here(addr)
    };
    std::thread::scope(|scope| scope.spawn(there).join().expect("binding does not panic"))
}

fn bind_here(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
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
