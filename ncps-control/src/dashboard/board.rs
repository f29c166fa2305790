//! Looks and tells: one for all viewers, and not at all while there are none, but for a sample of sums now and then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::history::{EVERY, History};
use super::viewers::Viewers;
use crate::Control;

/// How often viewers are told what is new.
const NEWS: Duration = Duration::from_secs(2);
/// How long the index may take for them.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let [mut news, mut samples] = [NEWS, EVERY].map(|every| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            tokio::select! {
                _ = samples.tick() => self.sample(),
                _ = news.tick() => self.tell_news().await,
                () = self.came.notified() => self.tell_news().await,
                () = stop.cancelled() => return,
            }
        }
    }

    fn sample(&self) {
        let sample = self.history.add(&self.control.tally.in_time(), self.control.clock.now());
        self.viewers.tell(&event("sample", &sample));
    }

    async fn tell_news(&self) {
        if !self.viewers.any() {
            return;
        }
        let why = match timeout(PATIENCE, self.control.snapshot()).await {
            Ok(Ok(snapshot)) => return self.viewers.tell(&event("now", &snapshot)),
            Ok(Err(error)) => error.story(),
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::debug!(why, "the dashboard can't be told what is new");
        self.viewers.tell(&event("failed", &"control can't read its index"));
    }
}

/// As `text/event-stream` has it. JSON has no line feeds.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("it is made of names, numbers and texts");
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
