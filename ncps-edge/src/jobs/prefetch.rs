//! The prefetch: paths, with all that they refer to, are looked up and fetched as for clients, as far as they are not
//! here. A path that can't be had keeps none of the others from coming.
//!
//! Bounded: so many lookups at once, and half of the downloads that this edge may have, so that clients find the other
//! half free. What it did once it finds done the next time, so one that was broken off is simply begun again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{Code, Error, JobProgress, JobSaid, Outcome, Prefetch, Prefetched, Result};

use super::{Teller, Workshop};
use crate::lookup::Found;
use crate::via::Via;

/// Narinfos that are looked up at once: upstreams and control have their own limits beside.
const LOOKUPS: usize = 32;
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Paths of one prefetch, references included: what is known of each takes some 100 bytes.
const MOST_PATHS: usize = 1_000_000;

/// What a narinfo says to a prefetch.
struct Known {
    nar: NarFileName,
    /// Of its NAR file, where the narinfo says it.
    bytes: u64,
    references: Vec<StorePathHash>,
}

type Lookup = (StorePathHash, Result<Option<Known>>);

/// A prefetch on its way.
struct Round<'w> {
    workshop: &'w Arc<Workshop>,
    teller: &'w Teller,
    closure: bool,
    seen: HashSet<StorePathHash>,
    to_look_up: VecDeque<StorePathHash>,
    lookups: FuturesUnordered<BoxFuture<'static, Lookup>>,
    to_fetch: VecDeque<(StorePathHash, NarFileName)>,
    fetches: FuturesUnordered<BoxFuture<'static, Prefetched>>,
    most_fetches: usize,
    progress: JobProgress,
}

impl Workshop {
    pub(super) async fn prefetch(
        self: &Arc<Self>,
        Prefetch { paths, closure }: Prefetch,
        teller: &Teller,
    ) -> std::result::Result<(), String> {
        let live = self.current.get().map_err(|error| error.story())?;
        let mut round = Round {
            workshop: self,
            teller,
            closure,
            seen: HashSet::new(),
            to_look_up: VecDeque::new(),
            lookups: FuturesUnordered::new(),
            to_fetch: VecDeque::new(),
            fetches: FuturesUnordered::new(),
            most_fetches: live.downloads_ahead(),
            progress: JobProgress::default(),
        };
        round.want(paths)?;
        round.run().await
    }
}

impl Round<'_> {
    async fn run(&mut self) -> std::result::Result<(), String> {
        let mut tells = tokio::time::interval(TELL_EVERY);
        loop {
            self.fill();
            tokio::select! {
                Some((path, known)) = self.lookups.next() => self.looked_up(path, known).await?,
                Some(prefetched) = self.fetches.next() => self.done(prefetched).await,
                _ = tells.tick(), if !self.is_over() => self.tell().await,
                else => break,
            }
        }
        self.tell().await;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.lookups.is_empty() && self.fetches.is_empty()
    }

    /// Begins as much as may run at once.
    fn fill(&mut self) {
        while self.lookups.len() < LOOKUPS
            && let Some(path) = self.to_look_up.pop_front()
        {
            self.lookups.push(Box::pin(look_up(Arc::clone(self.workshop), path)));
        }
        while self.fetches.len() < self.most_fetches
            && let Some((path, nar)) = self.to_fetch.pop_front()
        {
            self.fetches.push(Box::pin(fetch(Arc::clone(self.workshop), path, nar)));
        }
    }

    /// Those of the paths that nobody has mentioned yet.
    fn want(&mut self, paths: Vec<StorePathHash>) -> std::result::Result<(), String> {
        for path in paths {
            if self.seen.insert(path) {
                self.to_look_up.push_back(path);
            }
        }
        self.progress.all_files = self.seen.len() as u64;
        match self.seen.len() > MOST_PATHS {
            true => Err(format!("that is more than {MOST_PATHS} paths")),
            false => Ok(()),
        }
    }

    async fn looked_up(
        &mut self,
        path: StorePathHash,
        known: Result<Option<Known>>,
    ) -> std::result::Result<(), String> {
        match known {
            Ok(Some(known)) => {
                self.progress.all_bytes += known.bytes;
                self.to_fetch.push_back((path, known.nar));
                if self.closure {
                    self.want(known.references)?;
                }
            }
            Ok(None) => {
                let outcome = Outcome::Absent("no upstream has this path".to_owned());
                self.done(Prefetched { path, outcome }).await;
            }
            Err(error) => self.done(Prefetched { path, outcome: Outcome::Failed(error.story()) }).await,
        }
        Ok(())
    }

    async fn done(&mut self, prefetched: Prefetched) {
        self.progress.files += 1;
        if let Outcome::Here(bytes) | Outcome::Fetched(bytes) = prefetched.outcome {
            self.progress.bytes += bytes;
        }
        self.teller.say(JobSaid::Prefetched(prefetched)).await;
    }

    async fn tell(&mut self) {
        self.teller.say(JobSaid::Progress(self.progress)).await;
    }
}

async fn look_up(workshop: Arc<Workshop>, path: StorePathHash) -> Lookup {
    let known = workshop.lookups.get(path, &Via::direct()).await;
    (path, known.and_then(|found| found.map(|found| known_of(&found)).transpose()))
}

fn known_of(found: &Found) -> Result<Known> {
    let narinfo =
        found.served.narinfo().map_err(|e| Error::internal("read a narinfo of our own").because(e))?;
    Ok(Known {
        nar: found.served.nar,
        bytes: narinfo.file_size.unwrap_or(0),
        references: narinfo.references.iter().map(|reference| reference.hash()).collect(),
    })
}

async fn fetch(workshop: Arc<Workshop>, path: StorePathHash, nar: NarFileName) -> Prefetched {
    let outcome = fetched(&workshop, nar).await.unwrap_or_else(|error| match error.code() {
        Code::Absent => Outcome::Absent(error.story()),
        _ => Outcome::Failed(error.story()),
    });
    Prefetched { path, outcome }
}

async fn fetched(workshop: &Workshop, nar: NarFileName) -> Result<Outcome> {
    if let Some(stored) = workshop.engine.stored(nar).await? {
        return Ok(Outcome::Here(stored.size));
    }
    workshop.engine.refetch(nar).await?;
    // It may have been evicted meanwhile, which is no failure of ours.
    let size = workshop.engine.stored(nar).await?.map_or(0, |stored| stored.size);
    Ok(Outcome::Fetched(size))
}
