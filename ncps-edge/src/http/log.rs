//! A request from its head to the end of its answer's body: whole, failed, or left by the client. Then its log
//! line is written, its metrics are counted and its span ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body::{Body as _, Frame, SizeHint};
use tracing::Span;

use super::admission::Turn;
use super::measure::{self, FromUpstream, Measure};
use super::reply::Story;
use super::seats::Busy;
use crate::metrics::EdgeMetrics;

/// A request, noted before it is handled.
pub(super) struct Noted {
    method: Method,
    path: String,
    started: Instant,
    measure: Option<Measure>,
    span: Span,
}

impl Noted {
    pub(super) fn new<B>(request: &Request<B>, metrics: &Arc<EdgeMetrics>) -> Noted {
        let started = Instant::now();
        Noted {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            started,
            measure: Measure::begin(metrics, request, started),
            span: measure::span(request),
        }
    }

    /// What is done for the request is done in here.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The response whose body writes the line, and lets go what is held for it, when it ends.
    pub(super) fn answered(mut self, response: Response, held: (Turn, Busy)) -> Response {
        let (parts, body) = response.into_parts();
        measure::note(&self.span, parts.status);
        if let Some(measure) = &mut self.measure {
            measure.answered(parts.status, parts.extensions.get::<FromUpstream>().copied());
        }
        let line = Line {
            status: parts.status.as_u16(),
            story: parts.extensions.get::<Story>().cloned(),
            expected: if self.method == Method::HEAD { Some(0) } else { length(&parts.headers, &body) },
            noted: self,
            bytes: 0,
            ended: None,
            _held: held,
        };
        Response::from_parts(parts, Body::new(LoggedBody { body, line }))
    }
}

/// Of a stream only the head knows the length.
fn length(headers: &HeaderMap, body: &Body) -> Option<u64> {
    let promised = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    body.size_hint().exact().or_else(promised)
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Whole,
    Failed,
    Left,
}

struct Line {
    noted: Noted,
    status: u16,
    story: Option<Story>,
    expected: Option<u64>,
    bytes: u64,
    ended: Option<Ended>,
    _held: (Turn, Busy),
}

struct LoggedBody {
    body: Body,
    line: Line,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
            }
            Poll::Ready(Some(Err(error))) => {
                self.line.ended = Some(Ended::Failed);
                let _entered = self.line.noted.span.enter();
                let (path, sent) = (&self.line.noted.path, self.line.bytes);
                tracing::warn!(path, sent, %error, "a body was cut: the client sees a broken transfer");
            }
            Poll::Ready(None) => self.line.ended = Some(Ended::Whole),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Line {
    fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(measure) = &mut self.noted.measure {
            measure.sent(bytes);
        }
    }

    /// A body of known length is not polled past its last byte.
    fn outcome(&self) -> Ended {
        let all = self.expected.is_some_and(|expected| self.bytes >= expected);
        self.ended.unwrap_or(if all { Ended::Whole } else { Ended::Left })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (status, bytes, outcome) = (self.status, self.bytes, self.outcome());
        let Noted { method, path, started, measure, span } = &mut self.noted;
        let _entered = span.enter();
        if let Some(measure) = measure {
            measure.ended(bytes, outcome);
        }
        let ms = started.elapsed().as_millis() as u64;
        match &self.story {
            Some(story) if story.code.meaning().http >= 500 => {
                tracing::warn!(%method, path, status, bytes, ms, ?outcome, code = %story.code, error = story.text, "request");
            }
            _ => tracing::info!(%method, path, status, bytes, ms, ?outcome, "request"),
        }
    }
}
