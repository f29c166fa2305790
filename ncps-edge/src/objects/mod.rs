//! Objects beside narinfos and NARs, passed through: from the disk, else from the upstreams in their order, the
//! first that has it. All requests for one object share one fetch, which belongs to none of them.
//!
//! What lasts (listings, logs) is asked for once. The rest is asked for again after the TTL, and served on where
//! no upstream can be asked. An absence that every upstream stated is remembered in memory for the negative TTL.
//! What a client uploaded is right for good, until somebody deletes it; it is also read where it rests at another edge
//! (see `keepers.rs`).
//! Nothing here is signed by us or proven: Nix checks realisations itself, and the others carry no promise.

mod buffer;
pub(crate) mod decode;
mod fetch;
mod keepers;
mod rules;
mod upload;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ncps_nix::ObjectName;
use ncps_proto::{Error, Result};
use ncps_runtime::tasks::Tasks;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::flights::Flights;
use crate::live::Current;
use crate::store::{LocalStore, ObjectStore, StoredObject, blocking};
use crate::transfer::Failure;
use crate::via::Via;

pub(crate) use buffer::file_is_json;
pub(crate) use keepers::Keepers;
pub use rules::{Rules, rules};
pub(crate) use upload::read_text;

/// Objects fetched at once; others wait for their turn, as many as there may be requests.
const FETCHES: usize = 32;
/// Absences that are remembered.
const ABSENCES: usize = 65_536;

/// An object to be served.
#[derive(Clone, Debug)]
pub struct Object {
    pub content: Content,
    /// The `Content-Encoding` of its bytes, where that is one that we can't decode.
    pub coding: Option<String>,
}

/// Where an object's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    Memory(Bytes),
    /// An open file, and its size in bytes.
    File(Arc<File>, u64),
}

/// All objects.
pub struct Objects {
    local: Arc<LocalStore>,
    store: Arc<ObjectStore>,
    current: Arc<Current>,
    tasks: Tasks,
    absent_until: Cache<ObjectName, Instant>,
    flights: Flights<(ObjectName, Via), Option<Object>>,
    fetches: Semaphore,
    /// Other edges, where there may be any.
    keepers: Option<Keepers>,
}

/// Fetches at once, those that wait for their turn included.
const MOST_RUNNING: usize = 4_096;

impl Objects {
    pub(crate) fn new(
        local: Arc<LocalStore>,
        store: Arc<ObjectStore>,
        current: Arc<Current>,
        tasks: Tasks,
        keepers: Option<Keepers>,
    ) -> Arc<Objects> {
        Arc::new(Objects {
            local,
            store,
            current,
            tasks,
            absent_until: Cache::new(ABSENCES),
            flights: Flights::new(MOST_RUNNING),
            fetches: Semaphore::new(FETCHES),
            keepers,
        })
    }

    /// The object, or `None` where no client brought it and every upstream said that it is absent.
    ///
    /// # Errors
    /// Where neither can be said: an upstream or another edge failed and none had it, or our disk did.
    pub async fn get(self: &Arc<Self>, name: &ObjectName, via: &Via) -> Result<Option<Object>> {
        let stored = self.stored(name).await?;
        if let Some(brought) = stored.as_ref().filter(|stored| stored.uploaded) {
            return Ok(Some(brought.into()));
        }
        let elsewhere = self.elsewhere(name).await;
        if let Ok(Some(object)) = elsewhere {
            return Ok(Some(object));
        }
        match self.of_upstreams(name, via, stored).await? {
            Some(object) => Ok(Some(object)),
            None => elsewhere,
        }
    }

    async fn of_upstreams(
        self: &Arc<Self>,
        name: &ObjectName,
        via: &Via,
        stored: Option<StoredObject>,
    ) -> Result<Option<Object>> {
        if let Some(fresh) = stored.as_ref().filter(|stored| self.is_fresh(name, stored)) {
            return Ok(Some(fresh.into()));
        }
        if self.current.loops(via) {
            return Ok(stored.as_ref().map(Object::from));
        }
        if stored.is_none() && self.is_absent(name) {
            return Ok(None);
        }
        let key = (name.clone(), via.clone());
        let fetch = || {
            let (this, (name, via)) = (Arc::clone(self), key.clone());
            async move { this.fetch_unless_stored(&name, &via).await.map_err(Failure::from) }
        };
        match (self.flights.join(&key, &self.tasks, "object", fetch).await, stored) {
            (Err(failure), Some(stored)) => {
                tracing::debug!(%name, error = Error::from(failure).story(), "served as it was");
                Ok(Some((&stored).into()))
            }
            (answer, _) => Ok(answer?),
        }
    }

    /// The object as it lies here; no upstream is asked.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn here(&self, name: &ObjectName) -> Result<Option<Object>> {
        Ok(self.stored(name).await?.as_ref().map(Object::from))
    }

    /// The object as a client brought it here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(crate) async fn brought(&self, name: &ObjectName) -> Result<Option<Object>> {
        Ok(self.stored(name).await?.filter(|stored| stored.uploaded).as_ref().map(Object::from))
    }

    /// The object as it lies here, or as a client brought it to another edge; no upstream is asked.
    ///
    /// # Errors
    /// Where it is not here, and may be elsewhere; where the disk fails.
    pub(crate) async fn kept(&self, name: &ObjectName) -> Result<Option<Object>> {
        match self.here(name).await? {
            Some(object) => Ok(Some(object)),
            None => self.elsewhere(name).await,
        }
    }

    /// Fetches that run right now.
    pub fn running(&self) -> usize {
        self.flights.running()
    }

    /// Who looked at the disk just before another fetch ended comes too late to share that, and finds what it brought.
    async fn fetch_unless_stored(&self, name: &ObjectName, via: &Via) -> Result<Option<Object>> {
        match self.stored(name).await?.filter(|stored| self.is_fresh(name, stored)) {
            Some(fresh) => Ok(Some((&fresh).into())),
            None => self.fetch(name, via).await,
        }
    }

    /// Whether it need not be asked for again.
    fn is_fresh(&self, name: &ObjectName, stored: &StoredObject) -> bool {
        rules(name).lasting || stored.uploaded || stored.age < self.ttl()
    }

    async fn stored(&self, name: &ObjectName) -> Result<Option<StoredObject>> {
        let (store, wanted) = (Arc::clone(&self.store), name.clone());
        let stored = blocking(move || store.get(&wanted)).await;
        stored.map_err(|e| Error::internal(format!("open {name}")).because(e))
    }

    /// Without a configuration nobody can be asked: what is there is right.
    fn ttl(&self) -> Duration {
        self.current.get().map_or(Duration::MAX, |live| live.settings.object_ttl)
    }

    fn is_absent(&self, name: &ObjectName) -> bool {
        self.absent_until.get(name).is_some_and(|until| Instant::now() < until)
    }
}

impl From<&StoredObject> for Object {
    fn from(stored: &StoredObject) -> Self {
        Object { content: Content::File(Arc::clone(&stored.file), stored.size), coding: None }
    }
}
