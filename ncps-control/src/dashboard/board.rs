//! Looks and tells: one for all viewers, and not at all while there are none, but for a sample of sums now and then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::history::{EVERY, History};
use super::viewers::Viewers;
use crate::Control;

/// How often viewers are told what is new.
const NEWS: Duration = Duration::from_secs(2);

/// What all viewers see.
pub(super) struct Board {
    control: Arc<Control>,
    history: History,
    viewers: Viewers,
    /// Somebody came and has seen nothing yet.
    came: Notify,
}

impl Board {
    pub(super) fn new(control: Arc<Control>) -> Arc<Board> {
        let (history, viewers) = (History::default(), Viewers::default());
        Arc::new(Board { control, history, viewers, came: Notify::new() })
    }

    /// What is new from now on, the last hour first. `None` where too many look already.
    pub(super) fn watch(&self, cut: &CancellationToken) -> Option<mpsc::Receiver<Bytes>> {
        let news = self.viewers.come(event("history", &self.history.all()), cut)?;
        self.came.notify_one();
        Some(news)
    }

    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(NEWS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.came.notified() => {}
                () = stop.cancelled() => return,
            }
            if Instant::now() >= due {
                due = Instant::now() + EVERY;
                let sample = self.history.add(&self.control.tally.sum(), self.control.clock.now());
                self.viewers.tell(&event("sample", &sample));
            }
            if self.viewers.any() {
                self.tell_news().await;
            }
        }
    }

    async fn tell_news(&self) {
        match self.control.snapshot().await {
            Ok(snapshot) => self.viewers.tell(&event("now", &snapshot)),
            Err(error) => {
                tracing::debug!(error = error.story(), "the dashboard can't be told what is new");
                self.viewers.tell(&event("failed", &"control can't read its index"));
            }
        }
    }
}

/// As `text/event-stream` has it. JSON has no line feeds.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("it is made of names, numbers and texts");
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
