//! Who has a path: the upstreams are asked in order, the next one after a short delay or a failure, and all
//! that remain at once after the first "absent". The first good answer wins.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ncps_nix::{NarInfo, StorePathHash};
use ncps_proto::{Code, Error, Heard};

use super::{Upstream, UpstreamError, Upstreams};
use crate::via::Via;

/// How often a question that is due looks for a turn within the delay of a hedge.
const LOOKS: u32 = 8;

/// What all upstreams together say of a path.
#[derive(Debug)]
pub enum Verdict {
    /// The narinfo, verified, and the base URL of who gave it.
    Found(Box<NarInfo>, String),
    /// Every one of them with a say said that it is not there.
    Absent(Heard),
    /// None had it, and at least one that has a say could not say.
    Failed(Error),
}

/// What those said who have no narinfo.
#[derive(Default)]
pub struct Tally {
    absent: bool,
    failures: Vec<(Arc<Upstream>, UpstreamError)>,
}

impl Upstreams {
    /// Asks for a narinfo.
    pub async fn ask(&self, hash: StorePathHash, via: &Via) -> Verdict {
        let mut waiting: VecDeque<_> = self.in_order().into();
        let mut running = FuturesUnordered::new();
        let (mut tally, mut patience) = (Tally::default(), self.hedge_delay);
        let question = |upstream: &Arc<Upstream>| question(Arc::clone(upstream), hash, via.clone());
        running.extend(waiting.pop_front().map(question));
        while !running.is_empty() {
            let hedge = tokio::time::sleep(patience);
            tokio::select! {
                Some((upstream, answer)) = running.next() => match answer {
                    Ok(Some(narinfo)) => {
                        self.hear_out(running);
                        return Verdict::Found(Box::new(narinfo), upstream.name.clone());
                    }
                    Ok(None) => {
                        tally.absent();
                        running.extend(waiting.drain(..).map(question));
                    }
                    Err(error) => {
                        report(&upstream, hash, &error);
                        tally.failed(upstream, error);
                        running.extend(waiting.pop_front().map(question));
                    }
                },
                () = hedge, if !waiting.is_empty() => match waiting.front().is_some_and(|next| next.is_free()) {
                    true => running.extend(waiting.pop_front().map(question)),
                    // Where questions queue for their turn, one more would only make the queue longer.
                    false => patience = self.hedge_delay / LOOKS,
                },
            }
        }
        match tally.heard() {
            Ok(heard) => Verdict::Absent(heard),
            Err(error) => {
                Verdict::Failed(Error::new(error.code(), format!("nobody gave {hash}")).because(error))
            }
        }
    }

    /// Who was overtaken is still heard, to know how fast it is and whether it is there at all: else one that is silent
    /// would cost every question the delay of the hedge.
    fn hear_out(&self, mut running: FuturesUnordered<impl Future + Send + 'static>) {
        if running.is_empty() {
            return;
        }
        let stop = self.around.tasks.life().hard();
        self.around.tasks.spawn_background("overtaken-upstreams", async move {
            stop.run_until_cancelled(async { while running.next().await.is_some() {} }).await;
        });
    }

    /// The narinfos of all upstreams but some, each with the base URL of who gave it. Who fails gives none.
    pub async fn ask_all(
        &self,
        hash: StorePathHash,
        via: &Via,
        but: impl Fn(&str) -> bool,
    ) -> Vec<(NarInfo, String)> {
        let asked = self.in_order().into_iter().filter(|upstream| !but(&upstream.name));
        let answers = futures::future::join_all(
            asked.map(|upstream| question(Arc::clone(upstream), hash, via.clone())),
        );
        let given = |(upstream, answer): (Arc<Upstream>, Result<Option<NarInfo>, UpstreamError>)| {
            Some((answer.ok().flatten()?, upstream.name.clone()))
        };
        answers.await.into_iter().filter_map(given).collect()
    }

    /// To count the answers about something else than a narinfo.
    pub fn tally(&self) -> Tally {
        Tally::default()
    }

    /// That one of these upstreams failed.
    pub fn failed(&self, tally: &mut Tally, upstream: &str, error: UpstreamError) {
        if let Some(upstream) = self.named(upstream) {
            tally.failed(Arc::clone(upstream), error);
        }
    }
}

impl Tally {
    /// One said that it is not there.
    pub fn absent(&mut self) {
        self.absent = true;
    }

    fn failed(&mut self, upstream: Arc<Upstream>, error: UpstreamError) {
        self.failures.push((upstream, error));
    }

    /// Whether it is absent: where all say so, or all that have a say and one at least.
    ///
    /// # Errors
    /// Where that can't be said: nobody answered, or one failed that has a say.
    pub fn heard(&self) -> Result<Heard, Error> {
        let decisive = |(upstream, _): &&(Arc<Upstream>, _)| !self.absent || !upstream.has_no_say();
        let decisive: Vec<_> = self.failures.iter().filter(decisive).map(|(_, error)| error).collect();
        if let Some(first) = decisive.first() {
            let code = decisive.iter().map(|error| error.code()).find(|c| *c == Code::UpstreamFailed);
            let message = "no upstream could be asked conclusively";
            return Err(Error::new(code.unwrap_or(Code::UpstreamTimeout), message).because((*first).clone()));
        }
        // What answered, uselessly, has nothing to come back from.
        let silent = self.failures.iter().filter(|(_, error)| error.is_silence());
        silent.for_each(|(upstream, _)| upstream.unheard());
        Ok(if self.failures.is_empty() { Heard::All } else { Heard::Some })
    }
}

async fn question(
    upstream: Arc<Upstream>,
    hash: StorePathHash,
    via: Via,
) -> (Arc<Upstream>, Result<Option<NarInfo>, UpstreamError>) {
    let answer = upstream.narinfo(hash, &via).await;
    (upstream, answer)
}

fn report(upstream: &Arc<Upstream>, hash: StorePathHash, error: &UpstreamError) {
    match error {
        // Said once when it began.
        UpstreamError::Paused | UpstreamError::Waiting(_) => {
            tracing::debug!(upstream = upstream.name, %hash, "an upstream is left alone")
        }
        // Its operator knows.
        _ if upstream.optional => {
            tracing::debug!(upstream = upstream.name, %hash, %error, "an optional upstream")
        }
        _ => tracing::warn!(upstream = upstream.name, %hash, %error, "an upstream's narinfo is not used"),
    }
}
