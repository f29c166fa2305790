//! Whether control answers. After three calls in a row without an answer it is left alone, so that no request pays for
//! its deadline, and asked in the background; the first answer brings it back. That it says no is an answer, too.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ncps_nix::StorePathHash;
use ncps_proto::{Code, ControlPlane, Error, Result, WhenAway};
use ncps_runtime::tasks::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guarded::within;
use crate::live::Current;
use crate::metrics::{ControlCall, EdgeMetrics};
use crate::upstream::guarded::jittered;
use crate::upstream::health::Health;

/// Between probes: twice as long each time.
const FIRST_PROBE: Duration = Duration::from_millis(100);
const LONGEST_PROBE: Duration = Duration::from_secs(2);
/// A path that nobody has.
pub(crate) const NOBODYS: StorePathHash = StorePathHash::from_bytes([0; 20]);

/// The breaker of the way to control.
pub(super) struct Reach {
    health: Health,
    /// What probes ask; those who call hold it.
    plane: Weak<dyn ControlPlane>,
    deadline: Option<Duration>,
    current: Arc<Current>,
    metrics: Arc<EdgeMetrics>,
    tasks: Tasks,
}

impl Reach {
    pub(super) fn new(
        plane: &Arc<dyn ControlPlane>,
        deadline: Option<Duration>,
        current: Arc<Current>,
        metrics: Arc<EdgeMetrics>,
        tasks: Tasks,
    ) -> Arc<Reach> {
        metrics.control_away.set((), 0);
        let (health, plane) = (Health::default(), Arc::downgrade(plane));
        Arc::new(Reach { health, plane, deadline, current, metrics, tasks })
    }

    /// Makes a call, unless control is known to be away.
    pub(super) async fn guarded<T>(self: &Arc<Self>, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.health.is_down() {
            self.metrics.control_calls.inc(ControlCall::NotMade);
            return Err(Error::new(Code::Unavailable, "control is away"));
        }
        self.heard(call).await
    }

    /// Makes a call, and notes whether it was answered.
    pub(super) async fn heard<T>(self: &Arc<Self>, call: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let answer = call.await;
        match &answer {
            Err(error) if error.code() == Code::Unavailable => self.unanswered(error, started),
            _ => self.answered(),
        }
        answer
    }

    fn unanswered(self: &Arc<Self>, error: &Error, started: Instant) {
        self.metrics.control_calls.inc(ControlCall::Unanswered);
        let waited = self.deadline.is_some_and(|deadline| started.elapsed() >= deadline);
        if self.health.outage(started, waited) {
            self.metrics.control_away.set((), 1);
            tracing::warn!(error = error.story(), "control is away: {}", self.policy());
            if self.health.begin_probe() {
                let stop = self.tasks.life().hard();
                self.tasks.spawn_background("control-probe", probe(Arc::downgrade(self), stop));
            }
        }
    }

    fn answered(&self) {
        self.metrics.control_calls.inc(ControlCall::Answered);
        if self.health.is_down() {
            self.metrics.control_away.set((), 0);
            tracing::info!("control answers again");
        }
        self.health.answered();
    }

    /// For the log: what happens meanwhile, and what that means for clients.
    fn policy(&self) -> &'static str {
        match self.current.get().map(|live| live.settings.when_away) {
            Ok(WhenAway::UpstreamSigned) => {
                "what is here is served, the rest with the upstreams' signatures. Clients that trust only our key \
                 refuse that, and remember it for 30 days: let them trust the upstreams' keys, too, or set \
                 --when-control-away=stored-only"
            }
            Ok(WhenAway::StoredOnly) => "what is here is served, for other paths clients have to come again",
            Err(_) => "nothing can be served before it said a configuration",
        }
    }

    /// Whether control answers now.
    async fn asks(self: &Arc<Self>) -> bool {
        let Some(plane) = self.plane.upgrade() else { return true };
        let answer = self.heard(within(self.deadline, plane.narinfo(NOBODYS))).await;
        answer.is_ok() || !self.health.is_down()
    }
}

/// Asks now and then until an answer comes, or the process stops.
async fn probe(reach: Weak<Reach>, stop: CancellationToken) {
    let mut pause = FIRST_PROBE;
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(jittered(pause))).await.is_none() {
            return;
        }
        let Some(reach) = reach.upgrade() else { return };
        match stop.run_until_cancelled(reach.asks()).await {
            Some(false) => pause = (pause * 2).min(LONGEST_PROBE),
            Some(true) => {
                reach.health.end_probe();
                // It may have gone again meanwhile, while this probe was taken to run on.
                if !reach.health.is_down() || !reach.health.begin_probe() {
                    return;
                }
                pause = FIRST_PROBE;
            }
            None => return,
        }
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
