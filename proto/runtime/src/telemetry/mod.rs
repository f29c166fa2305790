//! What a process tells monitoring: metrics, traces and logs by OTLP, and metrics for Prometheus to fetch.
//!
//! A [`Telemetry`] is a value that is handed to the parts of a process; two of them in one process share
//! nothing. Both ways out read one meter provider, so that neither switches the other off. Knows names only
//! as entries of a dictionary ([`Metric`]); the planes write theirs. Absent: HTTP (whoever serves `/metrics`
//! asks for the text), and any telemetry that leaves unasked.

mod dictionary;
mod exporters;
mod instruments;
mod labels;
mod options;
mod stdout;
pub mod trace;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

pub use dictionary::{Kind, Metric, markdown};
pub use exporters::{Exporters, TelemetryError, start};
pub use instruments::{Counters, Gauges, Histogram, Histograms, Seen};
pub use labels::Labels;
pub use opentelemetry::KeyValue;
pub use options::{OTEL_ENABLED, OTEL_GRPC_URL, OtlpTarget, PROMETHEUS_ENABLED, TelemetryOptions};

/// The scope under which everything is reported.
pub(crate) const SCOPE: &str = "ncps";

/// The media type of what [`Telemetry::scrape`] returns.
pub const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the parts of a process put their metrics. Clones are the same one.
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<Inner>>);

struct Inner {
    /// Readers end when the last provider is dropped.
    provider: SdkMeterProvider,
    meter: Meter,
    registry: Option<Registry>,
}

impl Telemetry {
    /// Nobody is told anything; instruments cost an atomic addition at most.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// For Prometheus to fetch, and nobody else.
    ///
    /// # Errors
    /// The exporter's, which has no reason to fail.
    pub fn scraped() -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let builder = SdkMeterProvider::builder().with_reader(exporters::prometheus(&registry)?);
        Ok(Self::new(builder, Some(registry)))
    }

    fn new(builder: MeterProviderBuilder, registry: Option<Registry>) -> Self {
        let provider = builder.build();
        let meter = provider.meter(SCOPE);
        Self(Some(Arc::new(Inner { provider, meter, registry })))
    }

    /// All metrics in Prometheus' text format; `None` where Prometheus was not asked for.
    #[must_use]
    pub fn scrape(&self) -> Option<String> {
        let registry = self.0.as_ref()?.registry.as_ref()?;
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        text.inspect_err(|error| tracing::warn!(%error, "the metrics can't be written down")).ok()
    }

    fn meter(&self) -> Option<&Meter> {
        self.0.as_ref().map(|inner| &inner.meter)
    }

    fn provider(&self) -> Option<&SdkMeterProvider> {
        self.0.as_ref().map(|inner| &inner.provider)
    }
}
