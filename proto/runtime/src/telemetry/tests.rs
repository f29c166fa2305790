//! Instruments, labels, and what of them comes out.

use super::*;
use crate::label;

label! {
    /// A colour.
    enum Colour in "colour" { Red = "red", Blue = "blue" }
}

label! {
    /// A size.
    enum Size in "size" { Small = "small", Large = "large" }
}

const BALLS: Metric = Metric {
    name: "balls_total",
    kind: Kind::Counter,
    unit: "{ball}",
    labels: &["colour", "size"],
    help: "Balls.",
};
const HELD: Metric =
    Metric { name: "balls.held", kind: Kind::Gauge, unit: "{ball}", labels: &["colour"], help: "In hand." };
const WEIGHT: Metric = Metric {
    name: "ball_weight",
    kind: Kind::Histogram(&[1.0, 10.0]),
    unit: "g",
    labels: &["colour"],
    help: "Of a ball.",
};

fn lines(telemetry: &Telemetry, name: &str) -> Vec<String> {
    let text = telemetry.scrape().expect("for Prometheus");
    let ours = text.lines().filter(|line| line.starts_with(name)).map(str::to_owned);
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    ours
}

#[test]
fn indices_are_places() {
    for (place, labels) in <(Colour, Size)>::all().into_iter().enumerate() {
        assert_eq!(labels.index(), place, "{labels:?}");
    }
    assert_eq!(<(Colour, Size)>::COUNT, <(Colour, Size)>::all().len());
    assert_eq!((Colour::Blue, Size::Small).values(), ["blue", "small"]);
}

#[test]
fn every_series_is_there_before_its_first_event() {
    let telemetry = Telemetry::scraped().expect("made");
    let balls = telemetry.counters::<(Colour, Size)>(&BALLS);
    assert_eq!(lines(&telemetry, "balls_total{").len(), 4);
    balls.add((Colour::Red, Size::Large), 3);
    let line = r#"balls_total{colour="red",size="large"} 3"#.to_owned();
    assert!(lines(&telemetry, "balls_total{").contains(&line), "{:?}", telemetry.scrape());
}

#[test]
fn a_gauge_is_left_when_its_guard_is() {
    let telemetry = Telemetry::scraped().expect("made");
    let held = telemetry.gauges::<Colour>(&HELD);
    let guard = held.enter(Colour::Blue);
    assert_eq!(lines(&telemetry, "balls_held{colour=\"blue"), [r#"balls_held{colour="blue"} 1"#]);
    drop(guard);
    assert_eq!(held.get(Colour::Blue), 0);
}

#[test]
fn histograms_have_the_dictionarys_bounds() {
    let telemetry = Telemetry::scraped().expect("made");
    let weights = telemetry.histograms::<Colour>(&WEIGHT);
    weights.record(Colour::Red, 5.0);
    let expected = [
        r#"ball_weight_bucket{colour="red",le="+Inf"} 1"#,
        r#"ball_weight_bucket{colour="red",le="1"} 0"#,
        r#"ball_weight_bucket{colour="red",le="10"} 1"#,
    ];
    assert_eq!(lines(&telemetry, "ball_weight_bucket"), expected);
}

#[test]
fn two_share_nothing() {
    let (one, other) = (Telemetry::scraped().expect("made"), Telemetry::scraped().expect("made"));
    let (balls, _others) = (one.counters::<(Colour, Size)>(&BALLS), other.counters::<(Colour, Size)>(&BALLS));
    balls.inc((Colour::Red, Size::Small));
    assert!(lines(&one, "balls_total{").iter().any(|line| line.ends_with(" 1")));
    assert!(lines(&other, "balls_total{").iter().all(|line| line.ends_with(" 0")));
}

#[test]
fn off_there_is_nothing_to_fetch_and_counting_goes_on() {
    let telemetry = Telemetry::off();
    let balls = telemetry.counters::<(Colour, Size)>(&BALLS);
    telemetry.histograms::<Colour>(&WEIGHT).record(Colour::Red, 1.0);
    balls.inc((Colour::Red, Size::Small));
    assert_eq!(balls.get((Colour::Red, Size::Small)), 1);
    assert_eq!(telemetry.scrape(), None);
}
