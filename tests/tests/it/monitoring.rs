//! The dashboard and the alert rules of `k8s/`: that every expression in them is about what a real process tells, by a
//! real Prometheus that scrapes it; and that alerts fire when they are to. Without Prometheus only their names are
//! looked at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use ncps_runtime::telemetry::{Kind, Metric};
use ncps_tests::prometheus::{self, Prometheus};
use ncps_tests::{
    Cut, Fixture, Installation, Mode, ReservedPort, Rule, Upstream, UpstreamKey, both_modes, eventually,
    manifest,
};
use serde_json::Value;

use crate::processes::UNDER_TEST;

/// Where Prometheus looks for rules.
fn alerts() -> PathBuf {
    manifest::folder().join("monitoring/alerts.yaml")
}

fn alert_rules() -> Vec<Value> {
    manifest::objects(&alerts())[0]["groups"][0]["rules"].as_array().expect("rules").clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Every expression of the dashboard, with Grafana's variables as they are for everything in the last minute.
fn panels() -> Vec<String> {
    let file = std::fs::read_to_string(manifest::folder().join("grafana/ncps.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&file).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| filled(&text(&target["expr"]))).collect()
}

fn filled(expression: &str) -> String {
    let all = [("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "1m"), ("$__range", "1m")];
    let filled = all.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!filled.contains('$'), "an unknown variable in {expression}");
    filled
}

fn expressions() -> Vec<String> {
    let alerts = alert_rules().into_iter().map(|rule| text(&rule["expr"]));
    panels().into_iter().chain(alerts).collect()
}

/// The metrics of an expression, each with what it is asked for.
fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if name == "up" || name.starts_with("ncps_") || name.starts_with("http_server_") {
            let labels = rest.starts_with('{').then(|| &rest[..=rest.find('}').expect("closed")]);
            found.push(format!("{name}{}", labels.unwrap_or_default()));
        }
        if rest.starts_with('{') {
            // What stands in braces is labels, which may be called as anything.
            rest = &rest[rest.find('}').expect("closed")..];
        }
    }
    found
}

fn name_of(selector: &str) -> &str {
    selector.split('{').next().expect("a name")
}

/// The names that Prometheus sees.
fn known() -> BTreeSet<String> {
    let metrics = [ncps_edge::metrics::METRICS, ncps_control::metrics::METRICS].concat();
    metrics.iter().flat_map(series).chain(["up".to_owned()]).collect()
}

fn series(metric: &Metric) -> Vec<String> {
    let name = metric.prometheus_name();
    match metric.kind {
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name],
    }
}

#[test]
fn selectors_are_found() {
    let expression =
        r#"sum by (le, ncps_x) (rate(up{a="ncps_b", c=~"1|2"}[1m])) / http_server_d > 0 and ncps_e"#;
    assert_eq!(selectors(expression)[1..], [r#"up{a="ncps_b", c=~"1|2"}"#, "http_server_d", "ncps_e"]);
}

#[test]
fn every_name_is_one_of_the_dictionary() {
    let known = known();
    for expression in expressions() {
        let selectors = selectors(&expression);
        assert!(!selectors.is_empty(), "{expression}");
        for selector in selectors {
            assert!(known.contains(name_of(&selector)), "{selector} in {expression}");
        }
    }
}

#[test]
fn every_alert_has_its_cases() {
    let cases = &manifest::objects(&manifest::folder().join("monitoring/alerts.test.yaml"))[0]["tests"];
    let expected = |case: &Value, alert: &Value| {
        let asked = case["alert_rule_test"].as_array().expect("asked");
        let about = asked.iter().find(|test| &test["alertname"] == alert);
        about.map(|test| test["exp_alerts"].as_array().map_or(0, Vec::len))
    };
    for rule in alert_rules() {
        let alert = &rule["alert"];
        assert_eq!(expected(&cases[0], alert), Some(0), "{alert} where all is well");
        assert_eq!(expected(&cases[1], alert), Some(1), "{alert} where everything is wrong");
    }
}

fn promtool(args: &[&str]) {
    let mut command = Command::new("promtool");
    let output =
        command.args(args).current_dir(manifest::folder().join("monitoring")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

#[test]
fn alerts_fire_when_they_are_to() {
    if prometheus::is_there() {
        promtool(&["check", "rules", "--lint-fatal", "alerts.yaml"]);
        promtool(&["test", "rules", "alerts.test.yaml"]);
    }
}

/// An installation that something of everything happened to, and a NAR that nobody asked for yet.
async fn busy(mode: Mode, control_http: &ReservedPort) -> (Installation, Upstream, Fixture) {
    let key = UpstreamKey::new("upstream-1");
    let [good, cut, wrong, later] =
        ["good", "cut", "wrong", "later"].map(|name| Fixture::new(name).size(200_000).build(&key));
    let upstream = Upstream::with(&[&good, &cut, &wrong, &later]).await;
    upstream.script(Rule::on(&cut.nar_path()).ranged(false).cut_after(100_000, Cut::Fin));
    upstream.script(Rule::on(&wrong.nar_path()).flip(1000));
    let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
        .flag("--prometheus-enabled")
        .control_flag("--cache-max-size=1G")
        .control_flag("--cache-lru-schedule=@every 1s")
        .control_flag(format!("--control-http-addr={}", control_http.addr()))
        .started()
        .await;
    for fixture in [&good, &cut, &wrong] {
        is_asked_for(&ncps, fixture).await;
    }
    (ncps, upstream, later)
}

/// Its narinfo and its NAR twice: a miss and a hit of each.
async fn is_asked_for(ncps: &Installation, fixture: &Fixture) {
    for _ in 0..2 {
        ncps.fetch(&fixture.narinfo_path()).await;
        ncps.fetch(&fixture.nar_path()).await;
    }
}

/// Rates need two scrapes, and what was counted before the first one is no increase.
async fn has_scraped(prometheus: &Prometheus) {
    eventually("a few scrapes", async || {
        let scrapes = prometheus.query("min(count_over_time(up[1m])) > 3").await.expect("a query");
        !scrapes.is_empty()
    })
    .await;
}

/// Whether something in a result is a number: a quotient of nothing is none.
fn has_a_number(result: &[Value]) -> bool {
    result.iter().any(|series| series["value"][1] != "NaN")
}

both_modes! {
    async fn every_expression_is_about_what_a_real_process_tells(mode) {
        if !prometheus::is_there() {
            return;
        }
        let control_http = ReservedPort::new();
        let (mut ncps, _upstream, later) = busy(mode, &control_http).await;
        let mut jobs = vec![("ncps", vec![ncps.addr()])];
        if mode == Mode::Split {
            jobs.push(("ncps-control", vec![control_http.addr()]));
        }
        let prometheus = Prometheus::start(&jobs, &alerts()).await;
        has_scraped(&prometheus).await;
        is_asked_for(&ncps, &later).await;
        for expression in panels() {
            let what = format!("a number for {expression}");
            eventually(&what, async || has_a_number(&prometheus.query(&expression).await.expect(&what))).await;
        }
        for expression in expressions() {
            prometheus.query(&expression).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
            for selector in selectors(&expression) {
                let series = prometheus.query(&selector).await.expect("a selector");
                assert!(!series.is_empty(), "nothing is told of {selector} in {expression}");
            }
        }
        for rule in prometheus.rules().await {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
        ncps.terminate().await;
    }
}
