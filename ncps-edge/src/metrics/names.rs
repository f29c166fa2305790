//! The edge's part of the dictionary of metrics. Names of the original where they mean the same.

use ncps_runtime::telemetry::{Kind, Metric};

/// Seconds, from a narinfo out of memory to a large NAR over a slow line.
const SECONDS: Kind = Kind::Histogram(&[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
]);
/// Bytes, from a narinfo to the largest NARs.
const BYTES: Kind = Kind::Histogram(&[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10]);

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:expr, $unit:literal, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $const: Metric =
            Metric { name: $name, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };)+

        /// Every metric of the edge.
        pub const METRICS: &[Metric] = &[$($const),+];
    };
}

metrics! {
    HTTP_DURATION = "http.server.request.duration", SECONDS, "s",
        ["http.route", "http.request.method", "http.response.status_code"],
        "From a request's head to the end of its answer's body. Probes and `/metrics` don't count.";
    HTTP_ACTIVE = "http.server.active_requests", Kind::Gauge, "{request}", ["http.route"],
        "Requests whose answer has not ended.";
    HTTP_BODY_SIZE = "http.server.response.body.size", BYTES, "By", ["http.route"],
        "Bytes of an answer's body that were sent.";
    FIRST_BYTE = "ncps_time_to_first_byte_seconds", SECONDS, "s", ["http.route"],
        "From a request's head to the first byte of its answer's body, or to its head where it has no body.";

    NARINFO_SERVED = "ncps_narinfo_served_total", Kind::Counter, "{request}", ["result", "status"],
        "Requests for narinfos. `hit`: from memory, disk or index; `miss`: an upstream had to be asked; `absent`: 404.";
    NARINFO_BYTES = "ncps_narinfo_served_bytes_total", Kind::Counter, "By", ["result"],
        "Bytes of narinfos sent.";
    NAR_SERVED = "ncps_nar_served_total", Kind::Counter, "{request}", ["result", "status"],
        "GET requests for NARs. `hit`: it was in the store; `miss`: it was being fetched; `error`: refused or cut.";
    NAR_BYTES = "ncps_nar_served_bytes_total", Kind::Counter, "By", ["result"], "Bytes of NARs sent.";
    NAR_SAVED = "ncps_nar_saved_bytes_total", Kind::Counter, "By", [],
        "Bytes of NARs sent that no upstream had to send for it: from the store, or a share of another's transfer.";

    PEER_SERVED = "ncps_peer_served_total", Kind::Counter, "{request}", ["result", "status"],
        "GET requests for NARs by other edges, which count as none of clients. `hit`: it was in the store; `miss`: it was \
         being fetched; `absent`: neither.";
    PEER_BYTES = "ncps_peer_served_bytes_total", Kind::Counter, "By", ["result"], "Bytes of NARs sent to other edges.";
    PEER_REQUESTS = "ncps_peer_requests_total", Kind::Counter, "{request}", ["outcome"],
        "Requests for NARs to other edges, before an upstream is asked. Outcomes as of upstreams.";
    PEER_FETCHED = "ncps_peer_fetched_bytes_total", Kind::Counter, "By", [],
        "Bytes of NARs that came from other edges, and not from upstreams.";

    UPSTREAM_REQUESTS = "ncps_upstream_requests_total", Kind::Counter, "{request}",
        ["upstream", "kind", "outcome"],
        "Requests to an upstream. `status`: one that says nothing; `invalid`: an answer that can't be used or trusted.";
    UPSTREAM_LATENCY = "ncps_upstream_request_duration_seconds", SECONDS, "s", ["upstream"],
        "From a request to an upstream to the head of its answer, or to giving up.";
    UPSTREAM_NARINFO = "ncps_upstream_narinfo_fetch_duration_seconds", SECONDS, "s", ["upstream"],
        "From a request for a narinfo to its end, proof included.";
    UPSTREAM_NAR = "ncps_upstream_nar_fetch_duration_seconds", SECONDS, "s", ["upstream"],
        "From a request for a NAR to the end of its body, whole or not.";
    UPSTREAM_BYTES = "ncps_upstream_fetched_bytes_total", Kind::Counter, "By", ["upstream"],
        "Bytes of bodies that came from an upstream.";
    UPSTREAM_BREAKER = "ncps_upstream_breaker_state", Kind::Gauge, "1", ["upstream"],
        "0: asked as usual; 1: left alone after failures, or because it asked for a pause; 2: given up, so that absences are stated without it.";
    UPSTREAM_COUNT = "ncps_upstream_count_total", Kind::Gauge, "{upstream}", [], "Configured upstreams.";
    UPSTREAM_HEALTHY = "ncps_upstream_count_healthy", Kind::Gauge, "{upstream}", [],
        "Upstreams whose breaker is closed.";

    TRANSFERS = "ncps_transfers", Kind::Gauge, "{transfer}", ["stage"],
        "NAR files on their way in: `waiting` for their turn, or `fetching`.";
    TRANSFERS_STARTED = "ncps_transfers_started_total", Kind::Counter, "{transfer}", [], "Transfers begun.";
    TRANSFERS_COALESCED = "ncps_transfers_coalesced_total", Kind::Counter, "{request}", [],
        "Requests that shared a running transfer.";
    TRANSFERS_RESUMED = "ncps_transfers_resumed_total", Kind::Counter, "{resumption}", [],
        "Downloads that broke and went on, at the same source or the next.";
    TRANSFERS_ENDED = "ncps_transfers_total", Kind::Counter, "{transfer}", ["outcome"],
        "Transfers ended. `found`: the file was in the store by then; `not_kept`: served, but the store has no room; \
         `overflowed`: the disk took no more midway; `absent`: no source has it.";
    PASSED = "ncps_nar_passed_through_total", Kind::Counter, "{request}", [],
        "Requests for NARs that went on without the disk, each from a source of its own.";
    DECODERS = "ncps_decoders_busy", Kind::Gauge, "{decoder}", [], "Decoders that keep a core busy.";
    SPOOL = "ncps_spool_reserved_bytes", Kind::Gauge, "By", [], "Disk reserved by running downloads.";

    LOOKED_AHEAD = "ncps_looked_ahead_total", Kind::Counter, "{request}", ["what"],
        "Narinfos that were looked up, and NARs that were fetched, before a client asked for them.";

    TRANSCODED = "ncps_transcoded_files_total", Kind::Counter, "{file}", ["outcome"],
        "Stored NAR files that became zstd, or should have. `no_gain`: an uncompressed one that would not get smaller; \
         `not_kept`: there was no room; `failed`: tried again when it is read again.";
    TRANSCODED_BYTES = "ncps_transcoded_bytes_total", Kind::Counter, "By", ["size"],
        "Bytes of the files that became zstd, before and after.";
    TRANSCODE_SAVED = "ncps_transcode_saved_bytes_total", Kind::Counter, "By", [],
        "Bytes that those of them got smaller which did: mostly those that came uncompressed.";
    TRANSCODE_CPU = "ncps_transcode_cpu_milliseconds_total", Kind::Counter, "ms", [],
        "What transcoding took of the processor.";
    TRANSCODES = "ncps_transcodes_waiting", Kind::Gauge, "{file}", [], "Stored NAR files that wait to be looked at.";

    NEAR_NARINFOS = "ncps_near_cache_narinfos", Kind::Gauge, "{narinfo}", [], "Narinfos in memory.";
    NEAR_BYTES = "ncps_near_cache_bytes", Kind::Gauge, "By", [], "Memory that they take.";
    STORE_FILES = "ncps_nar_file_count", Kind::Gauge, "{file}", [], "NAR files in the store.";
    STORE_BYTES = "ncps_store_total_size_bytes", Kind::Gauge, "By", [], "Bytes of NAR files in the store.";
    DISK_FREE = "ncps_disk_available_bytes", Kind::Gauge, "By", [],
        "Bytes that can still be written to the disk of the store.";
    DISK_MIN_FREE = "ncps_disk_min_free_bytes", Kind::Gauge, "By", [],
        "Bytes that are to stay free there: `--cache-min-free`. Not there before control said it.";

    INTEGRITY = "ncps_integrity_failures_total", Kind::Counter, "{failure}", ["reason"],
        "What came from upstreams and other edges and proved wrong. `file_hash_corrected`: only the narinfo was wrong.";
    SCRUBBED = "ncps_scrubbed_files_total", Kind::Counter, "{file}", [],
        "Stored NAR files that a scrub compared with their names.";
    SCRUBBED_BYTES = "ncps_scrubbed_bytes_total", Kind::Counter, "By", [], "Bytes that it read for that.";
    QUARANTINED = "ncps_quarantined_files_total", Kind::Counter, "{file}", ["reason"],
        "Stored NAR files that were put into quarantine. `unreadable`: the disk does not give their bytes.";
    HEALED = "ncps_healed_files_total", Kind::Counter, "{file}", ["outcome"],
        "What became of files from quarantine that a scrub fetched again. `lost`: no source has it.";
    ATTACHED = "ncps_edge_attached", Kind::Gauge, "1", [], "Whether the edge has a session with control.";
    CONTROL_AWAY = "ncps_control_away", Kind::Gauge, "1", [],
        "Whether control is left alone because it does not answer.";
    CONTROL_CALLS = "ncps_control_calls_total", Kind::Counter, "{call}", ["outcome"],
        "Calls to control. `not_made`: it is known to be away.";
    UPSTREAM_SIGNED = "ncps_narinfo_upstream_signed_total", Kind::Counter, "{request}", [],
        "Requests for narinfos that were answered with the upstreams' signatures alone, since control was away.";
    UNTOLD = "ncps_control_untold_commits", Kind::Gauge, "{file}", [],
        "NAR files in the store of which control could not be told yet.";
}
