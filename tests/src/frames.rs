//! HTTP/2 by hand, frame by frame, for clients that mean no good: they begin calls and end none, announce what never
//! comes, and repeat what others said. In plaintext.
//!
//! Knows the heads of frames, header blocks that are not compressed, and how much the other side takes (its window for
//! the connection; no stream of ours comes near to its own). Absent on purpose: reading header blocks. Of an answer no
//! more is seen than its bytes, and that it is over.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest frame that nobody has to permit.
const LONGEST: usize = 16 << 10;
/// What a connection may send before it is told that it may send more.
const FIRST_WINDOW: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;

const LAST: u8 = 1;
const ACK: u8 = 1;
const WHOLE_HEADER: u8 = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    flags: u8,
    /// Of which stream it is; 0: of the connection.
    pub stream: u32,
    payload: Bytes,
}

impl Frame {
    fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Bytes>) -> Frame {
        Frame { kind, flags, stream, payload: payload.into() }
    }

    /// The other side says no more in this stream.
    pub fn ends_stream(&self) -> bool {
        self.kind == RESET || matches!(self.kind, DATA | HEADERS) && self.flags & LAST != 0
    }

    /// Bytes of a message, if it has any.
    pub fn data(&self) -> Option<&Bytes> {
        (self.kind == DATA).then_some(&self.payload)
    }

    /// Takes the first frame of these bytes away, once it is whole.
    pub fn take(bytes: &mut BytesMut) -> Option<Frame> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if bytes.len() < 9 + length {
            return None;
        }
        let payload = bytes.split_to(9 + length).split_off(9).freeze();
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), payload })
    }

    /// All frames that a client said, in a recording from its first byte on.
    pub fn all_of(recording: &[u8]) -> Vec<Frame> {
        let mut rest = BytesMut::from(recording.strip_prefix(PREFACE).unwrap_or(recording));
        std::iter::from_fn(|| Frame::take(&mut rest)).collect()
    }

    fn write(&self, to: &mut Vec<u8>) {
        let length = u32::try_from(self.payload.len()).expect("a short frame");
        to.extend_from_slice(&length.to_be_bytes()[1..]);
        to.extend_from_slice(&[self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
        to.extend_from_slice(&self.payload);
    }
}

/// The header of a request.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// Of a service and its method.
    pub path: &'a str,
    /// What kind of body it says to have.
    pub content_type: &'a str,
    /// The token that it shows.
    pub token: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// A call of gRPC.
    pub fn call(path: &'a str, token: Option<&'a str>) -> Head<'a> {
        Head { path, content_type: "application/grpc", token }
    }

    /// `POST` and `http` are in the table that both sides know; all else is spelled out.
    fn block(&self) -> Vec<u8> {
        let mut block = vec![0x83, 0x86];
        field(&mut block, ":authority", "control");
        field(&mut block, ":path", self.path);
        field(&mut block, "content-type", self.content_type);
        field(&mut block, "te", "trailers");
        if let Some(token) = self.token {
            field(&mut block, "authorization", &format!("Bearer {token}"));
        }
        block
    }
}

fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        block.push(length.expect("one byte is enough for its length"));
        block.extend_from_slice(text.as_bytes());
    }
}

/// The bytes of a message with the length that it announces, which may be a lie.
pub fn message(announced: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0], &announced.to_be_bytes()[..], bytes].concat()
}

/// A connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    read: BytesMut,
    /// Bytes that the other side takes now.
    window: i64,
    next: u32,
}

impl Frames {
    /// Connects and says that it speaks HTTP/2.
    ///
    /// # Errors
    /// Where nobody takes the connection.
    pub async fn connect(addr: SocketAddr) -> io::Result<Frames> {
        let stream = TcpStream::connect(addr).await?;
        let mut frames = Frames { stream, read: BytesMut::new(), window: FIRST_WINDOW, next: 1 };
        frames.stream.write_all(PREFACE).await?;
        frames.say(&[Frame::new(SETTINGS, 0, 0, "")]).await?;
        Ok(frames)
    }

    async fn say(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        self.stream.write_all(&bytes).await
    }

    /// Begins a call, and returns its stream.
    ///
    /// # Errors
    /// Where the connection has ended.
    pub async fn begin(&mut self, head: &Head<'_>) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.say(&[Frame::new(HEADERS, WHOLE_HEADER, stream, head.block())]).await?;
        Ok(stream)
    }

    /// Says this in a call, as fast as the other side takes it; it may be the last that is said there.
    ///
    /// # Errors
    /// Where the connection has ended.
    pub async fn send(&mut self, stream: u32, bytes: &[u8], last: bool) -> io::Result<()> {
        let mut pieces = bytes.chunks(LONGEST).peekable();
        while let Some(piece) = pieces.next() {
            self.has_window(piece.len()).await?;
            let flags = if last && pieces.peek().is_none() { LAST } else { 0 };
            self.say(&[Frame::new(DATA, flags, stream, piece.to_vec())]).await?;
        }
        Ok(())
    }

    async fn has_window(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = i64::try_from(bytes).expect("a short frame");
        while self.window < bytes {
            self.next().await?;
        }
        self.window -= bytes;
        Ok(())
    }

    /// The next frame of the other side. What it asks of every client is done.
    ///
    /// # Errors
    /// Where the connection has ended.
    pub async fn next(&mut self) -> io::Result<Frame> {
        let frame = self.read().await?;
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => self.say(&[Frame::new(SETTINGS, ACK, 0, "")]).await?,
            (PING, 0) => self.say(&[Frame { flags: ACK, ..frame.clone() }]).await?,
            (WINDOW, _) if frame.stream == 0 => {
                let more = frame.payload.first_chunk().map_or(0, |more| u32::from_be_bytes(*more));
                self.window += i64::from(more);
            }
            _ => {}
        }
        Ok(frame)
    }

    async fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.read) {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until the other side has read all that was said so far.
    ///
    /// # Errors
    /// Where the connection has ended.
    pub async fn heard(&mut self) -> io::Result<()> {
        self.say(&[Frame::new(PING, 0, 0, &b"all read"[..])]).await?;
        loop {
            let frame = self.next().await?;
            if frame.kind == PING && frame.flags & ACK != 0 {
                return Ok(());
            }
        }
    }

    /// Reads on until so many streams were ended by the other side.
    ///
    /// # Errors
    /// Where the connection ends first.
    pub async fn ended(&mut self, streams: usize) -> io::Result<()> {
        let mut ended = std::collections::BTreeSet::new();
        while ended.len() < streams {
            let frame = self.next().await?;
            if frame.ends_stream() {
                ended.insert(frame.stream);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_once_they_are_whole() {
        let frames = [
            Frame::new(HEADERS, WHOLE_HEADER, 1, Head::call("/a/B", Some("secret")).block()),
            Frame::new(DATA, LAST, 1, message(3, b"abc")),
        ];
        let mut bytes = PREFACE.to_vec();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        assert_eq!(Frame::all_of(&bytes), frames);
        assert_eq!(Frame::all_of(&bytes[..bytes.len() - 1]), frames[..1]);
        assert_eq!(frames[1].data().map(|data| &data[..]), Some(&b"\0\0\0\0\x03abc"[..]));
        assert_eq!(frames.map(|frame| frame.ends_stream()), [false, true]);
    }
}
