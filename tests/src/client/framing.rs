//! Where a response's body ends, and whether it has come to that end.

use std::io;

use bytes::Bytes;

use crate::Headers;
use crate::http1::{Wire, invalid};

/// How the length of the body is told, and what of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// By `Content-Length` (or there is none, by method or status): this many are left.
    Length(u64),
    /// By chunks: this many are left in the chunk that has begun.
    Chunked(u64),
    /// By the end of the connection. A cut with FIN can't be told from an end.
    Close,
    /// Nothing: it has ended.
    Ended,
}

pub(super) fn status(line: &str) -> io::Result<u16> {
    let mut words = line.split(' ');
    let version = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse().ok());
    status.filter(|_| version).ok_or_else(|| invalid("not a status line"))
}

pub(super) fn framed(headers: &Headers) -> io::Result<Framed> {
    if headers.get("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(Framed::Chunked(0));
    }
    match headers.get("Content-Length") {
        Some(value) => {
            value.parse().map(Framed::Length).map_err(|_| invalid("a Content-Length of no number"))
        }
        None => Ok(Framed::Close),
    }
}

/// The next bytes of a body, at most `max`. Nothing is lost if it is dropped while waiting.
pub(super) async fn next(wire: &mut Wire, framed: &mut Framed, max: usize) -> io::Result<Option<Bytes>> {
    loop {
        if let Framed::Chunked(0) = framed {
            begin_chunk(wire, framed).await?;
        }
        let left = match *framed {
            Framed::Ended => return Ok(None),
            Framed::Length(0) => {
                *framed = Framed::Ended;
                return Ok(None);
            }
            Framed::Length(left) | Framed::Chunked(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Framed::Close => usize::MAX,
        };
        if !wire.buf.is_empty() {
            return Ok(Some(take(wire, framed, left.min(max))));
        }
        if wire.fill().await? == 0 && *framed != Framed::Close {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the body"));
        }
        if wire.buf.is_empty() {
            *framed = Framed::Ended;
        }
    }
}

fn take(wire: &mut Wire, framed: &mut Framed, most: usize) -> Bytes {
    let len = wire.buf.len().min(most);
    match framed {
        // The line end after a chunk is left for `begin_chunk`.
        Framed::Length(left) | Framed::Chunked(left) => *left -= len as u64,
        Framed::Close | Framed::Ended => {}
    }
    wire.buf.split_to(len).freeze()
}

/// Reads the size of the next chunk, and after the last one the end of the body.
async fn begin_chunk(wire: &mut Wire, framed: &mut Framed) -> io::Result<()> {
    loop {
        // After a chunk its line end comes first.
        let start = if wire.buf.starts_with(b"\r\n") { 2 } else { 0 };
        let end = wire.buf[start..].windows(2).position(|window| window == b"\r\n");
        if let Some(end) = end.map(|end| start + end) {
            let size = chunk_size(&wire.buf[start..end])?;
            let is_last = size == 0;
            let used = end + if is_last { 4 } else { 2 };
            if wire.buf.len() >= used {
                drop(wire.buf.split_to(used));
                *framed = if is_last { Framed::Ended } else { Framed::Chunked(size) };
                return Ok(());
            }
        }
        if wire.fill().await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no last chunk"));
        }
    }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let digits = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without a size"))
}
