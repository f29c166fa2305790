//! The dictionary of metrics: every name once, with its kind, unit, labels and meaning. The planes have a table
//! each; the reference for operators is written from them.
//!
//! A name is the same by OTLP and for Prometheus, except that dots become underscores there.

use std::fmt::Write;

/// What a metric's numbers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only ever grows, from 0 at the start of the process.
    Counter,
    /// What is so right now.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The name in the reference.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One entry of a dictionary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name by OTLP.
    pub name: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// In the UCUM notation of OpenTelemetry: `s`, `By`, `{request}`.
    pub unit: &'static str,
    /// The names of its labels, by OTLP.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// The name as Prometheus sees it.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        prometheus_name(self.name)
    }

    /// The labels as Prometheus sees them.
    #[must_use]
    pub fn prometheus_labels(&self) -> Vec<String> {
        self.labels.iter().map(|label| prometheus_name(label)).collect()
    }
}

fn prometheus_name(name: &str) -> String {
    name.replace('.', "_")
}

/// The rows of these tables, as Markdown.
#[must_use]
pub fn markdown(metrics: &[Metric]) -> String {
    let mut text =
        String::from("| Metric | Kind | Unit | Labels | Meaning |\n| --- | --- | --- | --- | --- |\n");
    for metric in metrics {
        let labels =
            metric.prometheus_labels().iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        let labels = if labels.is_empty() { "–".to_owned() } else { labels };
        let Metric { kind, unit, help, .. } = metric;
        let name = metric.prometheus_name();
        writeln!(text, "| `{name}` | {} | {unit} | {labels} | {help} |", kind.name())
            .expect("a string takes everything");
    }
    text
}
