//! What the edge tells control of what it has counted: totals since the process began, which control adds up.

use ncps_proto::{Counter, Counts, Totals};

use ncps_runtime::telemetry::Labels;

use crate::live::Current;
use crate::metrics::{EdgeMetrics, Reason, Served, Side};

/// Tells one process of an edge from another.
pub(crate) fn new_run() -> String {
    let mut random = [0; 8];
    // Without randomness a restart looks like a reset of the counts: no more than a wrong statistic.
    getrandom::fill(&mut random).ok();
    data_encoding::HEXLOWER.encode(&random)
}

/// All totals, as they are now.
pub(crate) fn totals(run: &str, metrics: &EdgeMetrics, current: &Current) -> Totals {
    let upstreams: Vec<ncps_proto::UpstreamTotals> =
        current.get().map(|live| live.upstreams.totals()).unwrap_or_default();
    let fetched = upstreams.iter().map(|upstream| upstream.bytes).sum();
    Totals {
        run: run.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        counts: counts(metrics, fetched),
        upstreams,
    }
}

fn counts(metrics: &EdgeMetrics, fetched: u64) -> Counts {
    let http = &metrics.http;
    let number = |counter| match counter {
        Counter::NarinfoHits => http.narinfos.get(Served::Hit),
        Counter::NarinfoMisses => http.narinfos.get(Served::Miss),
        Counter::NarinfoAbsent => http.narinfos.get(Served::Absent),
        Counter::NarinfoErrors => http.narinfos.get(Served::Error),
        Counter::NarHits => http.nars.get(Served::Hit),
        Counter::NarMisses => http.nars.get(Served::Miss),
        Counter::NarAbsent => http.nars.get(Served::Absent),
        Counter::NarErrors => http.nars.get(Served::Error),
        Counter::NarBytesHit => http.nar_bytes.get(Side::Here),
        Counter::NarBytesMissed => http.nar_bytes.get(Side::Upstream),
        Counter::BytesSaved => http.saved.get(()),
        Counter::BytesFetched => fetched,
        Counter::Wrong => Reason::all().into_iter().map(|reason| metrics.integrity.get(reason)).sum(),
    };
    let mut counts = Counts::default();
    Counter::ALL.iter().for_each(|counter| counts.set(*counter, number(*counter)));
    counts
}
