//! The part of a rule about when an answer comes and how it ends.

use std::time::Duration;

use crate::Gate;

use super::{Cut, End, Rule};

/// When it comes, and how it ends. Offsets count the bytes of this answer's own body.
impl Rule {
    /// Waits before the head is sent.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.does.delay = Some(delay);
        self
    }

    /// Sends the head when the gate is open.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.does.head_gate = Some(gate.clone());
        self
    }

    /// Never answers.
    #[must_use]
    pub fn hang(self) -> Self {
        self.gate(&Gate::new())
    }

    /// Closes the connection in place of an answer.
    #[must_use]
    pub const fn drop_connection(mut self, how: Cut) -> Self {
        self.does.no_head = Some(how);
        self
    }

    /// Sends the body at this many bytes per second.
    #[must_use]
    pub const fn throttle(mut self, bytes_per_second: u64) -> Self {
        self.does.throttle = Some(bytes_per_second);
        self
    }

    /// Sends the body in pieces of this many bytes, each on its own, as fast as they go.
    #[must_use]
    pub const fn pieces(mut self, bytes: u64) -> Self {
        self.does.pieces = Some(bytes);
        self
    }

    /// Stops after `n` bytes of the body until the gate is open. May be said more than once.
    #[must_use]
    pub fn pause_at(mut self, n: u64, gate: &Gate) -> Self {
        self.does.pauses.push((n, gate.clone()));
        self
    }

    /// Cuts the connection after `n` bytes of the body. A chunked body that is cut after its
    /// last byte lacks its last chunk.
    #[must_use]
    pub const fn cut_after(mut self, n: u64, how: Cut) -> Self {
        self.does.end = Some((n, End::Cut(how)));
        self
    }

    /// Sends nothing more after `n` bytes of the body, and keeps the connection open.
    #[must_use]
    pub const fn stall_after(mut self, n: u64) -> Self {
        self.does.end = Some((n, End::Stall));
        self
    }
}
