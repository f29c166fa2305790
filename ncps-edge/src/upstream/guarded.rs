//! Requests where the upstream's health admits them, and the probe that finds out when one that is down is back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::send::Ask;
use super::{Upstream, UpstreamError};
use crate::via::Via;

/// A connection that broke is tried once more: idle connections are closed under a client's feet.
const TRIES: u32 = 2;
/// How long one request waits for such pauses.
const MOST_WAITING: Duration = Duration::from_secs(5);
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// A pause that an upstream asks for is waited for up to this; for a longer one the next upstream is asked.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// Between probes: twice as long each time.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LONGEST_PROBE: Duration = Duration::from_secs(10);

impl Upstream {
    /// Makes a request where the upstream's health admits it, and tells the health how it went.
    pub(super) async fn guarded<T>(
        self: &Arc<Self>,
        request: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        if self.health.is_down() {
            return Err(UpstreamError::Paused);
        }
        if let Some(left) = self.health.pause_left() {
            return Err(UpstreamError::Waiting(left));
        }
        let started = Instant::now();
        let answer = request.await;
        match &answer {
            Err(UpstreamError::Busy(pause)) => self.asked_to_wait(*pause),
            Err(error) if error.is_outage() => self.failed(error, started),
            _ => self.answered(),
        }
        answer
    }

    /// Makes a guarded request again where that may help: once after a failure, and after short pauses, which may
    /// follow each other when all who waited come back.
    pub(super) async fn retried<T, F>(&self, request: impl Fn() -> F) -> Result<T, UpstreamError>
    where
        F: Future<Output = Result<T, UpstreamError>>,
    {
        let (mut tries, mut patience) = (1, Patience::new(SHORT_PAUSE, MOST_WAITING));
        loop {
            let answer = request().await;
            let Err(error) = &answer else { return answer };
            let pause = match error.pause() {
                Some(pause) if patience.allows(pause) => pause,
                None if may_help(error) && tries < TRIES => RETRY_DELAY,
                _ => return answer,
            };
            tries += 1;
            tokio::time::sleep(jittered(pause)).await;
        }
    }

    fn asked_to_wait(&self, pause: Duration) {
        if pause > SHORT_PAUSE {
            tracing::warn!(upstream = self.name, ?pause, "an upstream asks for a pause");
        }
        self.health.pause(pause);
    }

    fn failed(self: &Arc<Self>, error: &UpstreamError, started: Instant) {
        let waited = matches!(error, UpstreamError::Timeout | UpstreamError::Stalled);
        if self.health.outage(started, waited) {
            tracing::warn!(upstream = self.name, %error, "an upstream seems to be down: it is left alone");
            self.start_probe();
        }
    }

    fn start_probe(self: &Arc<Self>) {
        if self.health.begin_probe() {
            let tasks = &self.common.around.tasks;
            tasks.spawn_background("upstream-probe", probe(Arc::downgrade(self), tasks.life().hard()));
        }
    }

    fn answered(&self) {
        if self.health.answered() {
            self.common.around.returned.notify_one();
        }
    }

    /// Any answer but a failure will do: many caches have no nix-cache-info.
    async fn answers(&self) -> bool {
        let Some(url) = self.resolve("nix-cache-info").ok().filter(|_| self.health.pause_left().is_none())
        else {
            return false;
        };
        match self.send(Ask::new(Method::GET, url, &Via::direct())).await {
            Ok(response) => response.status().as_u16() < 500,
            Err(error) => !error.is_outage(),
        }
    }

    /// 0: asked as usual; 1: left alone; 2: given up.
    pub(super) fn state(&self) -> u64 {
        match (self.health.admits(), self.is_given_up()) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        }
    }

    /// Whether it has been down for so long that it has no say while others answer.
    pub(super) fn is_given_up(&self) -> bool {
        match (self.health.down_for(), self.common.give_up_after) {
            (Some(down), Some(patience)) => down >= patience,
            _ => false,
        }
    }

    /// Whether an absence can be stated without it, now that it failed.
    pub(super) fn has_no_say(&self) -> bool {
        self.optional || self.is_given_up()
    }

    /// An absence is stated without it. Nobody may ask for anything else before it ends by itself, so that it is
    /// found out when the upstream is back.
    pub(super) fn unheard(self: &Arc<Self>) {
        self.health.unheard();
        self.start_probe();
    }
}

/// Asks now and then until an answer comes, the upstream is no longer configured, or the process stops.
async fn probe(upstream: Weak<Upstream>, stop: tokio_util::sync::CancellationToken) {
    let mut pause = FIRST_PROBE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
        let Some(upstream) = upstream.upgrade() else { return };
        let answers = tokio::select! {
            () = stop.cancelled() => return,
            answers = upstream.answers() => answers,
        };
        if answers {
            tracing::info!(upstream = upstream.name, "an upstream is back");
            upstream.health.end_probe();
            return upstream.answered();
        }
        pause = (pause * 2).min(LONGEST_PROBE);
    }
}

/// Whether asking once more at once may help.
fn may_help(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Transport(_) | UpstreamError::Status(500 | 502 | 504))
}

/// How long somebody waits for pauses that an upstream asks for, all together.
pub(crate) struct Patience {
    longest: Duration,
    left: Duration,
}

impl Patience {
    pub(crate) fn new(longest: Duration, all: Duration) -> Patience {
        Patience { longest, left: all }
    }

    /// Whether a pause is waited for, too.
    pub(crate) fn allows(&mut self, pause: Duration) -> bool {
        let allowed = pause <= self.longest && !self.left.is_zero();
        self.left = self.left.saturating_sub(pause.max(RETRY_DELAY));
        allowed
    }
}

/// Between once and one and a half times as long: who was turned away together does not come back together, nor
/// sooner than it was told.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    pause.mul_f64(1.0 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_comes_back_too_soon_nor_all_at_once() {
        let pause = Duration::from_secs(1);
        let pauses: BTreeSet<Duration> = (0..100).map(|_| jittered(pause)).collect();
        assert!(pauses.iter().all(|jittered| (pause..=pause * 3 / 2).contains(jittered)), "{pauses:?}");
        assert!(pauses.len() > 90, "{pauses:?}");
    }
}
