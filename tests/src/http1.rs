//! The little of HTTP/1.1 that the harness's server and client share: a connection with what was
//! read ahead, and message heads. Written by hand, since tests need to see and to break framing.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MOST_HEAD_BYTES: usize = 256 << 10;

/// Header fields in the order received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a field; the case of its name does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str())
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A field that is a decimal number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.remove(name);
        self.0.push((name.to_owned(), value.to_string()));
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }

    /// The fields as lines, with the empty line after them.
    pub(crate) fn render(&self) -> String {
        let lines: String = self.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        lines + "\r\n"
    }
}

/// The first line of a message, and its header.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first_line: String,
    pub(crate) headers: Headers,
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let mut headers = Headers::default();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid("a header line without a colon"))?;
            headers.add(name, value.trim());
        }
        Ok(Self { first_line, headers })
    }
}

/// A connection, and what was read from it and not yet used.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) buf: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Without effect on what is tested; it only saves waiting.
        drop(stream.set_nodelay(true));
        Self { stream, buf: BytesMut::new() }
    }

    /// Reads some more; 0 is the end. Nothing is lost if it is dropped while waiting.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buf.reserve(64 << 10);
        self.stream.read_buf(&mut self.buf).await
    }

    /// The next message head; None if the connection ends before its first byte.
    pub(crate) async fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buf.windows(4).position(|window| window == b"\r\n\r\n") {
                return Head::parse(&self.buf.split_to(end + 4)).map(Some);
            }
            if self.buf.len() > MOST_HEAD_BYTES {
                return Err(invalid("a head without an end"));
            }
            if self.fill().await? == 0 {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in a head");
                return if self.buf.is_empty() { Ok(None) } else { Err(cut) };
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends our direction in order.
    pub(crate) async fn finish(&mut self) {
        // The other side may be gone already; then there is nothing to end.
        drop(self.stream.shutdown().await);
    }

    /// Makes the coming drop a reset.
    pub(crate) fn reset_on_drop(&self) {
        // Only fails on a socket that is gone.
        drop(self.stream.set_zero_linger());
    }
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = Head::parse(b"GET / HTTP/1.1\r\nHost: x\r\nA:1\r\na: 2 \r\n\r\n").expect("it is one");
        assert_eq!(head.first_line, "GET / HTTP/1.1");
        assert_eq!(head.headers.all("A").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(head.headers.number("a"), Some(1));
        assert!(!head.headers.has("b"));
        assert!(Head::parse(b"GET / HTTP/1.1\r\nHost\r\n\r\n").is_err());
    }

    #[test]
    fn set_replaces() {
        let mut headers = Headers::default();
        headers.add("ETag", "1");
        headers.set("etag", 2);
        assert_eq!(headers.render(), "etag: 2\r\n\r\n");
    }
}
