//! The ways out of a process: providers made from the options, the layers that feed them, and their end.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
};
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::{Layer, Registry as Spans};

use super::stdout::{LogLines, MetricLines, SpanLines};
use super::{OtlpTarget, SCOPE, Telemetry, TelemetryOptions, trace};
use crate::logs::{BoxedLayer, LogFilter};

/// How long each kind may take to leave at the end.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// What the exporters themselves do: reporting that would go round in a circle.
const OWN: [&str; 6] = ["h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry"];

/// Why telemetry can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The URL of the collector can't be used.
    #[error("telemetry can't be sent there (--otel-grpc-url)")]
    Otlp(#[from] ExporterBuildError),
    /// The exporter for Prometheus.
    #[error("metrics for Prometheus")]
    Prometheus(#[from] OTelSdkError),
}

/// What leaves the process beside metrics, and the end of all of it.
#[derive(Default)]
pub struct Exporters {
    telemetry: Telemetry,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

/// Makes what the options ask for. Call it inside a runtime that lives until [`Exporters::finish`] is over;
/// `service` is what the process is called there.
///
/// # Errors
/// See [`TelemetryError`]. That nobody answers at the URL is none: the collector may come later.
pub fn start(
    options: &TelemetryOptions,
    service: &'static str,
) -> Result<(Telemetry, Exporters), TelemetryError> {
    let TelemetryOptions { otlp, prometheus } = options;
    let resource = resource(service);
    let telemetry = metrics(otlp.as_ref(), *prometheus, &resource)?;
    let (traces, logs) = match otlp {
        Some(target) => (Some(traces(target, resource.clone())?), Some(logs(target, resource)?)),
        None => (None, None),
    };
    Ok((telemetry.clone(), Exporters { telemetry, traces, logs }))
}

/// Who reports: what the standard variables say, and else the program.
fn resource(service: &'static str) -> Resource {
    let found = Resource::builder().build();
    let named =
        found.get(&"service.name".into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new("host.name", crate::paths::hostname()));
    if named { builder.build() } else { builder.with_service_name(service).build() }
}

fn metrics(
    otlp: Option<&OtlpTarget>,
    prometheus: bool,
    resource: &Resource,
) -> Result<Telemetry, TelemetryError> {
    if otlp.is_none() && !prometheus {
        return Ok(Telemetry::off());
    }
    let mut builder = SdkMeterProvider::builder().with_resource(resource.clone());
    if let Some(target) = otlp {
        builder = pushed(builder, target)?;
    }
    let registry = prometheus.then(Registry::new);
    if let Some(registry) = &registry {
        builder = builder.with_reader(self::prometheus(registry)?);
    }
    Ok(Telemetry::new(builder, registry))
}

fn pushed(
    builder: MeterProviderBuilder,
    target: &OtlpTarget,
) -> Result<MeterProviderBuilder, ExporterBuildError> {
    Ok(match target {
        OtlpTarget::Stdout => builder.with_periodic_exporter(MetricLines),
        OtlpTarget::Collector(url) => builder.with_periodic_exporter(
            tls(MetricExporter::builder().with_tonic().with_endpoint(url), url).build()?,
        ),
    })
}

/// The exporter's names are the dictionary's: units and suffixes are in them where they belong.
pub(super) fn prometheus(registry: &Registry) -> Result<PrometheusExporter, OTelSdkError> {
    opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .without_units()
        .without_counter_suffixes()
        .build()
}

fn traces(target: &OtlpTarget, resource: Resource) -> Result<SdkTracerProvider, ExporterBuildError> {
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let builder = match target {
        OtlpTarget::Stdout => builder.with_batch_exporter(SpanLines::default()),
        OtlpTarget::Collector(url) => builder
            .with_batch_exporter(tls(SpanExporter::builder().with_tonic().with_endpoint(url), url).build()?),
    };
    Ok(builder.build())
}

fn logs(target: &OtlpTarget, resource: Resource) -> Result<SdkLoggerProvider, ExporterBuildError> {
    let builder = SdkLoggerProvider::builder().with_resource(resource);
    let builder = match target {
        OtlpTarget::Stdout => builder.with_batch_exporter(LogLines::default()),
        OtlpTarget::Collector(url) => builder
            .with_batch_exporter(tls(LogExporter::builder().with_tonic().with_endpoint(url), url).build()?),
    };
    Ok(builder.build())
}

/// Trusts the system's roots: without being told, the client trusts nobody.
fn tls<B: WithTonicConfig>(builder: B, url: &str) -> B {
    if url.starts_with("https://") {
        builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        builder
    }
}

impl Exporters {
    /// The layers that feed traces and logs; none where nothing is sent.
    pub(crate) fn layers(&self, filter: &LogFilter) -> Vec<BoxedLayer> {
        let traces = self.traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer::<Spans>()
                .with_tracer(provider.tracer(SCOPE))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(|metadata| metadata.target() == trace::TARGET))
                .boxed()
        });
        let logs = self.logs.as_ref().map(|provider| {
            let foreign = filter_fn(|metadata| !is_own(metadata.target()));
            OpenTelemetryTracingBridge::new(provider)
                .with_filter(filter.to_env_filter().and(foreign).and(filter_fn(trace::is_no_span_of_traces)))
                .boxed()
        });
        traces.into_iter().chain(logs).collect()
    }

    /// Sends what is left and ends. It blocks: call it outside of the runtime, which still has to run.
    pub fn finish(self) {
        let Self { telemetry, traces, logs } = self;
        let ended = [
            ("traces", traces.map(|provider| provider.shutdown_with_timeout(LAST_EXPORT))),
            ("metrics", telemetry.provider().map(|provider| provider.shutdown_with_timeout(LAST_EXPORT))),
            // The last, so that what the others had to say is in it.
            ("logs", logs.map(|provider| provider.shutdown_with_timeout(LAST_EXPORT))),
        ];
        for (kind, result) in ended {
            report(kind, result.unwrap_or(Ok(())));
        }
    }
}

fn report(kind: &str, result: OTelSdkResult) {
    if let Err(error) = result {
        tracing::warn!(%error, kind, "the last telemetry did not leave");
    }
}

/// `hyper` and `hyper::proto`, not `hyperion`; `opentelemetry` and what begins with it.
fn is_own(target: &str) -> bool {
    OWN.iter().any(|own| {
        target
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with(['-', '_']))
    })
}
