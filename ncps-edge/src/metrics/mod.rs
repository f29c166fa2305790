//! What the edge counts, in one value that is handed to its parts. The dictionary is [`METRICS`].
//!
//! Absent: anything global. An edge made with [`Telemetry::off`] counts for itself.

mod http;
mod names;
mod upstream;

use std::sync::{Arc, Weak};

use ncps_runtime::label;
use ncps_runtime::telemetry::{Counters, Gauges, KeyValue, Metric, Telemetry};

pub use http::{HttpMetrics, Route, Served, Side, Status, Verb};
pub use names::METRICS;
pub use upstream::{Asked, Outcome, UpstreamMetrics};

use crate::live::Current;
use crate::near::NearCache;
use crate::store::LocalStore;
use crate::transfer::Engine;
use crate::upstream::UpstreamError;
use upstream::UpstreamFamily;

label! {
    /// Where a transfer is.
    pub enum Stage in "stage" {
        /// For a slot.
        Waiting = "waiting",
        /// It has one.
        Fetching = "fetching",
    }
}

label! {
    /// How a transfer ended.
    pub enum Ended in "outcome" {
        /// Into the store.
        Committed = "committed",
        /// It was in the store by then.
        Found = "found",
        /// Whole and right, but the store has no room.
        NotKept = "not_kept",
        /// The disk took no more: its readers go on alone.
        Overflowed = "overflowed",
        /// No source has it.
        Absent = "absent",
        /// Anything else.
        Failed = "failed",
    }
}

label! {
    /// What proved wrong.
    pub enum Reason in "reason" {
        /// The file is not what its name says.
        FileHash = "file_hash",
        /// The same, but it is the right NAR.
        Corrected = "file_hash_corrected",
        /// The NAR is not what was signed.
        NarHash = "nar_hash",
        /// More or fewer bytes than said.
        Length = "length",
        /// What was to be decoded can't be.
        Undecodable = "undecodable",
        /// A narinfo without a trusted signature.
        Untrusted = "narinfo_untrusted",
        /// A narinfo of another path.
        OtherPath = "narinfo_other_path",
        /// No narinfo at all.
        Malformed = "narinfo_malformed",
    }
}

label! {
    /// What comes ahead of clients.
    pub enum Ahead in "what" {
        Narinfo = "narinfo",
        Nar = "nar",
    }
}

label! {
    /// What became of a file that could become zstd.
    pub enum Transcoded in "outcome" {
        /// It did.
        Made = "made",
        /// It would not get smaller.
        NoGain = "no_gain",
        /// There was no room.
        NotKept = "not_kept",
        /// Anything else.
        Failed = "failed",
    }
}

label! {
    /// Of a transcoded file.
    pub enum Size in "size" {
        Before = "before",
        After = "after",
    }
}

label! {
    /// Why a stored file is in quarantine.
    pub enum Unsound in "reason" {
        /// Its bytes are not what its name says.
        Wrong = "wrong",
        /// The disk does not give them.
        Unreadable = "unreadable",
    }
}

label! {
    /// What became of a file from quarantine.
    pub enum Healing in "outcome" {
        /// It is in the store again.
        Healed = "healed",
        /// No source has it.
        Lost = "lost",
        /// It could not be fetched then.
        Failed = "failed",
    }
}

label! {
    /// What became of a call to control.
    pub enum ControlCall in "outcome" {
        /// It was answered, if only with a refusal.
        Answered = "answered",
        /// No answer came, or not in time.
        Unanswered = "unanswered",
        /// It was not made, since control is known to be away.
        NotMade = "not_made",
    }
}

/// Everything that the edge counts.
pub struct EdgeMetrics {
    telemetry: Telemetry,
    pub http: HttpMetrics,
    pub started: Arc<Counters<()>>,
    pub coalesced: Arc<Counters<()>>,
    pub resumed: Arc<Counters<()>>,
    pub ended: Arc<Counters<Ended>>,
    pub transfers: Arc<Gauges<Stage>>,
    pub integrity: Arc<Counters<Reason>>,
    pub ahead: Arc<Counters<Ahead>>,
    pub transcoded: Arc<Counters<Transcoded>>,
    pub transcoded_bytes: Arc<Counters<Size>>,
    pub transcode_saved: Arc<Counters<()>>,
    pub transcode_cpu: Arc<Counters<()>>,
    pub attached: Arc<Gauges<()>>,
    pub control_away: Arc<Gauges<()>>,
    pub control_calls: Arc<Counters<ControlCall>>,
    pub upstream_signed: Arc<Counters<()>>,
    pub scrubbed: Arc<Counters<()>>,
    pub scrubbed_bytes: Arc<Counters<()>>,
    pub unsound: Arc<Counters<Unsound>>,
    pub healed: Arc<Counters<Healing>>,
    pub peer_requests: PeerRequests,
    pub peer_fetched: Arc<Counters<()>>,
    upstreams: UpstreamFamily,
}

/// How requests to other edges went.
pub struct PeerRequests(Arc<Counters<Outcome>>);

impl PeerRequests {
    pub(crate) fn request<T>(&self, answer: &Result<Option<T>, UpstreamError>) {
        if let Some(outcome) = Outcome::of(answer) {
            self.0.inc(outcome);
        }
    }
}

impl EdgeMetrics {
    /// Every instrument; those of upstreams come with the upstreams.
    pub fn new(telemetry: &Telemetry) -> Arc<EdgeMetrics> {
        Arc::new(EdgeMetrics {
            telemetry: telemetry.clone(),
            http: HttpMetrics::new(telemetry),
            started: telemetry.counters(&names::TRANSFERS_STARTED),
            coalesced: telemetry.counters(&names::TRANSFERS_COALESCED),
            resumed: telemetry.counters(&names::TRANSFERS_RESUMED),
            ended: telemetry.counters(&names::TRANSFERS_ENDED),
            transfers: telemetry.gauges(&names::TRANSFERS),
            integrity: telemetry.counters(&names::INTEGRITY),
            ahead: telemetry.counters(&names::LOOKED_AHEAD),
            transcoded: telemetry.counters(&names::TRANSCODED),
            transcoded_bytes: telemetry.counters(&names::TRANSCODED_BYTES),
            transcode_saved: telemetry.counters(&names::TRANSCODE_SAVED),
            transcode_cpu: telemetry.counters(&names::TRANSCODE_CPU),
            attached: telemetry.gauges(&names::ATTACHED),
            control_away: telemetry.gauges(&names::CONTROL_AWAY),
            control_calls: telemetry.counters(&names::CONTROL_CALLS),
            upstream_signed: telemetry.counters(&names::UPSTREAM_SIGNED),
            scrubbed: telemetry.counters(&names::SCRUBBED),
            scrubbed_bytes: telemetry.counters(&names::SCRUBBED_BYTES),
            unsound: telemetry.counters(&names::QUARANTINED),
            healed: telemetry.counters(&names::HEALED),
            peer_requests: PeerRequests(telemetry.counters(&names::PEER_REQUESTS)),
            peer_fetched: telemetry.counters(&names::PEER_FETCHED),
            upstreams: UpstreamFamily::new(telemetry),
        })
    }

    /// All metrics of the process, for Prometheus; `None` where that is off.
    pub fn scrape(&self) -> Option<String> {
        self.telemetry.scrape()
    }

    /// What is counted of an upstream, whichever configuration names it.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        self.upstreams.of(name)
    }

    /// Looks at these parts of the edge when somebody collects, as long as they are there.
    pub fn watch(&self, parts: Watched<'_>) {
        let Watched { current, engine, near, store } = parts;
        self.look(&names::DECODERS, engine, |engine| engine.decoders_busy());
        self.look(&names::PASSED, engine, |engine| engine.counters().passed());
        self.look(&names::TRANSCODES, engine, |engine| engine.transcodes().len() as u64);
        self.look(&names::UNTOLD, engine, |engine| engine.pending().len() as u64);
        self.look(&names::SPOOL, engine, |engine| engine.spool_reserved());
        self.look(&names::NEAR_NARINFOS, near, |near| near.len() as u64);
        self.look(&names::NEAR_BYTES, near, |near| near.bytes());
        self.look(&names::STORE_FILES, store, |store| store.held().0);
        self.look(&names::STORE_BYTES, store, |store| store.held().1);
        self.look(&names::UPSTREAM_COUNT, current, |current| breakers(current).count() as u64);
        self.look(&names::UPSTREAM_HEALTHY, current, |current| {
            breakers(current).filter(|(_, state)| *state == 0).count() as u64
        });
        let looked_at = Arc::downgrade(store);
        self.telemetry.observe(&names::DISK_FREE, move |seen| {
            if let Some(space) = looked_at.upgrade().and_then(|store| store.space().ok()) {
                seen(space.free, &[]);
            }
        });
        let looked_at = (Arc::downgrade(store), Arc::downgrade(current));
        self.telemetry.observe(&names::DISK_MIN_FREE, move |seen| {
            let (Some(store), Some(current)) = (looked_at.0.upgrade(), looked_at.1.upgrade()) else { return };
            if let (Ok(space), Ok(live)) = (store.space(), current.get()) {
                seen(live.settings.min_free.of(space.total), &[]);
            }
        });
        let looked_at = Arc::downgrade(current);
        self.telemetry.observe(&names::UPSTREAM_BREAKER, move |seen| {
            for (upstream, state) in looked_at.upgrade().iter().flat_map(|c| breakers(c)) {
                seen(state, &[KeyValue::new("upstream", upstream)]);
            }
        });
    }

    fn look<T: Send + Sync + 'static>(&self, metric: &'static Metric, part: &Arc<T>, number: fn(&T) -> u64) {
        let looked_at = Arc::downgrade(part);
        self.telemetry.observe(metric, move |seen| {
            if let Some(part) = Weak::upgrade(&looked_at) {
                seen(number(&part), &[]);
            }
        });
    }
}

/// The parts that are looked at.
pub struct Watched<'a> {
    pub current: &'a Arc<Current>,
    pub engine: &'a Arc<Engine>,
    pub near: &'a Arc<NearCache>,
    pub store: &'a Arc<LocalStore>,
}

/// The configured upstreams and the state of their breakers; none before the first configuration.
fn breakers(current: &Current) -> impl Iterator<Item = (String, u64)> + use<> {
    let breakers = current.get().map(|live| live.upstreams.breakers()).unwrap_or_default();
    breakers.into_iter()
}
