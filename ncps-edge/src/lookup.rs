//! A store path's narinfo: near cache, control, upstreams, in this order. All requests for one path share one
//! lookup, which belongs to none of them: who leaves cancels nobody. What is done without control is in `without`.
//!
//! Knows when a path is absent and when it is only unknown. Absent on purpose: HTTP, NAR bytes.

mod without;

use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::{
    Code, ControlPlane, Error, Heard, Lookup, NarFacts, Origin, Publication, Result, Upload, trace,
};
use ncps_runtime::tasks::Tasks;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::alone::Alone;
use crate::flights::Flights;
use crate::live::Current;
use crate::metrics::EdgeMetrics;
use crate::near::{NearCache, Served, named};
use crate::store::{LocalStore, blocking};
use crate::transfer::Failure;
use crate::upstream::Verdict;
use crate::via::Via;

/// What a lookup is made of.
pub struct Lookups {
    pub near: Arc<NearCache>,
    pub control: Arc<dyn ControlPlane>,
    pub store: Arc<LocalStore>,
    pub current: Arc<Current>,
    pub tasks: Tasks,
    metrics: Arc<EdgeMetrics>,
    alone: Alone,
    flights: Flights<(StorePathHash, Via), Option<Found>>,
}

/// A narinfo as it is served.
#[derive(Clone, Debug)]
pub struct Found {
    pub served: Arc<Served>,
    /// Whether an upstream had to be asked for it just now.
    pub from_upstream: bool,
}

impl Found {
    fn here(served: Arc<Served>) -> Found {
        Found { served, from_upstream: false }
    }
}

/// Lookups at once.
const MOST_RUNNING: usize = 16_384;

/// What became of a narinfo whose NAR is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// An upstream vouches for the same file: it may be there now.
    SameFile,
    /// An upstream vouches for another file of the same NAR.
    SameNar,
    /// The path has another NAR now, or none.
    Gone,
}

impl Lookups {
    pub fn new(
        near: Arc<NearCache>,
        control: Arc<dyn ControlPlane>,
        store: Arc<LocalStore>,
        current: Arc<Current>,
        tasks: Tasks,
        metrics: Arc<EdgeMetrics>,
    ) -> Arc<Lookups> {
        let (alone, flights) = (Alone::default(), Flights::new(MOST_RUNNING));
        Arc::new(Lookups { near, control, store, current, tasks, metrics, alone, flights })
    }

    /// The narinfo as it is served, or `None` where the path is absent.
    ///
    /// # Errors
    /// Where neither can be said.
    pub async fn get(self: &Arc<Self>, hash: StorePathHash, via: &Via) -> Result<Option<Found>> {
        let found = match self.near.get(hash) {
            Some(served) => Some(Found::here(served)),
            None if self.current.loops(via) => self.look_here(hash).await?,
            None => self.join(hash, via).await?,
        };
        match found {
            Some(found) if self.is_theirs(found.served.nar, via).await? => Ok(None),
            found => Ok(found),
        }
    }

    /// Whether all that we have of a NAR is that those who ask for it have it: nothing that they can fetch.
    async fn is_theirs(&self, nar: NarFileName, via: &Via) -> Result<bool> {
        let upstreams = Arc::clone(&self.current.get()?.upstreams);
        if via.is_direct() || !upstreams.names().any(|upstream| upstreams.waits(upstream, via)) {
            return Ok(false);
        }
        let store = Arc::clone(&self.store);
        let stored = blocking(move || store.open(nar)).await;
        if stored.is_ok_and(|stored| stored.is_some()) {
            return Ok(false);
        }
        // Who can't be asked takes nothing away from what is known.
        let Some(location) = self.control.locate("", nar).await.ok().flatten() else { return Ok(false) };
        let theirs = |origin: &Origin| upstreams.waits(&origin.upstream, via);
        let is_nowhere_else = location.peers.is_empty() && location.origins.iter().all(theirs);
        Ok(is_nowhere_else && !location.origins.is_empty())
    }

    async fn join(self: &Arc<Self>, hash: StorePathHash, via: &Via) -> Result<Option<Found>> {
        let look = || {
            let span =
                info_span!(target: trace::TARGET, parent: None, "lookup", %hash, otel.status_code = Empty);
            trace::join(&span);
            let (this, via) = (Arc::clone(self), via.clone());
            let look = async move {
                let answer = this.look(hash, &via).await;
                answer.map_err(Failure::from).inspect_err(|_| trace::failed(&Span::current()))
            };
            look.instrument(span)
        };
        Ok(self.flights.join(&(hash, via.clone()), &self.tasks, "lookup", look).await?)
    }

    /// Lookups that run right now.
    pub fn running(&self) -> usize {
        self.flights.running()
    }

    async fn look(&self, hash: StorePathHash, via: &Via) -> Result<Option<Found>> {
        let epoch = self.near.epoch();
        match self.control.narinfo(hash).await {
            Ok(Lookup::Known(narinfo)) => Ok(Some(Found::here(self.keep(&narinfo, epoch)))),
            Ok(Lookup::Absent(_)) => Ok(None),
            Ok(Lookup::Unknown) => self.ask_upstreams(hash, via, epoch).await,
            Err(error) => self.without_control(hash, Some(via), error).await,
        }
    }

    /// For a request that came through here before: whoever waits for its answer is waited for by us, maybe.
    async fn look_here(&self, hash: StorePathHash) -> Result<Option<Found>> {
        let epoch = self.near.epoch();
        match self.control.narinfo(hash).await {
            Ok(Lookup::Known(narinfo)) => Ok(Some(Found::here(self.keep(&narinfo, epoch)))),
            Ok(Lookup::Absent(_) | Lookup::Unknown) => Ok(None),
            Err(error) => self.without_control(hash, None, error).await,
        }
    }

    fn keep(&self, narinfo: &NarInfo, epoch: u64) -> Arc<Served> {
        let served = Arc::new(Served::from(narinfo));
        self.near.put(Arc::clone(&served), epoch);
        served
    }

    async fn ask_upstreams(&self, hash: StorePathHash, via: &Via, epoch: u64) -> Result<Option<Found>> {
        let live = self.current.get()?;
        match live.upstreams.ask(hash, via).await {
            Verdict::Found(narinfo, upstream) => {
                let publication = Publication { narinfo: *narinfo, upstream, replaces: false };
                let served = match self.publish(publication.clone()).await {
                    Ok(stored) => self.keep(&stored, epoch),
                    Err(error) if self.may_vouch(&error) => self.vouch(publication),
                    Err(error) => return Err(error),
                };
                Ok(Some(Found { served, from_upstream: true }))
            }
            // A cache on the way was asked for what it has only: that is no absence to remember.
            Verdict::Absent(_) if !via.is_direct() => Ok(None),
            Verdict::Absent(heard) => match self.control.publish_absent(hash, heard).await {
                Err(error) if error.code() == Code::Unavailable => {
                    self.alone.put_absent(hash);
                    Ok(None)
                }
                told => told.map(|_| None),
            },
            Verdict::Failed(error) => self.unless_called_absent(hash, error),
        }
    }

    /// Some operators want failures of upstreams called absences.
    fn unless_called_absent(&self, hash: StorePathHash, error: Error) -> Result<Option<Found>> {
        if !self.current.get()?.settings.absent_on_upstream_failure {
            return Err(error);
        }
        tracing::warn!(%hash, error = error.story(), "answered as absent, as configured");
        Ok(None)
    }

    /// Has control sign and store a narinfo, and writes it beside its NAR where that is here already.
    async fn publish(&self, publication: Publication) -> Result<NarInfo> {
        let stored = self.control.publish_narinfo(publication).await.map_err(upstreams_fault)?;
        self.write_beside_nar(stored.clone());
        Ok(stored)
    }

    /// The narinfo of a path whose NAR lies here or at another edge. No upstream is asked for either.
    ///
    /// # Errors
    /// Where control can't be asked, or the disk.
    pub async fn stored(&self, hash: StorePathHash) -> Result<Option<Arc<Served>>> {
        let known = match self.near.get(hash) {
            Some(served) => Some(served),
            None => self.look_here(hash).await?.map(|found| found.served),
        };
        let Some(served) = known else { return Ok(None) };
        let (store, nar) = (Arc::clone(&self.store), served.nar);
        let stored = blocking(move || store.open(nar)).await;
        let stored = stored.map_err(|e| Error::internal("open a NAR file").because(e))?;
        if stored.is_none() && !self.control.locate("", nar).await?.is_some_and(|known| known.held) {
            return Ok(None);
        }
        Ok(Some(served))
    }

    /// Has control admit, sign and store a client's narinfo. Whoever asks from now on gets it.
    ///
    /// # Errors
    /// As [`ControlPlane::publish_upload`].
    pub async fn upload(&self, upload: Upload) -> Result<()> {
        let stored = self.control.publish_upload(upload).await?;
        self.outdate(&[stored.store_path.hash()]);
        let store = Arc::clone(&self.store);
        let written = blocking(move || store.put_narinfo(&stored, named(&stored))).await;
        if let Err(error) = written {
            tracing::warn!(%error, "the narinfo in the store is behind");
        }
        Ok(())
    }

    /// Narinfos changed: neither memory nor a lookup that runs answers for them any more.
    pub fn outdate(&self, hashes: &[StorePathHash]) {
        self.near.invalidate(hashes);
        self.alone.forget(hashes);
        self.flights.outdate(|(hash, _)| hashes.contains(hash));
    }

    fn write_beside_nar(&self, narinfo: NarInfo) {
        let store = Arc::clone(&self.store);
        self.tasks.spawn_blocking("narinfo beside its NAR", move || {
            if let Err(error) = store.put_narinfo(&narinfo, named(&narinfo)) {
                tracing::warn!(path = %narinfo.store_path, %error, "the narinfo in the store is behind");
            }
        });
    }

    /// Every source of `nar` said that it does not have it: asks the upstreams for the path anew.
    pub async fn doubt(
        &self,
        hash: StorePathHash,
        nar: NarFileName,
        facts: Option<NarFacts>,
    ) -> Result<Doubt> {
        match self.current.get()?.upstreams.ask(hash, &Via::direct()).await {
            Verdict::Found(narinfo, upstream) => {
                let publication = Publication { narinfo: *narinfo, upstream, replaces: true };
                let stored = self.publish(publication).await?;
                self.near.invalidate(&[hash]);
                let is_same_nar = facts.is_some_and(|facts| facts.hash == stored.nar_hash);
                Ok(match named(&stored) == nar {
                    true => Doubt::SameFile,
                    false if is_same_nar => Doubt::SameNar,
                    false => Doubt::Gone,
                })
            }
            // It may be at the one that was not heard, and is found there again.
            Verdict::Absent(Heard::Some) => Ok(Doubt::Gone),
            Verdict::Absent(Heard::All) => {
                tracing::info!(%hash, %nar, "a path and its NAR are gone from every upstream");
                self.control.retract_narinfo(hash, nar).await?;
                self.near.invalidate(&[hash]);
                Ok(Doubt::Gone)
            }
            Verdict::Failed(error) => Err(error),
        }
    }

    /// Makes the store's narinfo files agree with control again. Where control knows none, and it `may_remove`, ours goes.
    /// Returns whether control knows one.
    pub async fn refresh(&self, hash: StorePathHash, may_remove: bool) -> Result<bool> {
        if let Lookup::Known(narinfo) = self.control.narinfo(hash).await? {
            self.write_beside_nar(narinfo);
            return Ok(true);
        }
        if !may_remove {
            return Ok(false);
        }
        let store = Arc::clone(&self.store);
        let removed = blocking(move || store.remove_narinfo(hash)).await;
        removed.map(|()| false).map_err(|e| Error::internal("remove a narinfo of the store").because(e))
    }
}

/// What control refuses to sign is the upstream's fault, not the client's.
fn upstreams_fault(error: Error) -> Error {
    match error.code() {
        Code::Invalid => {
            Error::new(Code::UpstreamFailed, "control refused an upstream's narinfo").because(error)
        }
        _ => error,
    }
}
