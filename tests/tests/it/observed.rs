//! What an operator sees while clients are served: a collector gets logs, metrics and traces joined by one trace, and
//! Prometheus, which scrapes all the while, the hit ratios of what really happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ncps_tests::scrape::Scrape;
use ncps_tests::{
    Collector, Fixture, Installation, Request, Upstream, UpstreamKey, both_modes, eventually, get,
};

use crate::processes::UNDER_TEST;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const BOTH: [&str; 2] = ["ncps_narinfo_served_total", "ncps_nar_served_total"];
/// Of each kind; the first request of each path is the miss.
const PATHS: usize = 3;
const ROUNDS: usize = 4;

fn hits_and_misses(told: &Scrape, metric: &str) -> (f64, f64) {
    let number = |result| told.number(metric, &[("result", result)]);
    (number("hit"), number("miss"))
}

both_modes! {
    async fn collector_and_prometheus_see_what_happened(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures: Vec<_> =
            (0..PATHS as u64).map(|n| Fixture::new("seen").seed(n).size(100_000).build(&key)).collect();
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let collector = Collector::start().await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
            .flag("--otel-enabled")
            .flag(format!("--otel-grpc-url={}", collector.url()))
            .flag("--prometheus-enabled")
            .started()
            .await;
        let (addr, over) = (ncps.addr(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&over);
        let prometheus = tokio::spawn(async move {
            let mut scrapes = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut told = get(addr, "/metrics").await.expect("answered");
                Scrape::parse(&told.text().await);
                scrapes += 1;
            }
            scrapes
        });

        let ask = async |path: String| {
            let request = Request::get(&path).header("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01"));
            let mut told = request.send(addr).await.expect("answered");
            assert_eq!(told.status, 200, "{path}");
            told.whole().await;
        };
        for _ in 0..ROUNDS {
            for fixture in &fixtures {
                ask(fixture.narinfo_path()).await;
                ask(fixture.nar_path()).await;
                ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
            }
        }
        let expected = ((PATHS * (ROUNDS - 1)) as f64, PATHS as f64);
        for metric in BOTH {
            // An answer counts when its body has ended, which its client may see first.
            let what = format!("{metric} = {expected:?}");
            eventually(&what, async || {
                let told = get(addr, "/metrics").await.expect("answered").text().await;
                hits_and_misses(&Scrape::parse(&told), metric) == expected
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
        assert!(prometheus.await.expect("every scrape parses") > 0);

        // What was not sent yet is sent at the end.
        ncps.terminate().await;
        for metric in BOTH {
            let number = |result| collector.number(metric, &[("result", result)]).expect("it came") as f64;
            assert_eq!((number("hit"), number("miss")), expected, "{metric} by OTLP");
        }
        let spans = collector.spans_of(TRACE);
        let named = |name: &str| spans.iter().filter(|(_, span)| span.name == name).count();
        for (name, count) in [
            ("GET /{hash}.narinfo", PATHS * ROUNDS),
            ("GET /nar/{file}", PATHS * ROUNDS),
            ("lookup", PATHS),
            ("transfer", PATHS),
        ] {
            assert_eq!(named(name), count, "{name}");
        }
        let logged = collector.logged_for(TRACE);
        let requests = logged.iter().filter(|message| *message == "request").count();
        assert_eq!(requests, 2 * PATHS * ROUNDS, "each has its log line: {logged:?}");
        assert!(logged.contains(&"stored a NAR".to_owned()), "and so has the work for them: {logged:?}");
    }
}
