//! A raw HTTP/1.1 client that tells a body that ended in order from one that was cut, and can
//! read slowly, stop in the middle, hash what does not fit in memory, and send nonsense.
//!
//! Absent on purpose: redirects, content decoding, TLS, connection pools.

mod framing;
mod outcome;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpSocket;

use crate::http1::Wire;
use crate::wait::patience;

pub use framing::Framed;
pub use outcome::{BodyError, Digest, Outcome};
pub use request::Request;
pub use response::Response;

/// GETs a path over a new connection.
///
/// # Errors
/// As [`Request::send`].
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    Request::get(path).send(addr).await
}

/// HEADs a path over a new connection.
///
/// # Errors
/// As [`Request::send`].
pub async fn head(addr: SocketAddr, path: &str) -> io::Result<Response> {
    Request::head(path).send(addr).await
}

/// Sends exactly these bytes over a new connection and reads one response to a GET.
///
/// # Errors
/// As [`Request::send`].
pub async fn raw(addr: SocketAddr, bytes: impl Into<Bytes>) -> io::Result<Response> {
    let mut connection = Connection::open(addr).await?;
    connection.wire.write(&bytes.into()).await?;
    Response::read(connection, false).await
}

/// A connection that is kept: requests go over it one after the other.
#[derive(Debug)]
pub struct Connection {
    pub(crate) wire: Wire,
    pub(crate) addr: SocketAddr,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says, e.g. that it is refused.
    pub async fn open(addr: SocketAddr) -> io::Result<Self> {
        Self::connect(TcpSocket::new_v4()?, addr).await
    }

    /// Connects with a receive buffer of about this size, so that a reader that stops is felt
    /// by the server after few bytes.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn with_small_buffer(addr: SocketAddr, bytes: u32) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        Self::connect(socket, addr).await
    }

    async fn connect(socket: TcpSocket, addr: SocketAddr) -> io::Result<Self> {
        let stream = tokio::time::timeout(patience(), socket.connect(addr)).await??;
        Ok(Self { wire: Wire::new(stream), addr })
    }

    /// Sends a request and reads the head of its response, which borrows the connection until
    /// its body was read.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn send(&mut self, request: Request) -> io::Result<Response<&mut Self>> {
        request.send_over(self).await
    }

    /// GETs a path.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn get(&mut self, path: &str) -> io::Result<Response<&mut Self>> {
        self.send(Request::get(path)).await
    }

    /// Sends bytes that belong to no request: pipelined requests, or garbage.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes).await
    }

    /// Reads a response to something that was written by [`Connection::write`].
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn read(&mut self) -> io::Result<Response<&mut Self>> {
        Response::read(self, false).await
    }

    /// Waits until the server closes: true if it does so in order and without another byte.
    ///
    /// # Errors
    /// If it does not close within the usual patience.
    pub async fn closes(&mut self) -> io::Result<bool> {
        let nothing_left = self.wire.buf.is_empty();
        let end = tokio::time::timeout(patience(), self.wire.fill()).await?;
        Ok(nothing_left && end.is_ok_and(|read| read == 0))
    }

    /// Bytes that came and that no response has claimed.
    pub fn unclaimed(&self) -> usize {
        self.wire.buf.len()
    }

    /// Goes away with a reset, as a client that is killed.
    pub fn reset(self) {
        self.wire.reset_on_drop();
    }
}
