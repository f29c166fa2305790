//! The messages of one call, on their way from the port to whoever decodes them. They go on only when they are whole:
//! tonic makes room for as many bytes as a message announces, so that five bytes would cost as much as the longest
//! message. What of them lies here, and what was handed on and is still worked on, takes room of the caller's address.
//!
//! Knows the framing of gRPC: a flag for compression, which nobody here uses, four bytes of length, and so many bytes.
//! Absent: what the messages say.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body::Frame;
use ncps_proto::grpc::MAX_MESSAGE_BYTES;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::calls::Call;

/// What comes of a poll.
type Next = Option<Result<Frame<Bytes>, Status>>;

/// A request's body.
pub(crate) struct Messages {
    body: Body,
    call: Arc<Call>,
    /// Of a message that is not whole yet.
    unfinished: BytesMut,
    /// Bytes that were handed on and are worked on.
    handed: usize,
    patience: Patience,
}

impl Messages {
    /// Those of a call; `within` is how long control waits for one of them altogether.
    pub(crate) fn new(body: Body, call: Arc<Call>, within: Duration) -> Messages {
        let patience = Patience { whole: within, left: within, waiting: None };
        Messages { body, call, unfinished: BytesMut::new(), handed: 0, patience }
    }

    /// Some bytes came: those of whole messages, if any are whole now.
    fn take(&mut self, data: &Bytes) -> Result<Option<Bytes>, Status> {
        self.patience.pause();
        if self.call.is_answered() {
            // Who asks for the next message of a stream is done with those before.
            self.handed = 0;
        }
        let whole = self.whole_with(data).map_err(|why| self.call.malformed(&why))?;
        if whole.is_some() {
            self.patience.renew();
        }
        self.handed += whole.as_ref().map_or(0, Bytes::len);
        if self.call.hold(self.handed + self.unfinished.capacity()) {
            Ok(whole)
        } else {
            Err(self.call.too_much())
        }
    }

    /// Most messages come in one piece, and are not copied.
    fn whole_with(&mut self, data: &Bytes) -> Result<Option<Bytes>, String> {
        if self.unfinished.is_empty() && whole(data)? == data.len() {
            return Ok(Some(data.clone()).filter(|data| !data.is_empty()));
        }
        self.unfinished.extend_from_slice(data);
        let end = whole(&self.unfinished)?;
        if end == 0 {
            return Ok(None);
        }
        // A buffer of its own, lest a few bytes keep those of the messages before them.
        let rest = BytesMut::from(&self.unfinished[end..]);
        let mut done = std::mem::replace(&mut self.unfinished, rest);
        done.truncate(end);
        Ok(Some(done.freeze()))
    }

    /// Nothing came. Between the messages of a stream that goes on there is time.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.call.is_answered() && self.unfinished.is_empty() {
            self.patience.renew();
            if std::mem::take(&mut self.handed) > 0 {
                self.call.hold(0);
            }
            return Poll::Pending;
        }
        if self.patience.is_over(cx) { Poll::Ready(Some(Err(self.call.too_slow()))) } else { Poll::Pending }
    }

    fn end(&self, trailers: Next) -> Next {
        if self.unfinished.is_empty() {
            return trailers;
        }
        Some(Err(self.call.malformed("it ends in the middle of a message")))
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let this = self.get_mut();
        loop {
            let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) else { return this.wait(cx) };
            let data = match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(trailers))) => return Poll::Ready(this.end(Some(Ok(trailers)))),
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => return Poll::Ready(this.end(None)),
            };
            if let Some(whole) = this.take(&data).transpose() {
                return Poll::Ready(Some(whole.map(Frame::data)));
            }
        }
    }
}

/// How many bytes from the first one on are whole messages.
fn whole(bytes: &[u8]) -> Result<usize, String> {
    let mut end = 0;
    while let Some((&[flag, length @ ..], rest)) = bytes[end..].split_first_chunk::<5>() {
        let length = u32::from_be_bytes(length) as usize;
        if flag != 0 {
            return Err(format!("a message begins with the byte {flag}, as if it were compressed"));
        }
        if length > MAX_MESSAGE_BYTES {
            return Err(format!(
                "a message of {length} bytes is announced, and {MAX_MESSAGE_BYTES} are the most"
            ));
        }
        if rest.len() < length {
            break;
        }
        end += 5 + length;
    }
    Ok(end)
}

/// How long a message is waited for. What control itself takes before it listens on does not count.
struct Patience {
    whole: Duration,
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    /// Waits on. True when there was time enough.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let left = self.left;
        let (_, over) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        over.poll_unpin(cx).is_ready()
    }

    /// Something came.
    fn pause(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// The next message has its own time.
    fn renew(&mut self) {
        self.waiting = None;
        self.left = self.whole;
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
