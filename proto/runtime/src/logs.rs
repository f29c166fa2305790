//! What a process reports about itself: log lines on standard error.
//!
//! On standard error in both formats, so that a command's output on standard output stays clean. Human lines
//! on a terminal, one JSON object per line otherwise. Knows which libraries talk too much. Here the one
//! subscriber of the process is put together; what telemetry adds to it are layers beside this one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

use crate::telemetry::{Exporters, trace};

#[cfg(any(test, feature = "test-util"))]
mod capture;
#[cfg(any(test, feature = "test-util"))]
pub use capture::{Captured, CapturedEvent, capture};

/// Libraries whose information nobody needs while nothing is wrong.
const CHATTY: [&str; 9] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "reqwest", "rustls", "sqlx", "tokio_cron_scheduler"];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For eyes, with colours on a terminal.
    Human,
    /// One object per line: `timestamp` (RFC 3339, UTC), `level`, `message`, `target`, the event's fields,
    /// and `spans`; with traces also `trace_id`.
    Json,
}

impl LogFormat {
    /// `auto`, `human` or `json`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("expected auto, human or json".to_owned()),
        }
    }
}

/// Which events are logged, as directives of `tracing_subscriber`'s `EnvFilter`; known to be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl Default for LogFilter {
    /// Information, without that of libraries.
    fn default() -> Self {
        Self(quietly_informed())
    }
}

impl LogFilter {
    /// A level by our names or by the original's (zerolog: `warn`, `fatal`, `panic`, `disabled`, …) in
    /// either case, or directives such as `info,ncps_edge=debug`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let directives =
            match text.to_ascii_lowercase().as_str() {
                "trace" => "trace".to_owned(),
                "debug" => "debug".to_owned(),
                "info" => quietly_informed(),
                "warn" | "warning" => "warn".to_owned(),
                "error" | "fatal" | "panic" => "error".to_owned(),
                "off" | "disabled" => "off".to_owned(),
                _ if is_filter(text) => text.to_owned(),
                _ => return Err(
                    "expected trace, debug, info, warn, error, off or filters such as info,ncps_edge=debug"
                        .to_owned(),
                ),
            };
        Ok(Self(directives))
    }

    /// The filter for a layer.
    #[must_use]
    pub fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn quietly_informed() -> String {
    let caps = CHATTY.map(|target| format!(",{target}=warn"));
    format!("info{}", caps.concat())
}

/// A lone word would be taken for the name of a target, which a mistyped level isn't.
fn is_filter(text: &str) -> bool {
    text.contains('=') && EnvFilter::builder().parse(text).is_ok()
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Which events.
    pub filter: LogFilter,
    /// How lines look.
    pub format: LogFormat,
}

/// A layer of the process' one subscriber.
pub(crate) type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts to log to standard error, for the whole process, panics included.
///
/// # Errors
/// When the process logs already.
pub fn init(options: &LogOptions) -> Result<(), TryInitError> {
    init_with(options, &Exporters::default())
}

/// The same, with the layers of telemetry.
///
/// # Errors
/// When the process logs already.
pub fn init_with(options: &LogOptions, exporters: &Exporters) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let filter = options.filter.to_env_filter().and(filter_fn(trace::is_no_span_of_traces));
    let lines: BoxedLayer = layer(options, terminal, std::io::stderr).with_filter(filter).boxed();
    let mut layers = vec![lines];
    layers.extend(exporters.layers(&options.filter));
    Registry::default().with(layers).try_init()?;
    log_panics();
    Ok(())
}

/// The layer that writes log lines, without a filter, for a subscriber with further layers.
pub fn layer<S, W>(options: &LogOptions, terminal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let human = match options.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    if human {
        lines.with_ansi(terminal).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).map_event_format(trace::WithTraceId).boxed()
    }
}

/// A panic becomes an event like others, so that it isn't three lines of text among objects.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = crate::tasks::panic_text(panic.payload());
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        let thread = std::thread::current();
        tracing::error!(panic = message, place, thread = thread.name(), backtrace, "panic");
    }));
}

#[cfg(test)]
mod tests;
