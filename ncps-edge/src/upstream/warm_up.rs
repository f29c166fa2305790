//! Connections to upstreams that are open before they are needed: the first request after a start, or after a time of quiet,
//! would else wait for the host's name to be looked up, and for three round trips more than the next (TCP, TLS).
//!
//! Absent on purpose: upstreams without TLS, which are near as a rule and one round trip away; what the attempt finds out
//! about the upstream's health, which requests that somebody waits for tell.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::send::Ask;
use super::{Upstream, Upstreams};
use crate::via::Via;

/// Servers close a connection that is idle for a minute or more (nginx: 75 s).
const QUIET: Duration = Duration::from_secs(45);

/// When an upstream was asked last, or tried.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<Option<Instant>>);

impl Quiet {
    /// It is asked.
    pub(super) fn ends(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Whether it was not asked for a while; counts as asked from here on.
    fn is_over(&self) -> bool {
        let mut last = self.0.lock();
        let over = last.is_none_or(|last| last.elapsed() >= QUIET);
        if over {
            *last = Some(Instant::now());
        }
        over
    }
}

impl Upstreams {
    /// Somebody may want something soon: in the background a connection is opened to each upstream over TLS that was not
    /// asked for a while.
    pub(crate) fn warm_up(&self) {
        let cold = |upstream: &&Arc<Upstream>| {
            upstream.base.scheme() == "https" && upstream.health.admits() && upstream.quiet.is_over()
        };
        for upstream in self.list.iter().filter(cold) {
            let (upstream, stop) = (Arc::clone(upstream), self.around.tasks.life().hard());
            self.around.tasks.spawn_background("upstream-warm-up", async move {
                stop.run_until_cancelled(upstream.greet()).await;
            });
        }
    }
}

impl Upstream {
    /// Any answer will do, and none as well: without a body, so that the connection stays.
    async fn greet(&self) {
        let Ok(url) = self.resolve("nix-cache-info") else { return };
        if let Err(error) = self.send(Ask::new(Method::HEAD, url, &Via::direct())).await {
            tracing::debug!(upstream = self.name, %error, "no connection could be opened ahead");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quiet_is_a_while_without_a_request() {
        let quiet = Quiet::default();
        assert!(quiet.is_over(), "it was never asked");
        assert!(!quiet.is_over(), "one attempt is enough");
        tokio::time::advance(QUIET - Duration::from_secs(1)).await;
        quiet.ends();
        tokio::time::advance(QUIET - Duration::from_secs(1)).await;
        assert!(!quiet.is_over());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(quiet.is_over() && !quiet.is_over());
    }
}
