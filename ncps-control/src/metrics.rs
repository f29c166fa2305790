//! What control counts, in one value that is handed to its parts, and its part of the dictionary of metrics.
//!
//! Absent: anything that a scrape would have to ask the database for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ncps_runtime::label;
use ncps_runtime::telemetry::{Counters, Gauges, Histograms, KeyValue, Kind, Metric, Telemetry};

use crate::eviction::{EvictionReport, Trigger};
use crate::index::Index;
use crate::pins::Pins;
use crate::refusals::Reason;
use crate::roster::Roster;
use crate::sessions::{Disk, Sessions};

label! {
    /// What became of a publication.
    pub(crate) enum Published in "outcome" {
        /// The path was new.
        Stored = "stored",
        /// The path was known already.
        Kept = "kept",
        /// The known version had lost its NAR.
        Replaced = "replaced",
        /// It proves nothing.
        Refused = "refused",
        /// Anything else.
        Failed = "failed",
    }
}

label! {
    /// What became of a batch of rows.
    pub(crate) enum Written in "outcome" {
        /// They are in the database.
        Written = "written",
        /// They wait for the next try.
        Failed = "failed",
    }
}

const SECONDS: Kind = Kind::Histogram(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);

/// An eviction waits for edges, step by step.
const RUN_SECONDS: Kind = Kind::Histogram(&[0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0]);

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:expr, $unit:literal, [$($label:literal),*], $help:literal;)+) => {
        $(const $const: Metric =
            Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };)+

        /// Every metric of control.
        pub const METRICS: &[Metric] = &[$($const),+];
    };
}

metrics! {
    PUBLICATIONS = "ncps_publications_total", Kind::Counter, "{publication}", ["outcome"],
        "Narinfos that edges published. `refused`: no trusted key signed them and no CA proves them.";
    ABSENCES_TOTAL = "ncps_absences_total", Kind::Counter, "{path}", [],
        "Paths that every upstream called absent.";
    ABSENCES = "ncps_absences", Kind::Gauge, "{path}", [],
        "Absences in memory, those that ran out and were not yet forgotten included.";
    BATCHES = "ncps_index_batches_total", Kind::Counter, "{batch}", ["outcome"],
        "Batches of rows on their way into the database.";
    BATCH_DURATION = "ncps_index_batch_duration_seconds", SECONDS, "s", [], "Time that writing a batch took.";
    ROWS = "ncps_index_rows_total", Kind::Counter, "{row}", [],
        "Rows that were written in them: states, accesses and events. Of accesses 5,000 a second at most.";
    ACCESSES = "ncps_accesses_waiting", Kind::Gauge, "{row}", [],
        "Times of last access that wait for their row, merged by what was read.";
    WAITING = "ncps_index_waiting", Kind::Gauge, "{row}", [], "States that wait for their row.";
    NARINFO_COUNT = "ncps_narinfo_count", Kind::Gauge, "{narinfo}", [],
        "Narinfos in the index: counted at the start, and kept up since.";
    ADOPTED = "ncps_adopted_narinfos_total", Kind::Counter, "{narinfo}", [],
        "Narinfos that were taken over from what an edge holds.";
    EDGES = "ncps_edges", Kind::Gauge, "{edge}", [], "Edges that are attached.";
    EDGES_AWAY = "ncps_edges_away", Kind::Gauge, "{edge}", ["durable"],
        "Edges that were attached within 7 days and are not now. `durable`: they keep their disk, so what was uploaded to \
         them is away with them.";
    PLACEMENTS = "ncps_placements", Kind::Gauge, "{file}", [],
        "NAR files that edges are believed to hold, one that several hold counted for each; those of edges that are away \
         for less than an hour included.";
    REFUSED = "ncps_refused_edges_total", Kind::Counter, "{attempt}", ["reason"],
        "Attempts to attach, to call or to connect that were refused. `token`, `certificate`: credentials; `handshake`: \
         no TLS or HTTP/2; `malformed`: calls that can't be understood; `hello`, `protocol`, `name`: what an edge says of itself; `full`, `idle`, `flood`: limits of the \
         port; `inventory`: more files than an edge may hold.";
    LEASES = "ncps_leases", Kind::Gauge, "{lease}", [],
        "Turns to fetch that are taken, those that ran out and were not yet forgotten included.";

    EVICTION_RUNS = "ncps_lru_cleanup_runs_total", Kind::Counter, "{run}", ["trigger"],
        "Evictions, those with nothing to do included. `pressure`: a limit was passed, or a file waited for room.";
    EVICTED_FILES = "ncps_lru_nar_files_evicted_total", Kind::Counter, "{file}", [],
        "NAR files that edges removed when told to.";
    EVICTED_BYTES = "ncps_lru_bytes_freed_total", Kind::Counter, "By", [], "What these took on the disk.";
    EVICTION_DURATION = "ncps_lru_cleanup_duration_seconds", RUN_SECONDS, "s", [],
        "Time that an eviction took, the edges' answers included.";
    SHORTFALL = "ncps_lru_shortfall_bytes", Kind::Gauge, "By", [],
        "What the last eviction could not free of what limits asked for: it is pinned, or in flight.";
    PINS = "ncps_pins", Kind::Gauge, "{pin}", [], "Pins that count.";
    PINNED_PATHS = "ncps_pinned_paths", Kind::Gauge, "{path}", [],
        "Paths in the closures of pins, those included that are only referenced.";
    MAX_SIZE = "ncps_cache_max_size_bytes", Kind::Gauge, "By", [],
        "`--cache-max-size`, of each edge. Not there without it.";
    UTILIZATION = "ncps_cache_utilization_ratio", Kind::Gauge, "1", [],
        "How much of it, or of its own `--edge-max-size`, the fullest edge takes; edges say it every 10 s. Not there \
         without either.";
}

/// Everything that control counts.
pub struct ControlMetrics {
    telemetry: Telemetry,
    pub(crate) publications: Arc<Counters<Published>>,
    pub(crate) absences: Arc<Counters<()>>,
    pub(crate) adopted: Arc<Counters<()>>,
    pub(crate) batches: Arc<Counters<Written>>,
    pub(crate) rows: Arc<Counters<()>>,
    pub(crate) batch_duration: Histograms<()>,
    pub(crate) narinfos: Arc<Gauges<()>>,
    pub(crate) refused: Arc<Counters<Reason>>,
    runs: Arc<Counters<Trigger>>,
    evicted_files: Arc<Counters<()>>,
    evicted_bytes: Arc<Counters<()>>,
    shortfall: Arc<Gauges<()>>,
    run_duration: Histograms<()>,
}

impl ControlMetrics {
    /// Every instrument.
    pub fn new(telemetry: &Telemetry) -> Arc<ControlMetrics> {
        Arc::new(ControlMetrics {
            telemetry: telemetry.clone(),
            publications: telemetry.counters(&PUBLICATIONS),
            absences: telemetry.counters(&ABSENCES_TOTAL),
            adopted: telemetry.counters(&ADOPTED),
            batches: telemetry.counters(&BATCHES),
            rows: telemetry.counters(&ROWS),
            batch_duration: telemetry.histograms(&BATCH_DURATION),
            narinfos: telemetry.gauges(&NARINFO_COUNT),
            refused: telemetry.counters(&REFUSED),
            runs: telemetry.counters(&EVICTION_RUNS),
            evicted_files: telemetry.counters(&EVICTED_FILES),
            evicted_bytes: telemetry.counters(&EVICTED_BYTES),
            shortfall: telemetry.gauges(&SHORTFALL),
            run_duration: telemetry.histograms(&EVICTION_DURATION),
        })
    }

    /// Looks at these parts of control when somebody collects, as long as they are there.
    pub(crate) fn watch(&self, index: &Arc<Index>, sessions: &Arc<Sessions>, pins: &Arc<Pins>) {
        self.look(&PINS, pins, |pins| pins.count() as u64);
        self.look(&PINNED_PATHS, index, |index| index.closures().len() as u64);
        self.look(&ABSENCES, index, |index| index.absences() as u64);
        self.look(&WAITING, index, |index| index.waiting() as u64);
        self.look(&ACCESSES, index, |index| index.accesses() as u64);
        self.look(&PLACEMENTS, sessions, |sessions| sessions.placements() as u64);
        self.look(&EDGES, sessions, |sessions| sessions.count() as u64);
        self.look(&LEASES, sessions, |sessions| sessions.leases() as u64);
    }

    /// The same of edges that are away.
    pub(crate) fn watch_away(&self, roster: &Arc<Roster>, sessions: &Arc<Sessions>) {
        let looked_at = (Arc::downgrade(roster), Arc::downgrade(sessions));
        self.telemetry.observe(&EDGES_AWAY, move |seen| {
            let (Some(roster), Some(sessions)) = (looked_at.0.upgrade(), looked_at.1.upgrade()) else {
                return;
            };
            let attached = sessions.named(None);
            let away = roster.away(&attached.iter().map(|(name, _)| &**name).collect());
            for durable in [true, false] {
                let number = away.iter().filter(|edge| edge.durable == durable).count();
                seen(number as u64, &[KeyValue::new("durable", durable.to_string())]);
            }
        });
    }

    /// The same of size limits, where there are any: the one of all edges, and those that edges have of their own.
    pub(crate) fn watch_limit(&self, max_size: Option<u64>, sessions: &Arc<Sessions>) {
        if let Some(max_size) = max_size {
            self.telemetry.observe(&MAX_SIZE, move |seen| seen(max_size, &[]));
        }
        let looked_at = Arc::downgrade(sessions);
        self.telemetry.observe_ratio(&UTILIZATION, move |seen| {
            let disks = looked_at.upgrade().map(|sessions| sessions.disks()).unwrap_or_default();
            let full =
                |disk: &Disk| Some(disk.report.used as f64 / disk.capacity.or(max_size)?.max(1) as f64);
            let fullest = disks.iter().filter_map(full).max_by(f64::total_cmp);
            if let Some(fullest) = fullest.or(max_size.map(|_| 0.0)) {
                seen(fullest, &[]);
            }
        });
    }

    /// An eviction has ended.
    pub(crate) fn evicted(&self, report: &EvictionReport, took: Duration) {
        for edge in &report.edges {
            self.evicted_files.add((), edge.files);
            self.evicted_bytes.add((), edge.bytes);
        }
        self.shortfall.set((), report.edges.iter().map(|edge| edge.shortfall).sum());
        self.run_duration.record((), took.as_secs_f64());
        // Last: who sees that a run is over sees what it did.
        self.runs.inc(report.trigger);
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
