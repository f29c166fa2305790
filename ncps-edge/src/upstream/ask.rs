//! Who has a path: the upstreams are asked in order, the next one after a short delay or a failure, and all
//! that remain at once after the first "absent". The first good answer wins.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ncps_nix::{NarInfo, StorePathHash};
use ncps_proto::{Code, Error};

use super::{Upstream, UpstreamError, Upstreams};

/// What all upstreams together say of a path.
#[derive(Debug)]
pub enum Verdict {
    /// The narinfo, verified, and the base URL of who gave it.
    Found(Box<NarInfo>, String),
    /// Every one of them said that it is not there.
    Absent,
    /// None had it, and at least one could not say.
    Failed(Error),
}

impl Upstreams {
    /// Asks for a narinfo.
    pub async fn ask(&self, hash: StorePathHash) -> Verdict {
        let mut waiting: VecDeque<_> = self.list.iter().collect();
        let mut running = FuturesUnordered::new();
        let mut failures = Vec::new();
        let question = |upstream| self.question(upstream, hash);
        running.extend(waiting.pop_front().map(question));
        while !running.is_empty() {
            let hedge = tokio::time::sleep(self.hedge_delay);
            tokio::select! {
                Some((upstream, answer)) = running.next() => match answer {
                    Ok(Some(narinfo)) => return Verdict::Found(Box::new(narinfo), upstream.name.clone()),
                    Ok(None) => running.extend(waiting.drain(..).map(question)),
                    Err(error) => {
                        report(upstream, hash, &error);
                        failures.push(error);
                        running.extend(waiting.pop_front().map(question));
                    }
                },
                // Where questions queue for their turn, a second one would only make the queue longer.
                () = hedge, if !waiting.is_empty() => if self.narinfo_turns.available_permits() > 0 {
                    running.extend(waiting.pop_front().map(question));
                },
            }
        }
        verdict_without(hash, &failures)
    }

    async fn question<'u>(
        &self,
        upstream: &'u Arc<Upstream>,
        hash: StorePathHash,
    ) -> (&'u Arc<Upstream>, Result<Option<NarInfo>, UpstreamError>) {
        (upstream, self.narinfo(upstream, hash).await)
    }
}

fn report(upstream: &Arc<Upstream>, hash: StorePathHash, error: &UpstreamError) {
    match error {
        // Said once when the pause began.
        UpstreamError::Paused => tracing::debug!(upstream = upstream.name, %hash, "an upstream is paused"),
        _ => tracing::warn!(upstream = upstream.name, %hash, %error, "an upstream's narinfo is not used"),
    }
}

/// Nobody had it: absent only if nobody failed.
fn verdict_without(hash: StorePathHash, failures: &[UpstreamError]) -> Verdict {
    let Some(first) = failures.first() else { return Verdict::Absent };
    let code = failures.iter().map(UpstreamError::code).find(|c| *c == Code::UpstreamFailed);
    let message = format!("no upstream could be asked conclusively for {hash}");
    Verdict::Failed(Error::new(code.unwrap_or(Code::UpstreamTimeout), message).because(first.clone()))
}
