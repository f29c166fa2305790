//! OTLP on standard output: every export one line, in the JSON that OTLP defines, for looking at or for a
//! collector that reads files.

use std::fmt::Debug;
use std::io::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Traces.
#[derive(Debug, Default)]
pub(super) struct SpanLines(ResourceAttributesWithSchema);

/// Logs.
#[derive(Debug, Default)]
pub(super) struct LogLines(ResourceAttributesWithSchema);

/// Metrics.
#[derive(Debug)]
pub(super) struct MetricLines;

impl SpanExporter for SpanLines {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        print(&ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.0),
        })
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0 = resource.into();
    }
}

impl LogExporter for LogLines {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        print(&ExportLogsServiceRequest { resource_logs: group_logs_by_resource_and_scope(&batch, &self.0) })
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0 = resource.into();
    }
}

impl PushMetricExporter for MetricLines {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        print(&ExportMetricsServiceRequest::from(metrics))
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

fn print(request: &impl serde::Serialize) -> OTelSdkResult {
    let failed = |error: &dyn std::error::Error| OTelSdkError::InternalFailure(error.to_string());
    let mut line = serde_json::to_vec(request).map_err(|error| failed(&error))?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line).map_err(|error| failed(&error))
}
