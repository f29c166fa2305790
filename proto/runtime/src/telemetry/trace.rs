//! Traces within the process. Their spans have a target of their own: without traces nobody wants them, so they
//! cost nothing, and log lines are as they were.
//!
//! Tasks belong to nobody, so their spans have no parent among log spans; what they do is still part of the
//! trace in which they were spawned. Absent: what crosses to other processes (the adapters of each protocol).

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt, TraceId};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// The target of every span of a trace, and of nothing else.
pub const TARGET: &str = "ncps_trace";

/// For filters of everything that isn't about traces.
pub(crate) fn is_no_span_of_traces(metadata: &Metadata<'_>) -> bool {
    metadata.target() != TARGET
}

/// The trace that this thread is working for right now.
#[must_use]
pub fn current_id() -> Option<TraceId> {
    Context::map_current(|cx| {
        let id = cx.has_active_span().then(|| cx.span().span_context().trace_id());
        id.filter(|id| *id != TraceId::INVALID)
    })
}

/// JSON lines with `trace_id`, where there is one.
pub(crate) struct WithTraceId<F>(pub(crate) F);

impl<S, N, F> FormatEvent<S, N> for WithTraceId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(id) = current_id() else { return self.0.format_event(ctx, writer, event) };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        match line.trim_end().strip_suffix('}') {
            Some(object) => writeln!(writer, "{object},\"trace_id\":\"{id}\"}}"),
            None => writer.write_str(&line),
        }
    }
}
