//! Whose turn it is to fetch a NAR file. A pure state machine: events and `now` in, answers out.
//!
//! A turn saves bandwidth and protects nothing: bytes are named by their hash, so a late or a second commit
//! is one more copy. Absent on purpose: sessions (whoever ends one calls [`Leases::drop_holder`]), and any
//! memory beyond the process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ncps_nix::NarFileName;

/// How long a turn lasts unless its holder asks for it again.
pub(crate) const TTL: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Lease {
    holder: String,
    until: Instant,
}

/// The turns that are taken.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    taken: HashMap<NarFileName, Lease>,
}

/// The answer to a request for a turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is the caller's, from now on or for longer.
    Granted,
    /// It is this instance's.
    HeldBy(String),
}

impl Leases {
    /// Asks for a turn. The same holder may ask again, which renews it.
    pub(crate) fn begin(&mut self, instance: &str, name: NarFileName, now: Instant) -> Answer {
        let other = self.taken.get(&name).filter(|lease| lease.holder != instance && now < lease.until);
        if let Some(lease) = other {
            return Answer::HeldBy(lease.holder.clone());
        }
        self.take(instance, name, now);
        Answer::Granted
    }

    /// Makes it this one's turn, whoever has it.
    pub(crate) fn take(&mut self, instance: &str, name: NarFileName, now: Instant) {
        self.taken.insert(name, Lease { holder: instance.to_owned(), until: now + TTL });
    }

    /// Whether it is anybody's turn.
    pub(crate) fn is_taken(&self, name: NarFileName, now: Instant) -> bool {
        self.taken.get(&name).is_some_and(|lease| now < lease.until)
    }

    /// Whether it is this one's turn.
    pub(crate) fn is_held_by(&self, instance: &str, name: NarFileName, now: Instant) -> bool {
        self.taken.get(&name).is_some_and(|lease| lease.holder == instance && now < lease.until)
    }

    /// The turns that are taken, in the order of their files, and their holders.
    pub(crate) fn taken(&self, now: Instant) -> Vec<(NarFileName, String)> {
        let taken = self.taken.iter().filter(|(_, lease)| now < lease.until);
        let mut taken: Vec<_> = taken.map(|(name, lease)| (*name, lease.holder.clone())).collect();
        taken.sort_unstable();
        taken
    }

    /// Gives a turn back. Only its holder can.
    pub(crate) fn end(&mut self, instance: &str, name: NarFileName) {
        if self.taken.get(&name).is_some_and(|lease| lease.holder == instance) {
            self.taken.remove(&name);
        }
    }

    /// Forgets the turns that ran out: they are free without this, it only returns their memory.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.taken.retain(|_, lease| now < lease.until);
    }

    /// Frees every turn of a holder that is gone.
    pub(crate) fn drop_holder(&mut self, instance: &str) {
        self.taken.retain(|_, lease| lease.holder != instance);
    }

    /// How many turns are taken, those that ran out and were not yet forgotten included.
    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: u8) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(&[seed])), compression: Compression::Xz }
    }

    fn held_by(holder: &str) -> Answer {
        Answer::HeldBy(holder.to_owned())
    }

    #[test]
    fn a_turn_is_one_holders_until_it_ends() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        assert_eq!(leases.begin("a", file(1), now), Answer::Granted);
        assert_eq!(leases.begin("b", file(1), now), held_by("a"));
        assert_eq!(leases.begin("b", file(2), now), Answer::Granted, "another file is another turn");
        leases.end("b", file(1));
        assert_eq!(leases.begin("b", file(1), now), held_by("a"), "only the holder ends a turn");
        leases.end("a", file(1));
        assert_eq!(leases.begin("b", file(1), now), Answer::Granted);
    }

    #[test]
    fn a_turn_runs_out_unless_it_is_renewed() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin("a", file(1), start);
        let later = start + TTL - Duration::from_millis(1);
        assert_eq!(leases.begin("b", file(1), later), held_by("a"));
        assert_eq!(leases.begin("a", file(1), later), Answer::Granted, "renewed");
        assert_eq!(leases.begin("b", file(1), start + TTL), held_by("a"));
        assert_eq!(leases.begin("b", file(1), later + TTL), Answer::Granted, "ran out");
        assert_eq!(leases.begin("a", file(1), later + TTL), held_by("b"));
    }

    #[test]
    fn a_turn_that_is_taken_is_the_takers() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.begin("a", file(1), now);
        leases.take("b", file(1), now);
        assert_eq!(leases.begin("a", file(1), now), held_by("b"));
        leases.end("a", file(1));
        assert_eq!(leases.begin("c", file(1), now), held_by("b"), "who lost it can't end it");
    }

    #[test]
    fn expiry_forgets_what_ran_out_and_nothing_else() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.begin("a", file(1), start);
        leases.begin("a", file(2), start + Duration::from_secs(1));
        leases.expire(start + TTL);
        assert_eq!(leases.len(), 1);
        assert_eq!(leases.begin("b", file(2), start + TTL), held_by("a"));
    }

    #[test]
    fn who_is_gone_holds_nothing() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        leases.begin("a", file(1), now);
        leases.begin("a", file(2), now);
        leases.begin("b", file(3), now);
        leases.drop_holder("a");
        assert_eq!(leases.begin("c", file(1), now), Answer::Granted);
        assert_eq!(leases.begin("c", file(2), now), Answer::Granted);
        assert_eq!(leases.begin("c", file(3), now), held_by("b"));
    }
}
