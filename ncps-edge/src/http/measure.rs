//! What a request adds to the metrics and to its trace, from its head to the end of its answer's body.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use ncps_proto::trace;
use tracing::field::Empty;
use tracing::{Span, info_span};

use super::log::Ended;
use super::peer;
use crate::metrics::{EdgeMetrics, Route, Served, Side, Status, Verb};

/// Says of a good answer that an upstream had to help. Answers without it come from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromUpstream {
    /// Together with others, who asked first.
    pub(super) shared: bool,
}

/// A request that is measured.
pub(super) struct Measure {
    metrics: Arc<EdgeMetrics>,
    route: Route,
    verb: Verb,
    started: Instant,
    answer: Option<(StatusCode, Option<FromUpstream>)>,
    had_byte: bool,
}

impl Measure {
    /// `None` for probes, which would drown the rest.
    pub(super) fn begin<B>(
        metrics: &Arc<EdgeMetrics>,
        request: &Request<B>,
        started: Instant,
    ) -> Option<Measure> {
        let route = route(request)?;
        metrics.http.active.add(route, 1);
        let verb = Verb::from(request.method());
        Some(Measure { metrics: Arc::clone(metrics), route, verb, started, answer: None, had_byte: false })
    }

    pub(super) fn answered(&mut self, status: StatusCode, from_upstream: Option<FromUpstream>) {
        self.answer = Some((status, from_upstream));
    }

    /// Bytes of the body are on their way.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.first_byte();
        let Some((status, from_upstream)) = self.answer else { return };
        if !status.is_success() {
            return;
        }
        let http = &self.metrics.http;
        let side = if from_upstream.is_some() { Side::Upstream } else { Side::Here };
        match self.route {
            Route::Narinfo => http.narinfo_bytes.add(side, bytes),
            Route::Peer => http.peer_bytes.add(side, bytes),
            Route::Nar => {
                http.nar_bytes.add(side, bytes);
                if from_upstream.is_none_or(|from| from.shared) {
                    http.saved.add((), bytes);
                }
            }
            _ => {}
        }
    }

    fn first_byte(&mut self) {
        if !self.had_byte {
            self.had_byte = true;
            self.metrics.http.first_byte.record(self.route, self.started.elapsed().as_secs_f64());
        }
    }

    /// The answer's body has ended.
    pub(super) fn ended(&mut self, bytes: u64, how: Ended) {
        let Some((status, from_upstream)) = self.answer else { return };
        if how == Ended::Whole {
            // Nothing to send is sent at once.
            self.first_byte();
        }
        let http = &self.metrics.http;
        let elapsed = self.started.elapsed().as_secs_f64();
        http.duration.record(((self.route, self.verb), Status::from(status.as_u16())), elapsed);
        http.body_size.record(self.route, bytes as f64);
        let served = served(status, from_upstream, how);
        match (self.route, self.verb) {
            (Route::Narinfo, Verb::Get | Verb::Head) => served.into_iter().for_each(|s| http.narinfos.inc(s)),
            // One that is to ask again was not served yet.
            (Route::Peer, Verb::Get) if status == StatusCode::ACCEPTED => {}
            (Route::Peer, Verb::Get) => served.into_iter().for_each(|s| http.to_peers.inc(s)),
            (Route::Nar, Verb::Get) => served.into_iter().for_each(|s| http.nars.inc(s)),
            _ => {}
        }
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.metrics.http.active.add(self.route, -1);
    }
}

/// `None` where the client asked for something that can't be.
fn served(status: StatusCode, from_upstream: Option<FromUpstream>, how: Ended) -> Option<Served> {
    match status.as_u16() {
        404 => Some(Served::Absent),
        500.. => Some(Served::Error),
        200..400 if how == Ended::Failed => Some(Served::Error),
        200..400 if from_upstream.is_some() => Some(Served::Miss),
        200..400 => Some(Served::Hit),
        _ => None,
    }
}

/// The span of a request, below the one that the client names. Disabled without traces and for probes.
pub(super) fn span<B>(request: &Request<B>) -> Span {
    let Some(route) = route(request) else { return Span::none() };
    let (method, path) = (request.method(), request.uri().path());
    let span = info_span!(target: trace::TARGET, parent: None, "request", otel.kind = "server",
        otel.name = name(method, route), http.request.method = %method, http.route = route.name(),
        url.path = path, http.response.status_code = Empty, otel.status_code = Empty);
    trace::adopt(&span, |name| request.headers().get(name)?.to_str().ok());
    span
}

fn route<B>(request: &Request<B>) -> Option<Route> {
    let path = request.uri().path();
    if peer::claims(request) { Route::of_peer(path) } else { Route::of(path) }
}

fn name(method: &Method, route: Route) -> String {
    format!("{method} {}", route.name())
}

/// What the answer was.
pub(super) fn note(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        trace::failed(span);
    }
}
