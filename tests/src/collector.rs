//! An OTLP collector in the test's process: what programs send of logs, metrics and traces is kept to be looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

type Labels = Vec<(String, String)>;

/// What came so far, each with the service that sent it.
#[derive(Debug, Default)]
struct Received {
    spans: Vec<(String, Span)>,
    logs: Vec<(String, LogRecord)>,
    /// Name, labels, number; the latest last.
    sums: Vec<(String, Labels, i64)>,
}

/// A collector that listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    received: Arc<Mutex<Received>>,
    server: JoinHandle<()>,
}

impl Collector {
    /// Listens somewhere on the loopback.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let received = Arc::new(Mutex::new(Received::default()));
        let sink = Sink(Arc::clone(&received));
        let server = Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()))
            .add_service(MetricsServiceServer::new(sink.clone()))
            .add_service(LogsServiceServer::new(sink))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async move { server.await.expect("the collector serves") });
        Self { addr, received, server }
    }

    /// For `--otel-grpc-url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The spans of a trace, by its id in hexadecimal.
    pub fn spans_of(&self, trace: &str) -> Vec<(String, Span)> {
        let received = self.received.lock();
        let ours = received.spans.iter().filter(|(_, span)| hex(&span.trace_id) == trace);
        ours.cloned().collect()
    }

    /// The messages logged for a trace.
    pub fn logged_for(&self, trace: &str) -> Vec<String> {
        let received = self.received.lock();
        let ours = received.logs.iter().filter(|(_, record)| hex(&record.trace_id) == trace);
        ours.map(|(_, record)| text(record.body.as_ref())).collect()
    }

    /// The latest number of a counter or gauge that has these labels, by all who sent one.
    pub fn number(&self, name: &str, labels: &[(&str, &str)]) -> Option<i64> {
        let has = |found: &[(String, String)]| {
            labels.iter().all(|(key, value)| found.iter().any(|(k, v)| k == key && v == value))
        };
        let received = self.received.lock();
        received.sums.iter().rev().find(|(n, found, _)| n == name && has(found)).map(|(_, _, number)| *number)
    }

    /// The names of the metrics that came.
    pub fn metric_names(&self) -> BTreeSet<String> {
        self.received.lock().sums.iter().map(|(name, ..)| name.clone()).collect()
    }

    /// Whether nothing came at all.
    pub fn is_empty(&self) -> bool {
        let received = self.received.lock();
        received.spans.is_empty() && received.logs.is_empty() && received.sums.is_empty()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Bytes as traces are named in text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of an attribute of a span.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key == key).map(|pair| text(pair.value.as_ref()))
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Received>>);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource_spans in request.into_inner().resource_spans {
            let service = service(resource_spans.resource.as_ref());
            let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().spans.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for resource_logs in request.into_inner().resource_logs {
            let service = service(resource_logs.resource.as_ref());
            let records = resource_logs.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            self.0.lock().logs.extend(records.map(|record| (service.clone(), record)));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            let points = match metric.data {
                Some(Data::Sum(sum)) => sum.data_points,
                Some(Data::Gauge(gauge)) => gauge.data_points,
                _ => continue,
            };
            let numbers =
                points.into_iter().map(|point| (metric.name.clone(), pairs(&point.attributes), point.value));
            let integers = numbers.filter_map(|(name, labels, value)| match value {
                Some(Number::AsInt(number)) => Some((name, labels, number)),
                _ => None,
            });
            self.0.lock().sums.extend(integers);
        }
        Ok(Response::new(Default::default()))
    }
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| pairs(&resource.attributes)).unwrap_or_default();
    attributes.into_iter().find(|(key, _)| key == "service.name").map(|(_, name)| name).unwrap_or_default()
}

fn pairs(attributes: &[KeyValue]) -> Labels {
    attributes.iter().map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
