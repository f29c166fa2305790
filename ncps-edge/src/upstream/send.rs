//! One request to an upstream, up to the head of its answer: in time, counted, and part of the trace.

use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use ncps_proto::trace;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::{Upstream, UpstreamError, Upstreams};

impl Upstreams {
    /// Sends a request and waits for the head of the answer, of whatever status.
    pub(super) async fn send(
        &self,
        upstream: &Upstream,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, UpstreamError> {
        let (span, started) = (span(upstream), Instant::now());
        let sent = tokio::time::timeout(self.head_timeout, request.headers(headers(&span)).send());
        let answer = sent.instrument(span.clone()).await;
        upstream.metrics.answered(started.elapsed());
        let answer = answer.map_err(|_| UpstreamError::Timeout).and_then(|sent| Ok(sent?));
        note(&span, &answer);
        answer
    }
}

fn span(upstream: &Upstream) -> Span {
    info_span!(target: trace::TARGET, "ask upstream", otel.kind = "client", upstream = upstream.name,
        http.response.status_code = Empty, otel.status_code = Empty)
}

/// The trace for the upstream to go on with. Nothing without traces.
fn headers(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    trace::inject(span, |name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    });
    headers
}

fn note(span: &Span, answer: &Result<reqwest::Response, UpstreamError>) {
    match answer {
        Ok(response) => drop(span.record("http.response.status_code", response.status().as_u16())),
        Err(_) => trace::failed(span),
    }
}
