//! What an edge has counted since its process began: said whole each time, so that a report may be lost or repeated.

use std::time::Duration;

/// One table of counters and their names.
macro_rules! counters {
    ($($(#[$meta:meta])* $counter:ident = $name:literal,)+) => {
        /// Something that edges count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$meta])* $counter),+ }

        impl Counter {
            /// All of them.
            pub const ALL: &[Counter] = &[$(Counter::$counter),+];

            /// As it is stored; never changes.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$counter => $name),+ }
            }
        }
    };
}

counters! {
    /// Narinfos answered without an upstream.
    NarinfoHits = "narinfo_hits",
    /// Narinfos for which an upstream was asked.
    NarinfoMisses = "narinfo_misses",
    /// Narinfos that are nowhere.
    NarinfoAbsent = "narinfo_absent",
    /// Narinfos that could not be answered.
    NarinfoErrors = "narinfo_errors",
    /// NARs answered without an upstream.
    NarHits = "nar_hits",
    /// NARs that came from an upstream while they were sent.
    NarMisses = "nar_misses",
    /// NARs that are nowhere.
    NarAbsent = "nar_absent",
    /// NARs that could not be sent, or not to their end.
    NarErrors = "nar_errors",
    /// Bytes of NARs sent without an upstream.
    NarBytesHit = "nar_bytes_hit",
    /// Bytes of NARs sent while they came.
    NarBytesMissed = "nar_bytes_missed",
    /// Bytes of NARs that clients got and no upstream had to send for them.
    BytesSaved = "bytes_saved",
    /// Bytes that upstreams sent.
    BytesFetched = "bytes_fetched",
    /// Files and narinfos that proved wrong.
    Wrong = "wrong",
}

/// A number per [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Counter::ALL.len()]);

impl Counts {
    /// The number of one.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    pub fn set(&mut self, counter: Counter, number: u64) {
        self.0[counter as usize] = number;
    }

    /// Both together, as far as there are numbers.
    #[must_use]
    pub fn plus(mut self, other: &Counts) -> Counts {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self
    }

    /// What is more here, as far as it is.
    #[must_use]
    pub fn minus(mut self, other: &Counts) -> Counts {
        self.0.iter_mut().zip(other.0).for_each(|(number, less)| *number = number.saturating_sub(less));
        self
    }

    /// Each counter with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|counter| (*counter, self.get(*counter)))
    }
}

/// How well requests of one kind were answered from here: the figures that everything shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// Answered from here.
    pub hits: u64,
    /// With the help of an upstream.
    pub misses: u64,
    /// For what is nowhere.
    pub absent: u64,
    pub errors: u64,
}

impl Ratio {
    fn of(counts: &Counts, [hits, misses, absent, errors]: [Counter; 4]) -> Ratio {
        let n = |counter| counts.get(counter);
        Ratio { hits: n(hits), misses: n(misses), absent: n(absent), errors: n(errors) }
    }

    /// Hits among hits and misses, from 0 to 1; `None` without any.
    pub fn hit_ratio(&self) -> Option<f64> {
        share(self.hits, self.misses)
    }
}

impl Counts {
    /// Of narinfos.
    pub fn narinfos(&self) -> Ratio {
        use Counter::{NarinfoAbsent, NarinfoErrors, NarinfoHits, NarinfoMisses};
        Ratio::of(self, [NarinfoHits, NarinfoMisses, NarinfoAbsent, NarinfoErrors])
    }

    /// Of NARs.
    pub fn nars(&self) -> Ratio {
        use Counter::{NarAbsent, NarErrors, NarHits, NarMisses};
        Ratio::of(self, [NarHits, NarMisses, NarAbsent, NarErrors])
    }

    /// Of the bytes of NARs, those that were sent from here; `None` without any.
    pub fn byte_hit_ratio(&self) -> Option<f64> {
        share(self.get(Counter::NarBytesHit), self.get(Counter::NarBytesMissed))
    }
}

fn share(part: u64, rest: u64) -> Option<f64> {
    let all = part.saturating_add(rest);
    (all > 0).then(|| part as f64 / all as f64)
}

/// What an edge says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// Random, made with the edge's process: with another one the counts begin anew.
    pub run: String,
    /// Of the program.
    pub version: String,
    pub counts: Counts,
    /// The upstreams that it is configured with, best first.
    pub upstreams: Vec<UpstreamTotals>,
}

/// How an upstream is, as one edge sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTotals {
    /// As configured, without a login.
    pub url: String,
    pub state: UpstreamState,
    /// From a request to the head of its answer, on average; `None` before the first.
    pub latency: Option<Duration>,
    /// Since the edge's process began.
    pub requests: u64,
    /// Those of them that failed, an absence not counted.
    pub errors: u64,
    /// What it sent.
    pub bytes: u64,
}

/// Whether an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// As usual.
    Asked,
    /// It failed several times in a row, or asked for a pause: left alone for a while.
    LeftAlone,
    /// It has been down for so long that it has no say.
    GivenUp,
}

impl UpstreamState {
    /// All of them.
    pub const ALL: &[UpstreamState] =
        &[UpstreamState::Asked, UpstreamState::LeftAlone, UpstreamState::GivenUp];

    /// As it is said and shown.
    pub const fn name(self) -> &'static str {
        match self {
            UpstreamState::Asked => "asked",
            UpstreamState::LeftAlone => "left-alone",
            UpstreamState::GivenUp => "given-up",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<UpstreamState> {
        UpstreamState::ALL.iter().copied().find(|state| state.name() == name)
    }
}
