//! What is counted of each upstream. The series live as long as the process: a new configuration goes on where
//! the former one stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ncps_runtime::label;
use ncps_runtime::telemetry::{Counters, Histogram, KeyValue, Labels, Telemetry};
use parking_lot::Mutex;

use super::names;
use crate::upstream::UpstreamError;

label! {
    /// What an upstream was asked for.
    pub enum Asked in "kind" {
        /// A path's narinfo.
        Narinfo = "narinfo",
        /// A NAR's bytes.
        Nar = "nar",
        /// Whether a NAR is there.
        Head = "head",
        /// A listing, log, debug info or realisation.
        Object = "object",
    }
}

label! {
    /// How a request to an upstream went.
    pub enum Outcome in "outcome" {
        /// It has it.
        Ok = "ok",
        /// It doesn't.
        Absent = "absent",
        /// A status that says nothing of that.
        Status = "status",
        /// No answer in time.
        Timeout = "timeout",
        /// No connection, or a broken one.
        Error = "error",
        /// An answer that can't be used or trusted.
        Invalid = "invalid",
    }
}

impl Outcome {
    /// `None` where no request was made.
    pub(super) fn of<T>(answer: &Result<Option<T>, UpstreamError>) -> Option<Outcome> {
        Some(match answer {
            Ok(Some(_)) => Outcome::Ok,
            Ok(None) => Outcome::Absent,
            Err(UpstreamError::Paused | UpstreamError::Waiting(_)) => return None,
            Err(UpstreamError::Busy(_)) => Outcome::Status,
            Err(UpstreamError::Timeout | UpstreamError::Stalled) => Outcome::Timeout,
            Err(UpstreamError::Status(_)) => Outcome::Status,
            Err(UpstreamError::Transport(_) | UpstreamError::Cut(_)) => Outcome::Error,
            Err(_) => Outcome::Invalid,
        })
    }
}

/// The instruments of one upstream.
pub struct UpstreamMetrics {
    requests: Counters<(Asked, Outcome)>,
    bytes: Counters<()>,
    latency: Histogram,
    narinfo: Histogram,
    nar: Histogram,
}

impl fmt::Debug for UpstreamMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamMetrics").finish_non_exhaustive()
    }
}

impl UpstreamMetrics {
    /// The head of an answer came, or was given up.
    pub fn answered(&self, after: Duration) {
        self.latency.record(after.as_secs_f64());
    }

    /// How a request went.
    pub fn request<T>(&self, asked: Asked, answer: &Result<Option<T>, UpstreamError>) {
        if let Some(outcome) = Outcome::of(answer) {
            self.requests.inc((asked, outcome));
        }
    }

    /// A narinfo came, whole and right or not.
    pub fn narinfo(&self, after: Duration) {
        self.narinfo.record(after.as_secs_f64());
    }

    /// The body of a NAR came to its end.
    pub fn nar(&self, after: Duration) {
        self.nar.record(after.as_secs_f64());
    }

    /// How many requests there were, and how many of them failed.
    pub fn requests(&self) -> (u64, u64) {
        let number = |labels| self.requests.get(labels);
        let failed = |(_, outcome): &(Asked, Outcome)| !matches!(outcome, Outcome::Ok | Outcome::Absent);
        let all = <(Asked, Outcome)>::all();
        (all.iter().copied().map(number).sum(), all.iter().copied().filter(failed).map(number).sum())
    }

    /// How many bytes came.
    pub fn bytes(&self) -> u64 {
        self.bytes.get(())
    }

    /// So many bytes came.
    pub fn fetched(&self, bytes: u64) {
        self.bytes.add((), bytes);
    }
}

/// Makes and keeps the instruments of upstreams by name.
pub(super) struct UpstreamFamily {
    all: Arc<Mutex<BTreeMap<String, Arc<UpstreamMetrics>>>>,
    make: Box<dyn Fn(KeyValue) -> UpstreamMetrics + Send + Sync>,
}

impl UpstreamFamily {
    pub(super) fn new(telemetry: &Telemetry) -> UpstreamFamily {
        let latency = telemetry.histogram_family(&names::UPSTREAM_LATENCY);
        let narinfo = telemetry.histogram_family(&names::UPSTREAM_NARINFO);
        let nar = telemetry.histogram_family(&names::UPSTREAM_NAR);
        let make = move |name: KeyValue| UpstreamMetrics {
            requests: Counters::default(),
            bytes: Counters::default(),
            latency: latency(vec![name.clone()]),
            narinfo: narinfo(vec![name.clone()]),
            nar: nar(vec![name]),
        };
        let family = UpstreamFamily { all: Arc::default(), make: Box::new(make) };
        family.observe(telemetry);
        family
    }

    fn observe(&self, telemetry: &Telemetry) {
        let all = Arc::clone(&self.all);
        telemetry.observe(&names::UPSTREAM_REQUESTS, move |seen| {
            for (name, one) in all.lock().iter() {
                for labels in <(Asked, Outcome)>::all() {
                    let pairs = [vec![KeyValue::new("upstream", name.clone())], labels.pairs()].concat();
                    seen(one.requests.get(labels), &pairs);
                }
            }
        });
        let all = Arc::clone(&self.all);
        telemetry.observe(&names::UPSTREAM_BYTES, move |seen| {
            for (name, one) in all.lock().iter() {
                seen(one.bytes.get(()), &[KeyValue::new("upstream", name.clone())]);
            }
        });
    }

    pub(super) fn of(&self, name: &str) -> Arc<UpstreamMetrics> {
        let make = || Arc::new((self.make)(KeyValue::new("upstream", name.to_owned())));
        Arc::clone(self.all.lock().entry(name.to_owned()).or_insert_with(make))
    }
}
