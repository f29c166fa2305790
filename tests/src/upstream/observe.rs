//! What a test can ask an upstream about the past.

use crate::wait::eventually;

use super::{Seen, Upstream};

/// What it saw.
impl Upstream {
    /// How many requests came with this method for a path that begins so.
    pub fn count(&self, method: &str, path_prefix: &str) -> usize {
        let fits = |seen: &&Seen| seen.method == method && seen.path.starts_with(path_prefix);
        self.shared.log.lock().seen().iter().filter(fits).count()
    }

    /// How many requests came at all.
    pub fn total(&self) -> usize {
        self.shared.log.lock().seen().len()
    }

    /// All requests, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.log.lock().seen().to_vec()
    }

    /// The requests for paths that begin so.
    pub fn requests_to(&self, path_prefix: &str) -> Vec<Seen> {
        let mut requests = self.requests();
        requests.retain(|seen| seen.path.starts_with(path_prefix));
        requests
    }

    /// Waits until `n` such requests have come.
    ///
    /// # Panics
    /// If they don't come within the usual patience.
    pub async fn wait_for(&self, n: usize, method: &str, path_prefix: &str) {
        let what = format!("{n} x {method} {path_prefix}* at the upstream");
        eventually(&what, async || self.count(method, path_prefix) >= n).await;
    }

    /// Waits until no request is being answered.
    ///
    /// # Panics
    /// If that takes longer than the usual patience.
    pub async fn wait_idle(&self) {
        eventually("an idle upstream", async || self.active() == 0).await;
    }

    /// How many requests are being answered now.
    pub fn active(&self) -> usize {
        self.shared.log.lock().active
    }

    /// The most requests that were ever being answered at the same time.
    pub fn max_concurrent(&self) -> usize {
        self.shared.log.lock().max_active
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.log.lock().connections
    }

    /// Bytes of bodies handed to the network, without framing.
    pub fn bytes_sent(&self) -> u64 {
        self.requests().iter().map(|seen| seen.sent).sum()
    }

    /// Forgets what it saw: all counts begin anew. Requests that are being answered still count
    /// as active.
    pub fn forget(&self) {
        self.shared.log.lock().forget();
    }
}
