//! Warnings and errors kept for tests to look at.
//!
//! One per process, since a process has one subscriber; events of tests that run side by side meet in it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedEvent {
    /// WARN or ERROR.
    pub level: Level,
    /// The module that reported it.
    pub target: String,
    /// The message.
    pub message: String,
    /// The other fields, as they would be printed.
    pub fields: BTreeMap<String, String>,
}

/// The events captured so far. Clones see the same ones; also the layer that captures.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<CapturedEvent>>>);

impl Captured {
    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<CapturedEvent> {
        self.0.lock().clone()
    }

    /// All events so far, which are forgotten then.
    #[must_use]
    pub fn take(&self) -> Vec<CapturedEvent> {
        std::mem::take(&mut *self.0.lock())
    }

    /// How many events there are, as a mark for [`Self::since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.0.lock().len()
    }

    /// The events after a mark.
    #[must_use]
    pub fn since(&self, mark: usize) -> Vec<CapturedEvent> {
        self.0.lock().get(mark..).unwrap_or_default().to_vec()
    }
}

impl<S: Subscriber> Layer<S> for Captured {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().push(CapturedEvent {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: fields.0.remove("message").unwrap_or_default(),
            fields: fields.0,
        });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// Captures the warnings and errors of this process from the first call on; later calls return the same.
///
/// Every test of the process should call it before it does anything else: `tracing` remembers of an event
/// that nobody wanted it, and one that was first met while the subscriber was being installed may be lost.
///
/// # Panics
/// When the process logs elsewhere already.
pub fn capture() -> Captured {
    static CAPTURED: OnceLock<Captured> = OnceLock::new();
    let start = || {
        let captured = Captured::default();
        let layer = captured.clone().with_filter(LevelFilter::WARN);
        Registry::default()
            .with(layer)
            .try_init()
            .expect("capture() is the only subscriber of a test process");
        captured
    };
    CAPTURED.get_or_init(start).clone()
}
