//! What all rules that apply to one request say together.

use std::time::Duration;

use bytes::Bytes;

use crate::{Body, Gate};

use super::Passes;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Closed in order; the reader sees an early end.
    Fin,
    /// Reset; the reader sees an error, and may miss some of the last bytes.
    Rst,
}

/// How the length of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// By `Content-Length`.
    #[default]
    Length,
    /// By chunks.
    Chunked,
    /// Not at all: the end of the connection is the end of the body.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Cut(Cut),
    Stall,
}

/// What is done to a request; what is None is done as a good server does it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) status: Option<u16>,
    /// Set, or with None removed, after all others.
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) delay: Option<Duration>,
    pub(crate) head_gate: Option<Gate>,
    pub(crate) no_head: Option<Cut>,
    pub(crate) raw: Option<Bytes>,
    pub(crate) throttle: Option<u64>,
    pub(crate) pauses: Vec<(u64, Gate)>,
    pub(crate) end: Option<(u64, End)>,
    pub(crate) flips: Vec<u64>,
    pub(crate) extra: u64,
    pub(crate) length: Option<u64>,
    pub(crate) replacement: Option<Body>,
    pub(crate) framing: Option<Framing>,
    pub(crate) declared: Option<u64>,
    pub(crate) ignore_range: bool,
    pub(crate) zstd: Option<Zstd>,
    pub(crate) pieces: Option<u64>,
    pub(crate) http_1_0: bool,
    pub(crate) sends_on: Option<SendsOn>,
    pub(crate) passes: Option<Passes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zstd {
    Always,
    IfAccepted,
}

/// A redirect whose target carries a new pass each time.
#[derive(Debug, Clone)]
pub(crate) struct SendsOn {
    pub(crate) status: u16,
    pub(crate) target: String,
    pub(crate) passes: Passes,
}

impl Behaviour {
    /// This, and then what a later rule says.
    pub(crate) fn and_then(&mut self, later: &Self) {
        let Self { status, headers, delay, head_gate, no_head, raw, throttle, pauses, end, .. } = later;
        self.status = status.or(self.status);
        self.headers.extend_from_slice(headers);
        self.delay = delay.or(self.delay);
        self.head_gate = head_gate.clone().or(self.head_gate.take());
        self.no_head = no_head.or(self.no_head);
        self.raw = raw.clone().or(self.raw.take());
        self.throttle = throttle.or(self.throttle);
        self.pauses.extend_from_slice(pauses);
        self.end = end.or(self.end);
        self.and_then_body(later);
        self.and_then_way(later);
    }

    fn and_then_way(&mut self, later: &Self) {
        let Self { pieces, http_1_0, sends_on, passes, .. } = later;
        self.pieces = pieces.or(self.pieces);
        self.http_1_0 |= http_1_0;
        self.sends_on = sends_on.clone().or(self.sends_on.take());
        self.passes = passes.clone().or(self.passes.take());
    }

    fn and_then_body(&mut self, later: &Self) {
        let Self { flips, extra, length, replacement, framing, declared, ignore_range, zstd, .. } = later;
        self.flips.extend_from_slice(flips);
        self.extra += extra;
        self.length = length.or(self.length);
        self.replacement = replacement.clone().or(self.replacement.take());
        self.framing = framing.or(self.framing);
        self.declared = declared.or(self.declared);
        self.ignore_range |= ignore_range;
        self.zstd = zstd.or(self.zstd);
    }
}
