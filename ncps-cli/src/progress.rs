//! How far long work is: a bar on a terminal, plain lines elsewhere. All of it on standard error, so that answers
//! stay clean.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Elsewhere than on a terminal, at most one line in that time.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Files, paths.
    Things,
    /// Sizes.
    Bytes,
}

/// Work under way. The bar is gone when this is dropped.
pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    said: Option<Instant>,
}

impl Progress {
    /// Begins: `what` is being done, and nobody knows how much it is.
    pub fn begin(what: &'static str, counts: Counts) -> Progress {
        Progress { what, bar: stderr().is_terminal().then(|| bar(what, counts)), said: None }
    }

    /// So much is done; `of` as soon as it is known.
    pub fn at(&mut self, done: u64, of: Option<u64>) {
        if let Some(bar) = &self.bar {
            if let Some(of) = of {
                bar.set_length(of);
            }
            bar.set_position(done);
        } else if self.said.is_none_or(|said| said.elapsed() >= LINE_EVERY) {
            self.said = Some(Instant::now());
            eprintln!("{}", line(self.what, done, of));
        }
    }

    /// A line about one of the things.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, counts: Counts) -> ProgressBar {
    let template = match counts {
        Counts::Things => "{msg} {wide_bar} {pos}/{len} ({eta})",
        Counts::Bytes => {
            "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ({eta})"
        }
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // A template that can't be read is a bug that a test would see: the default one will do.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(what)
}

fn line(what: &str, done: u64, of: Option<u64>) -> String {
    match of {
        Some(of) => format!("{what}: {done} of {of}"),
        None => format!("{what}: {done}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_known() {
        assert_eq!(line("scrub", 3, Some(7)), "scrub: 3 of 7");
        assert_eq!(line("scrub", 3, None), "scrub: 3");
    }
}
