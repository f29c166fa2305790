//! Lookups while control can't be asked: what was near before, what lies on the disk, and for the rest what the policy
//! says: the upstreams with their own signatures, or nothing.
//!
//! Only what control did not answer is looked up so. What it refuses, and what it has too much of, is said to clients.

use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo, StorePathHash, TrustedKeys};
use ncps_proto::{Code, Error, Location, NarFacts, Publication, Result, WhenAway};

use super::{Found, Lookups};
use crate::alone::Alone;
use crate::near::Served;
use crate::store::blocking;
use crate::upstream::Verdict;
use crate::via::Via;

impl Lookups {
    /// What is known of a path without control. Upstreams are asked where there is a way that the request came: who has
    /// none gets only what is here.
    pub(super) async fn without_control(
        &self,
        hash: StorePathHash,
        via: Option<&Via>,
        error: Error,
    ) -> Result<Option<Found>> {
        let asks = via.filter(|_| self.may_vouch(&error));
        if let Some(served) = self.alone.served(hash).filter(|_| asks.is_some()) {
            self.metrics.upstream_signed.inc(());
            return Ok(Some(Found::here(served)));
        }
        if let Some(served) = self.near.of_any_age(hash) {
            return Ok(Some(Found::here(served)));
        }
        if let Some(narinfo) = self.on_disk(hash).await? {
            return Ok(Some(Found::here(Arc::new(Served::from(&narinfo)))));
        }
        match asks {
            Some(via) => self.ask_upstreams_alone(hash, via).await,
            None => Err(away(error)),
        }
    }

    /// Whether upstreams may vouch for a path that control could not be asked about.
    pub(super) fn may_vouch(&self, error: &Error) -> bool {
        let policy = || self.current.get().map(|live| live.settings.when_away);
        error.code() == Code::Unavailable && policy().is_ok_and(|policy| policy == WhenAway::UpstreamSigned)
    }

    /// A narinfo as it is served with its upstream's signatures.
    pub(super) fn vouch(&self, publication: Publication) -> Arc<Served> {
        tracing::debug!(path = %publication.narinfo.store_path, upstream = publication.upstream,
            "served with its upstream's signatures, since control is away");
        self.metrics.upstream_signed.inc(());
        self.alone.vouch(publication)
    }

    async fn ask_upstreams_alone(&self, hash: StorePathHash, via: &Via) -> Result<Option<Found>> {
        if self.alone.is_absent(hash) {
            return Ok(None);
        }
        let live = self.current.get()?;
        match live.upstreams.ask(hash, via).await {
            Verdict::Found(narinfo, upstream) => {
                let publication = Publication { narinfo: *narinfo, upstream, replaces: false };
                Ok(Some(Found { served: self.vouch(publication), from_upstream: true }))
            }
            Verdict::Absent(_) => {
                if via.is_direct() {
                    self.alone.put_absent(hash);
                }
                Ok(None)
            }
            Verdict::Failed(error) => self.unless_called_absent(hash, error),
        }
    }

    /// The narinfo beside its NAR, where somebody vouches for it whom control would believe.
    async fn on_disk(&self, hash: StorePathHash) -> Result<Option<NarInfo>> {
        let store = Arc::clone(&self.store);
        let read = blocking(move || store.narinfo(hash)).await;
        let text = read.map_err(|e| Error::internal("read a narinfo of the store").because(e))?;
        let Some(text) = text else { return Ok(None) };
        let Some(narinfo) = NarInfo::parse(&text).ok().filter(|n| n.store_path.hash() == hash) else {
            tracing::error!(%hash, "a narinfo of the store is damaged: it is not served");
            return Ok(None);
        };
        if !self.is_believed(&narinfo) {
            tracing::warn!(path = %narinfo.store_path, "nothing vouches for a narinfo of the store: it is not served");
            return Ok(None);
        }
        Ok(Some(narinfo))
    }

    /// Whether a narinfo that lay in the store is one that control could have made. Where control signs nothing, that can't
    /// be told.
    fn is_believed(&self, narinfo: &NarInfo) -> bool {
        let Ok(live) = self.current.get() else { return false };
        let settings = &live.settings;
        let keys = settings.public_keys.iter().chain(&settings.trusted_keys).cloned();
        settings.public_keys.is_empty()
            || settings.upstreams.iter().any(|upstream| upstream.unsigned)
            || TrustedKeys::from_iter(keys).verify(narinfo).is_some()
            || narinfo.proves_itself()
    }

    /// What the edge found out by itself.
    pub(crate) fn alone(&self) -> &Alone {
        &self.alone
    }

    /// Where a file can come from, as far as that is known here.
    pub(crate) fn location_without_control(&self, name: NarFileName) -> Option<Location> {
        let policy = self.current.get().ok()?.settings.when_away;
        if policy == WhenAway::StoredOnly {
            return None;
        }
        self.alone.location(name).or_else(|| {
            let near = self.near.naming(name);
            let narinfo = near.first()?.narinfo().ok()?;
            Some(Location {
                name,
                file_size: narinfo.file_size,
                nar: Some(NarFacts { hash: narinfo.nar_hash, size: narinfo.nar_size }),
                proven: false,
                uploaded: false,
                held: false,
                away: false,
                origins: Vec::new(),
                representations: Vec::new(),
                store_paths: near.iter().map(|served| served.hash).collect(),
                peers: Vec::new(),
                recipe: None,
            })
        })
    }

    /// The narinfos that name a file, as far as they are known here.
    pub(crate) fn naming_without_control(&self, name: NarFileName) -> Vec<NarInfo> {
        let mut naming = self.near.naming(name);
        let known: Vec<_> = naming.iter().map(|served| served.hash).collect();
        naming.extend(self.alone.naming(name).into_iter().filter(|served| !known.contains(&served.hash)));
        naming.iter().filter_map(|served| served.narinfo().ok()).collect()
    }

    /// A session with control begins. Something may have been invalidated while nobody could tell us; from here on
    /// control does. Not sooner: while it is away, what is near is all that there is. With other keys, or another index,
    /// nothing of it is of use.
    pub(crate) fn attached(&self, anew: bool, is_coming: impl Fn(NarFileName) -> bool) {
        if anew {
            self.near.clear();
        } else {
            self.near.outdate();
        }
        self.alone.end(is_coming);
    }
}

fn away(error: Error) -> Error {
    Error::new(Code::Unavailable, "control is away").because(error)
}
