//! The part of a rule about what an answer says: status, header, body, framing.

use bytes::Bytes;

use crate::Body;

use super::{Framing, Passes, Rule, SendsOn, Zstd};

/// What the answer says.
impl Rule {
    /// This status. From 300 on the body is a short text, unless [`Rule::body`] gives another. Below, also
    /// where a part is sent: 200 with a `Content-Range`, as Harmonia answered until August 2026.
    #[must_use]
    pub const fn status(mut self, status: u16) -> Self {
        self.does.status = Some(status);
        self
    }

    /// Sets a header, e.g. `Retry-After`, `ETag` or a wrong `Content-Range`, in place of one of
    /// the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.does.headers.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Leaves a header out, e.g. `Accept-Ranges`.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.does.headers.push((name.to_owned(), None));
        self
    }

    /// Redirects there, with 301, 302, 303, 307 or 308; `location` may be relative.
    #[must_use]
    pub fn redirect(self, status: u16, location: &str) -> Self {
        self.status(status).header("Location", location)
    }

    /// Redirects there, each time with another query, which opens that target once
    /// ([`Rule::needs_pass`]).
    #[must_use]
    pub fn redirect_with_pass(mut self, status: u16, target: &str, passes: &Passes) -> Self {
        self.does.sends_on = Some(SendsOn { status, target: target.to_owned(), passes: passes.clone() });
        self
    }

    /// Lets in only who comes with a query of these, and with each once; others get the 403 of an object
    /// store.
    #[must_use]
    pub fn needs_pass(mut self, passes: &Passes) -> Self {
        self.does.passes = Some(passes.clone());
        self
    }

    /// Serves this in place of what is there (also where nothing is there): HTML with status
    /// 200, a narinfo of another path, one with CRLF, nothing at all.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.does.replacement = Some(body.into());
        self
    }

    /// Answers with exactly these bytes, head included, and closes the connection.
    #[must_use]
    pub fn raw(mut self, bytes: impl Into<Bytes>) -> Self {
        self.does.raw = Some(bytes.into());
        self
    }

    /// Flips the bits of the byte at this offset of the body (of the whole of it, not of the
    /// range asked for). Beyond the end it does nothing.
    #[must_use]
    pub fn flip(mut self, offset: u64) -> Self {
        self.does.flips.push(offset);
        self
    }

    /// `n` more bytes at the end of the body, which all headers agree with.
    #[must_use]
    pub const fn extra(mut self, n: u64) -> Self {
        self.does.extra = n;
        self
    }

    /// A body of only `n` bytes, which all headers agree with: short with a clean end.
    #[must_use]
    pub const fn shorten_to(mut self, n: u64) -> Self {
        self.does.length = Some(n);
        self
    }

    /// How the length of the body is told.
    #[must_use]
    pub const fn framing(mut self, framing: Framing) -> Self {
        self.does.framing = Some(framing);
        self
    }

    /// Answers as a server of HTTP/1.0: one request a connection.
    #[must_use]
    pub const fn http_1_0(mut self) -> Self {
        self.does.http_1_0 = true;
        self
    }

    /// Claims this `Content-Length`, whatever is sent. Where fewer bytes are sent than claimed,
    /// the connection is closed after them.
    #[must_use]
    pub const fn declare_length(mut self, n: u64) -> Self {
        self.does.declared = Some(n);
        self
    }

    /// Answers a Range request with 200 and everything.
    #[must_use]
    pub const fn ignore_range(mut self) -> Self {
        self.does.ignore_range = true;
        self
    }

    /// Encodes the body with `Content-Encoding: zstd`, asked or not, and without ranges.
    #[must_use]
    pub const fn zstd(mut self) -> Self {
        self.does.zstd = Some(Zstd::Always);
        self
    }

    /// As [`Rule::zstd`], for requests that accept it (Harmonia's transparent compression).
    #[must_use]
    pub const fn zstd_if_accepted(mut self) -> Self {
        self.does.zstd = Some(Zstd::IfAccepted);
        self
    }
}
