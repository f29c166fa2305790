//! What was turned away at control's port and at the door of the fleet: counted, and remembered for a while, so that
//! an administrator sees who is kept out and why.
//!
//! The memory is bounded: the same attempt again, by the same and for the same reason, is one entry that is counted up
//! and said once, and past [`MOST`] the oldest entry goes. Absent: who is to be turned away.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use ncps_proto::Error;
use ncps_proto::admin::RefusedEdge;
use ncps_runtime::clock::Clock;
use ncps_runtime::label;
use ncps_runtime::telemetry::{Counters, Labels};
use parking_lot::Mutex;

/// Attempts that are remembered.
const MOST: usize = 64;
/// Of a name or a reason, in characters: both come from who is turned away.
const LONGEST: usize = 300;

label! {
    /// Why.
    pub(crate) enum Reason in "reason" {
        /// It shows no token, or one that does not count or is not for its name.
        Token = "token",
        /// The same of an administrator.
        AdminToken = "admin_token",
        /// A certificate is not trusted, by it or by us.
        Certificate = "certificate",
        /// It speaks no TLS, or was too slow to; or no HTTP/2.
        Handshake = "handshake",
        /// A call is none of gRPC, or says what can't be understood.
        Malformed = "malformed",
        /// What it says of itself can't be, or it says nothing.
        Hello = "hello",
        /// It is of a release that control does not understand.
        Protocol = "protocol",
        /// Another edge is attached with its name.
        Name = "name",
        /// It was taken out of the fleet.
        Removed = "removed",
        /// There are as many edges or connections as there may be.
        Full = "full",
        /// A connection makes more calls than one may, or an address begins more than it ends.
        Flood = "flood",
        /// An edge says that it holds more than one may.
        Inventory = "inventory",
        /// A connection was let in for nothing in its time, or a call did not say in its time what it is.
        Idle = "idle",
    }
}

/// Who was turned away, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    /// The name that it gave.
    pub(crate) name: Option<String>,
    pub(crate) peer: Option<IpAddr>,
}

impl From<IpAddr> for Who {
    fn from(peer: IpAddr) -> Who {
        Who { name: None, peer: Some(peer) }
    }
}

/// The memory, and the counter.
pub(crate) struct Refusals {
    recent: Mutex<VecDeque<RefusedEdge>>,
    counted: Arc<Counters<Reason>>,
    clock: Arc<dyn Clock>,
}

impl Refusals {
    pub(crate) fn new(counted: Arc<Counters<Reason>>, clock: Arc<dyn Clock>) -> Arc<Refusals> {
        Arc::new(Refusals { recent: Mutex::default(), counted, clock })
    }

    /// Somebody was turned away.
    pub(crate) fn note(&self, who: &Who, reason: Reason, why: &str) {
        self.counted.inc(reason);
        let now = self.clock.now().0;
        let attempt = RefusedEdge {
            name: who.name.as_deref().map(printable),
            peer: who.peer.map(|peer| peer.to_string()),
            reason: reason.values()[0].to_owned(),
            why: printable(why),
            first: now,
            last: now,
            times: 1,
        };
        let mut recent = self.recent.lock();
        match recent.iter().position(|known| is_same(known, &attempt)).and_then(|at| recent.remove(at)) {
            Some(known) => {
                if known.why != attempt.why {
                    say(&attempt);
                }
                let (first, times) = (known.first, known.times.saturating_add(1));
                recent.push_back(RefusedEdge { first, times, ..attempt });
            }
            None => {
                say(&attempt);
                if recent.len() >= MOST {
                    recent.pop_front();
                }
                recent.push_back(attempt);
            }
        }
    }

    /// The same of an error, which is handed back.
    pub(crate) fn turn_away(&self, who: &Who, reason: Reason, error: Error) -> Error {
        self.note(who, reason, &error.to_string());
        error
    }

    /// The attempts that are remembered, the last one first.
    pub(crate) fn recent(&self) -> Vec<RefusedEdge> {
        self.recent.lock().iter().rev().cloned().collect()
    }
}

/// Not with every try: only when it is new.
fn say(RefusedEdge { name, peer, reason, why, .. }: &RefusedEdge) {
    tracing::info!(name, peer, reason, why, "a call was refused");
}

fn is_same(one: &RefusedEdge, other: &RefusedEdge) -> bool {
    (&one.name, &one.peer, &one.reason) == (&other.name, &other.peer, &other.reason)
}

/// It is shown at terminals.
fn printable(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use ncps_runtime::clock::{ManualClock, UnixTime};
    use ncps_runtime::telemetry::Telemetry;

    use super::*;
    use crate::metrics::ControlMetrics;

    fn refusals(clock: &ManualClock) -> Arc<Refusals> {
        let metrics = ControlMetrics::new(&Telemetry::off());
        Refusals::new(Arc::clone(&metrics.refused), Arc::new(clock.clone()))
    }

    fn named(name: &str) -> Who {
        Who { name: Some(name.to_owned()), peer: None }
    }

    #[test]
    fn the_same_again_is_one_entry_and_the_oldest_of_many_goes() {
        let clock = ManualClock::at(UnixTime(10));
        let refusals = refusals(&clock);
        refusals.note(&named("a"), Reason::Name, "taken by i1");
        refusals.note(&named("b"), Reason::Name, "taken");
        clock.set(UnixTime(20));
        refusals.note(&named("a"), Reason::Name, "taken by i2");
        refusals.note(&named("a"), Reason::Protocol, "too old");
        let recent = refusals.recent();
        let shown: Vec<_> = recent.iter().map(|r| (r.name.as_deref(), &*r.reason, r.times)).collect();
        let (a, b) = (Some("a"), Some("b"));
        assert_eq!(shown, [(a, "protocol", 1), (a, "name", 2), (b, "name", 1)]);
        assert_eq!((recent[1].first, recent[1].last, &*recent[1].why), (10, 20, "taken by i2"));
        for n in 0..10 * MOST {
            refusals.note(&named(&format!("n{n}")), Reason::Name, "taken");
        }
        assert_eq!(refusals.recent().len(), MOST);
    }

    #[test]
    fn what_strangers_say_is_bounded_and_moves_no_cursor() {
        let refusals = refusals(&ManualClock::at(UnixTime(10)));
        refusals.note(&named(&format!("\u{1b}[2J{}", "x".repeat(10_000))), Reason::Hello, "a\nb");
        let recent = refusals.recent();
        let name = recent[0].name.as_deref().expect("named");
        assert!(name.starts_with("\u{fffd}[2J") && name.chars().count() == LONGEST, "{name}");
        assert_eq!(recent[0].why, "a\u{fffd}b");
    }
}
