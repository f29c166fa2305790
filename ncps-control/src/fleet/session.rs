//! One edge, from its hello to the end of either stream, and what waits to be told to it.
//!
//! The queue is bounded. Where it is full nothing is added: a queue without a limit would only hide that an edge does
//! not keep up.

use std::collections::VecDeque;

use ncps_nix::StorePathHash;
use ncps_proto::admin::EdgeState;
use ncps_proto::{Directive, DiskReport, Hello, Outdating, Told, Totals};
use ncps_runtime::clock::UnixTime;

/// Directives that may wait for one edge.
pub const QUEUE: usize = 1024;

/// Tells a session from all others of this process, former ones of the same instance included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) u64);

/// An attached edge.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) instance: String,
    /// The edge's.
    pub(super) name: String,
    /// The index that it belonged to when it attached.
    pub(super) index: Option<String>,
    pub(super) url: Option<String>,
    pub(super) zone: Option<String>,
    /// Its disk is kept.
    pub(super) durable: bool,
    /// What its store may take, where it has a limit of its own.
    pub(super) capacity: Option<u64>,
    pub(super) version: String,
    /// What it said last of its disk.
    pub(super) disk: Option<DiskReport>,
    /// What it said last of what it counted.
    pub(super) totals: Option<Totals>,
    pub(super) since: UnixTime,
    /// It was told that the reports up to this one need not be said again.
    pub(super) acknowledged: Option<u64>,
    /// Whether it is to leave.
    pub(super) state: EdgeState,
    untold: VecDeque<Told>,
    /// The number of the last directive.
    last: u64,
    /// Invalidations that it has not acknowledged, by number.
    unheard: VecDeque<(u64, Vec<StorePathHash>)>,
}

impl Session {
    pub(super) fn new(hello: &Hello, at: UnixTime) -> Session {
        Session {
            instance: hello.instance.clone(),
            name: hello.name.clone(),
            index: hello.index.clone(),
            url: hello.url.clone(),
            zone: hello.zone.clone(),
            durable: hello.durable,
            capacity: hello.capacity,
            version: hello.version.clone(),
            disk: None,
            totals: None,
            since: at,
            acknowledged: None,
            state: EdgeState::Attached,
            untold: VecDeque::new(),
            last: 0,
            unheard: VecDeque::new(),
        }
    }

    /// False where too much waits already.
    pub(super) fn tell(&mut self, directive: Directive) -> bool {
        if self.untold.len() >= QUEUE {
            return false;
        }
        self.last += 1;
        if let Directive::Invalidate(paths) | Directive::Outdate(Outdating { store_paths: paths, .. }) =
            &directive
        {
            self.unheard.push_back((self.last, paths.clone()));
        }
        self.untold.push_back(Told { number: self.last, welcome: None, directive });
        true
    }

    /// What waits, and after it how far the edge was heard, which is not counted: the last word is enough.
    pub(super) fn next_told(&mut self, heard: Option<u64>) -> Option<Told> {
        let next = self.untold.pop_front();
        next.or_else(|| {
            // 0 is of an edge that counts nothing, and would not understand it.
            let heard = heard.filter(|heard| *heard > 0 && self.acknowledged != Some(*heard))?;
            self.acknowledged = Some(heard);
            Some(Directive::Heard(heard).into())
        })
    }

    /// It has heard the directives up to this one.
    pub(super) fn has_heard(&mut self, number: u64) {
        while self.unheard.front().is_some_and(|(first, _)| *first <= number) {
            self.unheard.pop_front();
        }
    }

    /// Paths of which it may not have heard that they changed.
    pub(super) fn unheard(self) -> impl Iterator<Item = StorePathHash> {
        self.unheard.into_iter().flat_map(|(_, paths)| paths)
    }
}
