//! Responses: the head, and a body of which it is known whether it came to its end.

use std::borrow::BorrowMut;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ncps_nix::Sha256Hash;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::Headers;
use crate::wait::patience;

use super::framing::{Framed, framed, next, status};
use super::{BodyError, Connection, Digest, Outcome};

/// A response whose head has come, over a connection that it owns or borrows.
#[derive(Debug)]
pub struct Response<C = Connection> {
    /// The status code.
    pub status: u16,
    /// The header.
    pub headers: Headers,
    /// Whether a 100 came before it, and so the body was sent.
    pub continued: bool,
    framed: Framed,
    connection: C,
}

impl<C: BorrowMut<Connection>> Response<C> {
    /// Reads the next head that is not an interim one (1xx).
    pub(super) async fn read(connection: C, is_head: bool) -> io::Result<Self> {
        let mut response = Self::read_any(connection, is_head).await?;
        while response.status < 200 {
            response = Self::read_any(response.into_connection(), is_head).await?;
        }
        Ok(response)
    }

    pub(super) async fn read_any(mut connection: C, is_head: bool) -> io::Result<Self> {
        let wire = &mut connection.borrow_mut().wire;
        let head = timeout(patience(), wire.read_head()).await??;
        let head =
            head.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"))?;
        let status = status(&head.first_line)?;
        let bodiless = is_head || status < 200 || matches!(status, 204 | 304);
        let framed = if bodiless { Framed::Ended } else { framed(&head.headers)? };
        Ok(Self { status, headers: head.headers, continued: false, framed, connection })
    }

    /// A field of the header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// How the rest of the body is framed.
    pub const fn framed(&self) -> Framed {
        self.framed
    }

    /// Gives the connection back; what is left of the body stays on it.
    pub fn into_connection(self) -> C {
        self.connection
    }

    /// The next bytes, as they come; None at the end in order.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.chunk_within(patience()).await
    }

    /// As [`Response::chunk`], but stalled after this long: for bodies that are meant to stall.
    ///
    /// # Errors
    /// See [`BodyError`]. After [`BodyError::Stalled`] it can be read on.
    pub async fn chunk_within(&mut self, limit: Duration) -> Result<Option<Bytes>, BodyError> {
        let wire = &mut self.connection.borrow_mut().wire;
        match timeout(limit, next(wire, &mut self.framed, usize::MAX)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(BodyError::Truncated(error.to_string())),
            Err(_) => Err(BodyError::Stalled),
        }
    }

    /// Exactly the next `n` bytes, or fewer if the body ends in order; then the test may wait for
    /// something before it goes on.
    ///
    /// # Errors
    /// See [`BodyError`]; what came before is lost.
    pub async fn bytes(&mut self, n: usize) -> Result<Bytes, BodyError> {
        let mut all = BytesMut::new();
        while all.len() < n {
            let wire = &mut self.connection.borrow_mut().wire;
            let next = timeout(patience(), next(wire, &mut self.framed, n - all.len()));
            match next.await.map_err(|_| BodyError::Stalled)? {
                Ok(Some(bytes)) => all.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(error) => return Err(BodyError::Truncated(error.to_string())),
            }
        }
        Ok(all.freeze())
    }

    /// The rest of the body.
    ///
    /// # Panics
    /// If it stalls for longer than the usual patience.
    pub async fn outcome(&mut self) -> Outcome {
        let mut all = BytesMut::new();
        let whole = self.each(|bytes| all.extend_from_slice(bytes)).await;
        let all = all.freeze();
        if whole { Outcome::Whole(all) } else { Outcome::Truncated(all) }
    }

    /// The whole body.
    ///
    /// # Panics
    /// If it is truncated, or as [`Response::outcome`].
    pub async fn whole(&mut self) -> Bytes {
        self.outcome().await.whole()
    }

    /// The whole body as text.
    ///
    /// # Panics
    /// As [`Response::whole`], or if it is not UTF-8.
    pub async fn text(&mut self) -> String {
        String::from_utf8(self.whole().await.to_vec()).expect("the body is text")
    }

    /// Reads the rest of the body and keeps only its hash: for the huge ones.
    ///
    /// # Panics
    /// As [`Response::outcome`].
    pub async fn digest(&mut self) -> Digest {
        self.digest_after(&[]).await
    }

    /// The same of a body whose beginning was read already.
    ///
    /// # Panics
    /// As [`Response::outcome`].
    pub async fn digest_after(&mut self, start: &[u8]) -> Digest {
        let (mut hasher, mut len, mut first) = (Sha256::new(), start.len() as u64, None);
        hasher.update(start);
        let whole = self
            .each(|bytes| {
                first.get_or_insert_with(Instant::now);
                hasher.update(bytes);
                len += bytes.len() as u64;
            })
            .await;
        Digest { sha256: Sha256Hash::from_bytes(hasher.finalize().into()), len, whole, first }
    }

    /// As [`Response::outcome`], at this many bytes per second. To be felt by the server, the
    /// connection needs a small buffer ([`Connection::with_small_buffer`]).
    ///
    /// # Panics
    /// As [`Response::outcome`].
    pub async fn slowly(&mut self, bytes_per_second: usize) -> Outcome {
        const STEPS: usize = 20;
        let mut all = BytesMut::new();
        loop {
            match self.bytes((bytes_per_second / STEPS).max(1)).await {
                Ok(bytes) if bytes.is_empty() => return Outcome::Whole(all.freeze()),
                Ok(bytes) => all.extend_from_slice(&bytes),
                Err(BodyError::Truncated(_)) => return Outcome::Truncated(all.freeze()),
                Err(BodyError::Stalled) => panic!("the body stalled after {} bytes", all.len()),
            }
            tokio::time::sleep(Duration::from_secs(1) / STEPS as u32).await;
        }
    }

    async fn each(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let mut len = 0;
        loop {
            match self.chunk().await {
                Ok(Some(bytes)) => {
                    len += bytes.len();
                    take(&bytes);
                }
                Ok(None) => return true,
                Err(BodyError::Truncated(_)) => return false,
                Err(BodyError::Stalled) => panic!("the body stalled after {len} bytes"),
            }
        }
    }
}
