//! The trace in gRPC metadata: a span on either side of a call, joined.

use tonic::metadata::{MetadataKey, MetadataMap};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::trace;

/// The span of a call as its caller sees it, named in the metadata.
pub(super) fn calls(method: &'static str, metadata: &mut MetadataMap) -> Span {
    let span = info_span!(target: trace::TARGET, "call control", otel.kind = "client", rpc.system = "grpc",
        rpc.method = method, otel.status_code = Empty);
    trace::inject(&span, |key, value| {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            metadata.insert(key, value);
        }
    });
    span
}

/// The span of a call as control sees it, below the one that the metadata names.
pub(super) fn answers(method: &'static str, metadata: &MetadataMap) -> Span {
    let span = info_span!(target: trace::TARGET, parent: None, "control", otel.kind = "server",
        otel.name = format!("control {method}"), rpc.system = "grpc", rpc.method = method,
        otel.status_code = Empty);
    trace::adopt(&span, |key| metadata.get(key)?.to_str().ok());
    span
}

/// Works on a call within its span, which learns of a failure.
pub(super) async fn within<T, E>(span: Span, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = call.instrument(span.clone()).await;
    result.inspect_err(|_| trace::failed(&span))
}
