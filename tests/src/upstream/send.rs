//! Sending an answer the way the rules say: late, slowly, in part, or not at all.

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::sync::watch;

use crate::http1::Wire;
use crate::script::{Behaviour, Cut, End as Ending, Framing};

use super::answer::{Answer, View};
use super::log::{End, Ticket};
use super::serve::while_there;

/// The most that is written at once.
const STEP: u64 = 64 << 10;
/// A reset throws away what the kernel has not yet delivered: this is its chance.
const BEFORE_RESET: Duration = Duration::from_millis(20);
/// How often per second a throttled body is written to.
const THROTTLE_STEPS: u64 = 20;

/// What happens to the connection after an answer.
pub(super) enum Next {
    Request,
    Close,
}

/// One answer on its way.
pub(super) struct Exchange<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) ticket: &'a Ticket,
    pub(super) blackhole: watch::Receiver<bool>,
    pub(super) does: &'a Behaviour,
}

/// Why an answer was not sent to its end.
enum Stop {
    Cut(Cut),
    Gone,
}

impl From<io::Error> for Stop {
    /// A connection that can't be written to has lost its client.
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl Exchange<'_> {
    pub(super) async fn run(&mut self, answer: Answer) -> (End, Next) {
        match self.send(answer).await {
            Ok(next) => (End::Complete, next),
            Err(Stop::Gone) => (End::ClientGone, Next::Close),
            Err(Stop::Cut(how)) => {
                self.cut(how).await;
                (End::Cut, Next::Close)
            }
        }
    }

    async fn cut(&mut self, how: Cut) {
        match how {
            Cut::Fin => self.wire.finish().await,
            Cut::Rst => {
                tokio::time::sleep(BEFORE_RESET).await;
                self.wire.reset_on_drop();
            }
        }
    }

    async fn send(&mut self, answer: Answer) -> Result<Next, Stop> {
        self.before_head().await?;
        if let Some(raw) = &self.does.raw {
            self.wire.write(raw).await?;
            self.wire.finish().await;
            return Ok(Next::Close);
        }
        self.ticket.status(answer.status);
        if answer.body.as_ref().is_none_or(|view| view.len() == 0) {
            self.ticket.answers();
        }
        self.wire.write(render_head(&answer, self.does.http_1_0).as_bytes()).await?;
        let Some(view) = &answer.body else {
            return Ok(if self.closes(answer.framing) { Next::Close } else { Next::Request });
        };
        self.send_body(view, answer.framing).await?;
        let next = self.end_body(answer.framing).await?;
        Ok(if self.does.declared.is_some() || self.does.http_1_0 { Next::Close } else { next })
    }

    fn closes(&self, framing: Framing) -> bool {
        framing == Framing::Close || self.does.http_1_0
    }

    async fn before_head(&mut self) -> Result<(), Stop> {
        let Behaviour { delay, head_gate, no_head, .. } = self.does;
        self.not_in_blackhole().await?;
        if let Some(delay) = delay {
            self.wait(tokio::time::sleep(*delay)).await?;
        }
        if let Some(gate) = head_gate {
            self.wait(gate.pass()).await?;
        }
        no_head.map_or(Ok(()), |how| Err(Stop::Cut(how)))
    }

    async fn send_body(&mut self, view: &View, framing: Framing) -> Result<(), Stop> {
        let mut sent = 0;
        loop {
            self.pauses(sent).await?;
            self.ends(sent).await?;
            if sent == view.len() {
                return Ok(());
            }
            self.not_in_blackhole().await?;
            let step = self.step(sent).min(view.len() - sent);
            let bytes = view.read(sent, step as usize);
            // Counted first: once the client has the last byte, the count must be there too.
            self.ticket.sent(bytes.len() as u64);
            if sent + bytes.len() as u64 == view.len() {
                self.ticket.answers();
            }
            self.write_piece(&bytes, framing).await?;
            sent += bytes.len() as u64;
            self.throttled(bytes.len() as u64).await?;
        }
    }

    /// How much may be written before the next thing that happens.
    fn step(&self, sent: u64) -> u64 {
        let pauses = self.does.pauses.iter().map(|(at, _)| *at);
        let ends = self.does.end.iter().map(|(at, _)| *at);
        let next = pauses.chain(ends).filter(|at| *at > sent).min();
        let throttle = self.does.throttle.map_or(STEP, |rate| (rate / THROTTLE_STEPS).max(1));
        let piece = self.does.pieces.unwrap_or(STEP);
        next.map_or(STEP, |at| at - sent).min(throttle).min(piece).min(STEP)
    }

    async fn pauses(&mut self, sent: u64) -> Result<(), Stop> {
        let does = self.does;
        for (at, gate) in &does.pauses {
            if *at == sent {
                self.wait(gate.pass()).await?;
            }
        }
        Ok(())
    }

    async fn ends(&mut self, sent: u64) -> Result<(), Stop> {
        match self.does.end {
            Some((at, Ending::Cut(how))) if at == sent => Err(Stop::Cut(how)),
            Some((at, Ending::Stall)) if at == sent => self.wait(pending()).await,
            _ => Ok(()),
        }
    }

    async fn write_piece(&mut self, bytes: &[u8], framing: Framing) -> io::Result<()> {
        if framing != Framing::Chunked {
            return self.wire.write(bytes).await;
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.wire.write(&chunk).await
    }

    async fn throttled(&mut self, bytes: u64) -> Result<(), Stop> {
        let Some(rate) = self.does.throttle else {
            return Ok(());
        };
        let span = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.wait(tokio::time::sleep(span)).await
    }

    async fn end_body(&mut self, framing: Framing) -> Result<Next, Stop> {
        match framing {
            Framing::Length => return Ok(Next::Request),
            Framing::Chunked => self.wire.write(b"0\r\n\r\n").await?,
            Framing::Close => {
                self.wire.finish().await;
                return Ok(Next::Close);
            }
        }
        Ok(Next::Request)
    }

    async fn not_in_blackhole(&mut self) -> Result<(), Stop> {
        let mut blackhole = self.blackhole.clone();
        // An upstream that is gone for good answers as little as one that is silent.
        self.wait(async move { drop(blackhole.wait_for(|silent| !silent).await) }).await
    }

    async fn wait<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        while_there(self.wire, future).await.ok_or(Stop::Gone)
    }
}

fn render_head(answer: &Answer, http_1_0: bool) -> String {
    let version = if http_1_0 { "1.0" } else { "1.1" };
    let reason = http::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    format!("HTTP/{version} {} {}\r\n{}", answer.status, reason.unwrap_or("Unknown"), answer.headers.render())
}
