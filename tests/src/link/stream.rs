//! Streams and listeners of a link, TCP or Unix alike.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::port::bind;

type ReadHalf<'a> = Box<dyn AsyncRead + Unpin + Send + 'a>;
type WriteHalf<'a> = Box<dyn AsyncWrite + Unpin + Send + 'a>;

/// One side of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// From this host, or from another one.
    pub(super) async fn connect(target: &Endpoint, from: Option<&Path>) -> io::Result<Self> {
        match target {
            Endpoint::Tcp(addr) => {
                // From any address of it.
                let socket = bind((Ipv4Addr::UNSPECIFIED, 0).into(), from)?;
                socket.connect(*addr).await.map(Self::Tcp)
            }
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    pub(super) fn reset_on_drop(&self) {
        if let Self::Tcp(stream) = self {
            // Only fails on a socket that is gone.
            drop(stream.set_zero_linger());
        }
    }

    pub(super) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.split();
                (Box::new(read), Box::new(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.split();
                (Box::new(read), Box::new(write))
            }
        }
    }
}
