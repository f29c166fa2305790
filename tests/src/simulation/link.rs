//! The stream between one edge and control: in order, late, and gone at once when it breaks.

use std::collections::VecDeque;

use ncps_control::fleet::SessionId;
use ncps_proto::{Said, Told};

/// Messages under way. Either side may believe in it after it broke.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) session: SessionId,
    /// The run of control that opened it.
    pub(super) run: u64,
    pub(super) up: VecDeque<Said>,
    pub(super) down: VecDeque<Told>,
    pub(super) broken: bool,
    /// Control has ended it.
    pub(super) ended: bool,
}

impl Link {
    pub(super) fn new(session: SessionId, run: u64, first: Told) -> Link {
        Link { session, run, up: VecDeque::new(), down: VecDeque::from([first]), broken: false, ended: false }
    }

    pub(super) fn cut(&mut self) {
        self.broken = true;
        self.up.clear();
        self.down.clear();
    }
}
