//! Requests: what they say, and sending them with their bodies.

use std::borrow::BorrowMut;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{Body, Framing, Headers};

use super::{Connection, Response};

/// Bytes of an upload written at once.
const STEP: usize = 64 << 10;

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Headers,
    body: Option<Body>,
    framing: Framing,
    expect: bool,
    cut_after: Option<u64>,
}

impl Request {
    /// Any method. The target goes out as it is: not normalised, not encoded.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Headers::default(),
            body: None,
            framing: Framing::Length,
            expect: false,
            cut_after: None,
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A HEAD.
    pub fn head(path: &str) -> Self {
        Self::new("HEAD", path)
    }

    /// A PUT of a body.
    pub fn put(path: &str, body: impl Into<Body>) -> Self {
        Self { body: Some(body.into()), ..Self::new("PUT", path) }
    }

    /// A DELETE.
    pub fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    /// One more header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.add(name, value);
        self
    }

    /// `Range: bytes=<range>`, e.g. `5-`, `0-0`, `-10`.
    #[must_use]
    pub fn range(self, range: &str) -> Self {
        self.header("Range", &format!("bytes={range}"))
    }

    /// Uploads in chunks, without `Content-Length`.
    #[must_use]
    pub const fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Sends `Expect: 100-continue`, and the body only if it is answered with 100
    /// ([`Response::continued`]).
    #[must_use]
    pub const fn expect_continue(mut self) -> Self {
        self.expect = true;
        self
    }

    /// Goes away after this many bytes of the body, with a reset; the response is an error.
    #[must_use]
    pub const fn cut_after(mut self, bytes: u64) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Sends it over a new connection and reads the head of the response.
    ///
    /// # Errors
    /// If the connection can't be made or breaks, if what comes is no response, or if nothing
    /// comes within the usual patience.
    pub async fn send(self, addr: SocketAddr) -> io::Result<Response> {
        self.send_over(Connection::open(addr).await?).await
    }

    /// As [`Request::send`], over a connection that there is.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub async fn send_over<C: BorrowMut<Connection>>(self, mut connection: C) -> io::Result<Response<C>> {
        let wire = connection.borrow_mut();
        let head = self.render_head(wire.addr);
        wire.wire.write(head.as_bytes()).await?;
        let is_head = self.method == "HEAD";
        let Some(body) = &self.body else {
            return Response::read(connection, is_head).await;
        };
        if self.expect {
            let response = Response::read_any(connection, is_head).await?;
            if response.status != 100 {
                return Ok(response);
            }
            connection = response.into_connection();
        }
        let sent = self.send_body(connection.borrow_mut(), body).await;
        if self.cut_after.is_some() {
            return Err(cut(connection.borrow_mut()).await);
        }
        let response = Response::read(connection, is_head).await;
        // A server may answer and close before it has read everything: its answer counts.
        let mut response = response.map_err(|error| sent.err().unwrap_or(error))?;
        response.continued = self.expect;
        Ok(response)
    }

    fn render_head(&self, addr: SocketAddr) -> String {
        let mut headers = self.headers.clone();
        if !headers.has("Host") {
            headers.add("Host", &addr.to_string());
        }
        match (&self.body, self.framing) {
            (None, _) => {}
            (Some(body), Framing::Length) => headers.add("Content-Length", &body.len().to_string()),
            (Some(_), _) => headers.add("Transfer-Encoding", "chunked"),
        }
        if self.expect {
            headers.add("Expect", "100-continue");
        }
        format!("{} {} HTTP/1.1\r\n{}", self.method, self.target, headers.render())
    }

    async fn send_body(&self, connection: &mut Connection, body: &Body) -> io::Result<()> {
        let end = self.cut_after.unwrap_or(u64::MAX).min(body.len());
        let mut sent = 0;
        while sent < end {
            let bytes = body.read(sent, STEP.min((end - sent) as usize));
            self.send_piece(connection, &bytes).await?;
            sent += bytes.len() as u64;
        }
        if self.cut_after.is_some() {
            return Ok(());
        }
        match self.framing {
            Framing::Chunked => connection.write(b"0\r\n\r\n").await,
            Framing::Length | Framing::Close => Ok(()),
        }
    }

    async fn send_piece(&self, connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
        if self.framing == Framing::Chunked {
            connection.write(format!("{:x}\r\n", bytes.len()).as_bytes()).await?;
        }
        connection.write(bytes).await?;
        if self.framing == Framing::Chunked {
            connection.write(b"\r\n").await?;
        }
        Ok(())
    }
}

/// Makes the coming drop a reset.
async fn cut(connection: &Connection) -> io::Error {
    // What a reset overtakes is lost: first it must have had time to arrive.
    tokio::time::sleep(Duration::from_millis(20)).await;
    connection.wire.reset_on_drop();
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut as the request asked")
}
