//! What log lines look like and which are written.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written while `talk` runs.
fn written(level: &str, format: LogFormat, talk: impl FnOnce()) -> String {
    let options = LogOptions { filter: LogFilter::parse(level).expect("a filter"), format };
    let written = Written::default();
    let writer = written.clone();
    let layer = layer(&options, false, move || writer.clone()).with_filter(options.filter.to_env_filter());
    tracing::subscriber::with_default(Registry::default().with(layer), talk);
    let bytes = written.0.lock().clone();
    String::from_utf8(bytes).expect("log lines are text")
}

#[test]
fn json_lines_are_flat_objects() {
    let text = written("info", LogFormat::Auto, || {
        let _entered = tracing::info_span!("task", task = "transfer").entered();
        tracing::info!(bytes = 7, path = "nar/x", "sent");
        tracing::warn!("second");
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(lines.len(), 2);
    let first = &lines[0];
    assert_eq!(first["level"], "INFO");
    assert_eq!(first["message"], "sent");
    assert_eq!(first["bytes"], 7);
    assert_eq!(first["path"], "nar/x");
    assert_eq!(first["target"], module_path!());
    assert_eq!(first["spans"][0]["task"], "transfer");
    let timestamp = first["timestamp"].as_str().expect("a text");
    assert!(timestamp.len() == 27 && timestamp.ends_with('Z') && &timestamp[10..11] == "T", "{timestamp}");
}

#[test]
fn human_lines_without_a_terminal_have_no_colours() {
    let text = written("info", LogFormat::Human, || tracing::info!(bytes = 7, "sent"));
    assert!(text.contains("INFO") && text.trim_end().ends_with("sent bytes=7"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn libraries_are_quiet_unless_asked() {
    let talk = || {
        tracing::info!(target: "hyper::proto", "chatter");
        tracing::warn!(target: "hyper::proto", "trouble");
        tracing::debug!(target: "h2", "frames");
        tracing::info!("ours");
    };
    let heard = |level| {
        let text = written(level, LogFormat::Human, talk);
        ["chatter", "trouble", "frames", "ours"].map(|word| text.contains(word))
    };
    assert_eq!(heard("info"), [false, true, false, true]);
    assert_eq!(heard("debug"), [true, true, true, true]);
    assert_eq!(heard("warn"), [false, true, false, false]);
    assert_eq!(heard("error"), [false, false, false, false]);
    assert_eq!(heard("off,hyper=info"), [true, true, false, false]);
}

#[test]
fn levels_have_our_names_and_the_originals() {
    for (text, directives) in [
        ("TRACE", "trace"),
        ("debug", "debug"),
        ("Warn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("fatal", "error"),
        ("panic", "error"),
        ("disabled", "off"),
        ("info,ncps_edge=debug", "info,ncps_edge=debug"),
    ] {
        assert_eq!(LogFilter::parse(text).map(|filter| filter.to_string()), Ok(directives.to_owned()));
    }
    assert_eq!(LogFilter::parse("info"), Ok(LogFilter::default()));
    for text in ["", "loud", "inf", "ncps_edge=loud"] {
        assert!(LogFilter::parse(text).is_err(), "{text}");
    }
    assert!(LogFormat::parse("xml").is_err());
}

#[test]
fn captured_events_have_message_and_fields() {
    let captured = Captured::default();
    tracing::subscriber::with_default(Registry::default().with(captured.clone()), || {
        tracing::info!("not kept");
        tracing::warn!(upstream = "a", tries = 3, "slow");
        tracing::error!("broken");
    });
    let events = captured.events();
    assert_eq!(events.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(), ["slow", "broken"]);
    assert_eq!(events[0].fields["upstream"], "a");
    assert_eq!(events[0].fields["tries"], "3");
    assert_eq!(captured.since(1), events[1..]);
    assert_eq!(captured.take().len(), 2);
    assert_eq!(captured.mark(), 0);
}
