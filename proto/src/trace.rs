//! How a trace crosses from hop to hop: W3C Trace Context, as pairs of header names and values, so that every
//! protocol can carry it. Without traces all of this does nothing.
//!
//! Absent: what spans say (each hop knows), and where they go (the process' telemetry).

use std::marker::PhantomData;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of every span of a trace, and of nothing else: nobody but traces wants these spans.
pub const TARGET: &str = "ncps_trace";

/// Names the span in headers, for the next hop to go on from.
pub fn inject(span: &Span, put: impl FnMut(&str, String)) {
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Put(put));
    }
}

/// Makes the span a child of the one that a former hop named in its headers, if it named one. Call it before
/// the span is entered.
pub fn adopt<'h>(span: &Span, get: impl Fn(&str) -> Option<&'h str>) {
    if span.is_disabled() || get("traceparent").is_none() {
        return;
    }
    let former = TraceContextPropagator::new().extract_with_context(&Context::new(), &Get(get, PhantomData));
    set_parent(span, former);
}

/// Makes the span a part of what this thread works for right now, without keeping that open: for work that
/// may outlive whoever asked for it. Call it before the span is entered.
pub fn join(span: &Span) {
    if !span.is_disabled() {
        set_parent(span, Context::current());
    }
}

fn set_parent(span: &Span, parent: Context) {
    // The span is neither disabled nor entered, and its layer is there.
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(%error, "a span has no parent");
    }
}

/// Marks the span as failed.
pub fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// A span to be pointed at by others that share its work.
#[derive(Clone, Debug)]
pub struct Link(SpanContext);

impl Link {
    /// `None` without traces.
    #[must_use]
    pub fn to(span: &Span) -> Option<Link> {
        if span.is_disabled() {
            return None;
        }
        let context = span.context().span().span_context().clone();
        context.is_valid().then_some(Link(context))
    }

    /// Lets the current span point at it.
    pub fn follow(&self) {
        Span::current().add_link(self.0.clone());
    }
}

struct Put<F>(F);

impl<F: FnMut(&str, String)> Injector for Put<F> {
    fn set(&mut self, key: &str, value: String) {
        (self.0)(key, value);
    }
}

struct Get<'h, F>(F, PhantomData<&'h str>);

impl<'h, F: Fn(&str) -> Option<&'h str>> Extractor for Get<'h, F> {
    fn get(&self, key: &str) -> Option<&str> {
        (self.0)(key)
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}
