//! What monitoring is told: that the numbers are those of what happened, that a trace is one from the client to the
//! upstream, and that nobody is told anything unasked.

use std::collections::BTreeSet;
use std::time::Duration;

use ncps_runtime::telemetry::Metric;
use ncps_tests::collector::{attribute, hex};
use ncps_tests::scrape::Scrape;
use ncps_tests::{
    Cluster, Collector, Cut, Fixture, Gate, Installation, Mode, Request, ReservedPort, Rule, Upstream,
    UpstreamKey, both_modes, eventually, get, in_time,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

async fn scrape(cluster: &Cluster) -> Scrape {
    Scrape::parse(&cluster.get("/metrics").await.text().await)
}

/// Waits until a number is what it should be: answers are counted when their body has ended, which the client may
/// see first.
async fn becomes(cluster: &Cluster, name: &str, labels: &[(&str, &str)], expected: f64) {
    let what = format!("{name} {labels:?} = {expected}");
    eventually(&what, async || scrape(cluster).await.get(name, labels) == Some(expected)).await;
}

both_modes! {
    async fn hit_ratios_are_those_of_what_was_asked(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("ratio").size(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).prometheus().start().await;
        let url = upstream.url().trim_end_matches('/').to_owned();

        // Everything is there before anything happened.
        let fresh = scrape(&cluster).await;
        for result in ["hit", "miss", "absent", "error"] {
            assert_eq!(fresh.get("ncps_narinfo_served_total", &[("result", result)]), Some(0.0));
            assert_eq!(fresh.get("ncps_nar_served_total", &[("result", result)]), Some(0.0));
        }
        assert_eq!(fresh.get("ncps_upstream_requests_total", &[("upstream", &url)]), Some(0.0));
        assert_eq!(fresh.get("ncps_edge_attached", &[]), Some(1.0));

        let narinfo = cluster.get(&fixture.narinfo_path()).await.whole().await;
        for _ in 0..3 {
            cluster.narinfo(&fixture).await;
        }
        assert_eq!(cluster.get("/00000000000000000000000000000000.narinfo").await.status, 404);
        let nar = cluster.get(&fixture.nar_path()).await.whole().await;
        cluster.quiet().await;
        for _ in 0..2 {
            cluster.get(&fixture.nar_path()).await.whole().await;
        }
        let part = cluster.send(Request::get(&fixture.nar_path()).range("0-99")).await.whole().await;
        assert_eq!(part.len(), 100);

        let (size, narinfo_size) = (nar.len() as f64, narinfo.len() as f64);
        becomes(&cluster, "ncps_narinfo_served_total", &[("result", "hit"), ("status", "success")], 3.0).await;
        becomes(&cluster, "ncps_narinfo_served_total", &[("result", "absent")], 1.0).await;
        becomes(&cluster, "ncps_nar_served_total", &[("result", "hit")], 3.0).await;
        // A request is over after it was counted.
        let over = async || scrape(&cluster).await.number("http_server_active_requests", &[]) == 0.0;
        eventually("all requests are over", over).await;
        let told = scrape(&cluster).await;
        assert_eq!(told.number("ncps_narinfo_served_total", &[("result", "miss")]), 1.0);
        assert_eq!(told.number("ncps_narinfo_served_bytes_total", &[("result", "hit")]), 3.0 * narinfo_size);
        assert_eq!(told.number("ncps_narinfo_served_bytes_total", &[("result", "miss")]), narinfo_size);
        assert_eq!(told.number("ncps_nar_served_total", &[("result", "miss")]), 1.0);
        assert_eq!(told.number("ncps_nar_served_bytes_total", &[("result", "miss")]), size);
        assert_eq!(told.number("ncps_nar_served_bytes_total", &[("result", "hit")]), 2.0 * size + 100.0);
        assert_eq!(told.number("ncps_nar_saved_bytes_total", &[]), 2.0 * size + 100.0);
        assert_eq!(told.number("ncps_transfers_total", &[("outcome", "committed")]), 1.0);
        assert_eq!(told.number("ncps_transfers", &[]), 0.0);
        assert_eq!(told.number("ncps_nar_file_count", &[]), 1.0);
        assert_eq!(told.number("ncps_store_total_size_bytes", &[]), size);
        assert_eq!(told.number("ncps_near_cache_narinfos", &[]), 1.0);
        assert!(told.number("ncps_disk_available_bytes", &[]) > 0.0);

        let asked = |kind, outcome| {
            told.number("ncps_upstream_requests_total", &[("upstream", &url), ("kind", kind), ("outcome", outcome)])
        };
        assert_eq!((asked("narinfo", "ok"), asked("narinfo", "absent"), asked("nar", "ok")), (1.0, 1.0, 1.0));
        assert_eq!(told.number("ncps_upstream_request_duration_seconds_count", &[("upstream", &url)]), 3.0);
        assert_eq!(told.number("ncps_upstream_nar_fetch_duration_seconds_count", &[]), 1.0);
        let fetched = size + fixture.narinfo_text().len() as f64;
        assert_eq!(told.number("ncps_upstream_fetched_bytes_total", &[]), fetched);
        assert_eq!(told.number("ncps_upstream_count_healthy", &[]), 1.0);
        assert_eq!(told.number("ncps_upstream_breaker_state", &[("upstream", &url)]), 0.0);

        let nars = [("http_route", "/nar/{file}"), ("http_request_method", "GET")];
        assert_eq!(told.number("http_server_request_duration_count", &nars), 4.0);
        assert_eq!(told.number("http_server_request_duration_count", &[("http_response_status_code", "206")]), 1.0);
        assert_eq!(told.number("ncps_time_to_first_byte_seconds_count", &nars[..1]), 4.0);
        assert_eq!(told.number("http_server_response_body_size_sum", &nars[..1]), 3.0 * size + 100.0);
        assert_eq!(told.number("http_server_active_requests", &[]), 0.0, "fetching metrics is none");

        let control = Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for"));
        assert_eq!(control.number("ncps_publications_total", &[("outcome", "stored")]), 1.0);
        assert_eq!(control.number("ncps_absences_total", &[]), 1.0);
        assert_eq!(control.number("ncps_narinfo_count", &[]), 1.0);
        assert_eq!(control.number("ncps_edges", &[]), 1.0);
        eventually("its row is written", async || {
            let control = Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for"));
            control.number("ncps_index_waiting", &[]) == 0.0
                && control.number("ncps_index_batches_total", &[("outcome", "written")]) >= 1.0
        })
        .await;
        cluster.end().await;
    }

    async fn what_goes_wrong_is_counted_with_its_reason(mode) {
        let key = UpstreamKey::new("upstream-1");
        let [wrong, cut, untrusted] = ["wrong", "cut", "untrusted"].map(|name| {
            let key = if name == "untrusted" { &UpstreamKey::new("nobody-1") } else { &key };
            Fixture::new(name).size(400_000).build(key)
        });
        let upstream = Upstream::with(&[&wrong, &cut, &untrusted]).await;
        upstream.script(Rule::on(&wrong.nar_path()).flip(1000));
        upstream.script(Rule::on(&cut.nar_path()).ranged(false).cut_after(200_000, Cut::Fin));
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).prometheus().start().await;

        cluster.narinfo(&wrong).await;
        cluster.fetch(&wrong.nar_path()).await;
        cluster.narinfo(&cut).await;
        assert_eq!(cluster.fetch(&cut.nar_path()).await.1.whole(), cut.file.to_bytes());
        assert_eq!(cluster.get(&untrusted.narinfo_path()).await.status, 502);
        cluster.quiet().await;
        becomes(&cluster, "ncps_nar_served_total", &[("result", "error"), ("status", "error")], 1.0).await;
        becomes(&cluster, "ncps_narinfo_served_total", &[("result", "error")], 1.0).await;
        let told = scrape(&cluster).await;
        assert_eq!(told.number("ncps_integrity_failures_total", &[("reason", "file_hash")]), 1.0);
        assert_eq!(told.number("ncps_integrity_failures_total", &[("reason", "narinfo_untrusted")]), 1.0);
        assert_eq!(told.number("ncps_transfers_total", &[("outcome", "failed")]), 1.0);
        assert_eq!(told.number("ncps_transfers_resumed_total", &[]), 1.0);

        upstream.down().await;
        for n in 0..3 {
            cluster.get(&format!("/{n:032}.narinfo")).await;
        }
        let open = async || scrape(&cluster).await.number("ncps_upstream_breaker_state", &[]) > 0.0;
        eventually("the breaker opens", open).await;
        let told = scrape(&cluster).await;
        assert_eq!(told.number("ncps_upstream_count_healthy", &[]), 0.0);
        assert_eq!(told.number("ncps_upstream_count_total", &[]), 1.0);
        assert!(told.number("ncps_upstream_requests_total", &[("outcome", "error")]) >= 3.0);
        cluster.end().await;
    }

    async fn who_joins_a_transfer_saves_bytes(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("shared").size(500_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(200_000, &gate));
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).prometheus().start().await;
        cluster.narinfo(&fixture).await;

        let first = cluster.get(&fixture.nar_path()).await;
        let fetching = async || scrape(&cluster).await.number("ncps_transfers", &[("stage", "fetching")]) == 1.0;
        eventually("a transfer in flight", fetching).await;
        let second = cluster.get(&fixture.nar_path()).await;
        gate.open();
        let mut size = 0;
        for mut response in [first, second] {
            size = response.whole().await.len();
        }
        cluster.quiet().await;
        becomes(&cluster, "ncps_nar_served_total", &[("result", "miss")], 2.0).await;
        let told = scrape(&cluster).await;
        assert_eq!(told.number("ncps_transfers_started_total", &[]), 1.0);
        assert_eq!(told.number("ncps_transfers_coalesced_total", &[]), 1.0);
        assert_eq!(told.number("ncps_nar_saved_bytes_total", &[]), size as f64);
        cluster.end().await;
    }

    async fn the_dictionary_is_what_comes_out(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("dictionary").size(100_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).prometheus();
        let cluster = cluster.settings(|s| s.max_size = Some(1 << 30)).eviction_schedule("@every 1s").start().await;
        cluster.narinfo(&fixture).await;
        cluster.get(&fixture.nar_path()).await.whole().await;
        cluster.quiet().await;
        becomes(&cluster, "ncps_nar_served_total", &[("result", "miss")], 1.0).await;
        eventually("a batch is written and an eviction has run", async || {
            let control = Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for"));
            let histograms = ["ncps_index_batch_duration_seconds_count", "ncps_lru_cleanup_duration_seconds_count"];
            histograms.iter().all(|name| control.get(name, &[]).is_some())
        })
        .await;

        let edge = scrape(&cluster).await;
        let control = Scrape::parse(&cluster.control_telemetry.scrape().expect("asked for"));
        let both = [ncps_edge::metrics::METRICS, ncps_control::metrics::METRICS].concat();
        match mode {
            Mode::Combined => agree(&both, &edge),
            Mode::Split => {
                agree(ncps_edge::metrics::METRICS, &edge);
                agree(ncps_control::metrics::METRICS, &control);
            }
        }
        cluster.end().await;
    }

    async fn off_there_is_nothing_to_fetch(mode) {
        let cluster = Cluster::builder(mode).start().await;
        assert_eq!(cluster.get("/metrics").await.status, 404);
        assert_eq!(cluster.control_telemetry.scrape(), None);
        cluster.end().await;
    }

    async fn two_clusters_share_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("alone").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let builder = || Cluster::builder(mode).upstream(&upstream).trust(&key).prometheus();
        let (one, other) = (builder().start().await, builder().start().await);
        one.narinfo(&fixture).await;
        becomes(&one, "ncps_narinfo_served_total", &[("result", "miss")], 1.0).await;
        let told = scrape(&other).await;
        assert_eq!(told.number("ncps_narinfo_served_total", &[]), 0.0);
        assert_eq!(told.number("ncps_upstream_requests_total", &[]), 0.0);
        one.end().await;
        other.end().await;
    }

    async fn a_request_is_one_trace_from_the_client_to_the_upstream(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("traced").size(200_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let collector = Collector::start().await;
        let mut ncps = installation(mode, &upstream, &key)
            .flag("--otel-enabled")
            .flag(format!("--otel-grpc-url={}", collector.url()))
            .flag("--prometheus-enabled")
            .flag("--log-format=json")
            .started()
            .await;

        let traces = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"];
        for (trace, path) in traces.iter().zip([fixture.narinfo_path(), fixture.nar_path()]) {
            let mut response = traced(&path, trace).send(ncps.addr()).await.expect("answered");
            assert_eq!(response.status, 200);
            response.whole().await;
        }
        ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;

        // Prometheus is told beside.
        let told = Scrape::parse(&ncps.get("/metrics").await.text().await);
        assert_eq!(told.number("ncps_narinfo_served_total", &[("result", "miss")]), 1.0);
        // What was not sent yet is sent at the end.
        ncps.terminate().await;
        let hits = collector.number("ncps_narinfo_served_total", &[("result", "miss")]);
        assert_eq!(hits, Some(1), "{:?}", collector.metric_names());
        assert_eq!(collector.number("ncps_publications_total", &[("outcome", "stored")]), Some(1));

        for (trace, [path, work, call]) in traces.iter().zip([
            ["GET /{hash}.narinfo", "lookup", "publish_narinfo"],
            ["GET /nar/{file}", "transfer", "commit_nar"],
        ]) {
            let spans = collector.spans_of(trace);
            let named = |name: &str| {
                let found = spans.iter().find(|(_, span)| span.name == name);
                found.unwrap_or_else(|| panic!("no span {name:?}: {:?}", names(&spans)))
            };
            let (_, request) = named(path);
            assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
            assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("200"));
            let (_, work) = named(work);
            assert_eq!(work.parent_span_id, request.span_id);
            let (_, asked) = named("ask upstream");
            assert_eq!(asked.parent_span_id, work.span_id);
            let (service, answered) = named(&format!("control {call}"));
            assert_eq!(service, if mode == Mode::Combined { "ncps" } else { "ncps-control" });
            let calls = spans.iter().filter(|(_, span)| span.name == "call control");
            assert_eq!(calls.filter(|(_, call)| call.span_id == answered.parent_span_id).count(), 1);
            // The upstream was told, and the log lines know.
            let seen = upstream.requests().iter().any(|seen| {
                let parent = format!("00-{trace}-{}-01", hex(&asked.span_id));
                seen.headers.get("traceparent") == Some(&parent)
            });
            assert!(seen, "the trace goes on upstream");
            assert!(collector.logged_for(trace).contains(&"request".to_owned()));
            let line = ncps.edge().lines().into_iter().find(|line| line.contains(trace)).expect("a line");
            let line: serde_json::Value = serde_json::from_str(&line).expect("an object");
            assert_eq!(line["trace_id"], *trace);
        }
    }

    async fn nothing_is_sent_unasked(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("quiet").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let collector = Collector::start().await;
        // A URL alone asks for nothing.
        let url = format!("--otel-grpc-url={}", collector.url());
        let mut ncps = installation(mode, &upstream, &key).flag(url).started().await;
        let request = traced(&fixture.narinfo_path(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(request.send(ncps.addr()).await.expect("answered").status, 200);
        assert_eq!(ncps.get("/metrics").await.status, 404);
        ncps.terminate().await;
        assert!(collector.is_empty());
        assert!(upstream.requests().iter().all(|seen| !seen.headers.has("traceparent")));
    }

    async fn without_a_url_everything_is_written_down(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::with(&[]).await;
        let mut ncps = installation(mode, &upstream, &key).flag("--otel-enabled").started().await;
        assert_eq!(ncps.get("/00000000000000000000000000000000.narinfo").await.status, 404);
        ncps.terminate().await;
        let lines = ncps.edge().lines();
        for (kind, content) in [
            ("resourceSpans", "GET /{hash}.narinfo"),
            ("resourceMetrics", "ncps_narinfo_served_total"),
            ("resourceLogs", "attached to control"),
        ] {
            let objects = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let found = objects.filter(|object| !object[kind].is_null()).any(|o| o.to_string().contains(content));
            assert!(found, "no {kind} with {content:?}");
        }
    }

    async fn a_collector_that_is_away_does_not_keep_it_from_serving_or_ending(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::with(&[]).await;
        let nobody = ReservedPort::new();
        let mut ncps = installation(mode, &upstream, &key)
            .flag("--otel-enabled")
            .flag(format!("--otel-grpc-url=http://{}", nobody.addr()))
            .started()
            .await;
        assert_eq!(ncps.get("/nix-cache-info").await.status, 200);
        let started = std::time::Instant::now();
        ncps.terminate().await;
        assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    }

    async fn control_answers_at_a_port_of_its_own(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::with(&[]).await;
        let port = ReservedPort::new();
        let mut ncps = installation(mode, &upstream, &key)
            .control_flag(format!("--control-http-addr={}", port.addr()))
            .flag("--prometheus-enabled")
            .started()
            .await;
        ncps.control().answers(port.addr(), "/readyz").await;
        assert_eq!(get(port.addr(), "/healthz").await.expect("answers").text().await, ".");
        let told = get(port.addr(), "/metrics").await.expect("answers").text().await;
        assert_eq!(Scrape::parse(&told).get("ncps_narinfo_count", &[]), Some(0.0));
        assert_eq!(get(port.addr(), "/else").await.expect("answers").status, 404);
        let put = Request::put("/metrics", Vec::new()).send(port.addr()).await.expect("answers");
        assert_eq!(put.status, 405);
        ncps.terminate().await;
    }
}

/// A request whose trace is known.
fn traced(path: &str, trace: &str) -> Request {
    Request::get(path).header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_transfer_is_linked_to_it() {
    let key = UpstreamKey::new("upstream-1");
    let fixture = Fixture::new("linked").size(500_000).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    let gate = Gate::new();
    upstream.script(Rule::on("/nar/*").pause_at(200_000, &gate));
    let collector = Collector::start().await;
    let mut ncps = installation(Mode::Combined, &upstream, &key)
        .flag("--otel-enabled")
        .flag(format!("--otel-grpc-url={}", collector.url()))
        .started()
        .await;
    assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200);
    let [first, second] = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"];
    let mut beginner = traced(&fixture.nar_path(), first).send(ncps.addr()).await.expect("answered");
    let mut joiner = traced(&fixture.nar_path(), second).send(ncps.addr()).await.expect("answered");
    gate.open();
    assert_eq!(beginner.whole().await, joiner.whole().await);
    ncps.terminate().await;

    let spans = collector.spans_of(first);
    let (_, transfer) = spans.iter().find(|(_, span)| span.name == "transfer").expect("the transfer's span");
    let spans = collector.spans_of(second);
    let [(_, joined)] = &spans[..] else { panic!("the request alone: {:?}", names(&spans)) };
    let [link] = &joined.links[..] else { panic!("one link: {joined:?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&transfer.trace_id, &transfer.span_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_scheme_the_collector_is_spoken_to_over_tls() {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::with(&[]).await;
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = collector.local_addr().expect("bound");
    let mut ncps = installation(Mode::Combined, &upstream, &key)
        .flag("--otel-enabled")
        .flag(format!("--otel-grpc-url={addr}"))
        .started()
        .await;
    let (mut stream, _) =
        in_time("a connection to the collector", collector.accept()).await.expect("accepted");
    let mut record = [0; 2];
    in_time("its first bytes", stream.read_exact(&mut record)).await.expect("they come");
    // A handshake of TLS (RFC 8446, 5.1).
    assert_eq!(record, [22, 3]);
    drop((stream, collector));
    ncps.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_edge_controls_port_may_be_taken() {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::with(&[]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("bound");
    let flag = format!("--control-http-addr={addr}");
    let mut ncps = installation(Mode::Combined, &upstream, &key).control_flag(flag).started().await;
    ncps.edge().line_with("going on without control's HTTP port").await;
    ncps.terminate().await;
}

fn installation(mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> Installation {
    Installation::of(mode, env!("CARGO_BIN_EXE_under_test"), upstream, key)
}

fn names(spans: &[(String, impl std::fmt::Debug)]) -> BTreeSet<String> {
    spans.iter().map(|(service, span)| format!("{service}: {span:?}")).collect()
}

/// Every metric of the dictionary is there, of its kind and with its labels, and no other.
fn agree(dictionary: &[Metric], scrape: &Scrape) {
    let labels = scrape.labels();
    for metric in dictionary {
        let name = metric.prometheus_name();
        assert_eq!(scrape.kinds.get(&name).map(String::as_str), Some(metric.kind.name()), "{name}");
        let expected: BTreeSet<_> = metric.prometheus_labels().into_iter().collect();
        assert_eq!(labels[&name], expected, "{name}");
    }
    let known: BTreeSet<_> = dictionary.iter().map(Metric::prometheus_name).collect();
    let unknown: Vec<_> = scrape.kinds.keys().filter(|name| !known.contains(*name)).collect();
    assert_eq!(unknown, ["target_info"], "the process' name and version come beside");
}
