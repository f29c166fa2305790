//! One object from the upstreams, in their order: taken in whole, decoded, checked, and kept.

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::ObjectName;
use ncps_proto::{Code, Error, Heard, Result};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::buffer::{Taken, Trouble, take};
use super::decode::decoded;
use super::{Content, Object, Objects, Rules, rules};
use crate::live::Live;
use crate::store::{ObjectFrom, blocking};
use crate::upstream::{Coding, ObjectBody, UpstreamError};
use crate::via::Via;

/// For one body. An upstream that drips can't hold a slot for longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);

impl Objects {
    pub(super) async fn fetch(&self, name: &ObjectName, via: &Via) -> Result<Option<Object>> {
        let live = self.current.get()?;
        let _slot = self.slot().await?;
        let mut tally = live.upstreams.tally();
        for upstream in live.upstreams.names() {
            match self.try_upstream(upstream, name, via, &live).await {
                Ok(Some(object)) => return Ok(Some(object)),
                Ok(None) => tally.absent(),
                Err(Trouble::Disk(error)) => {
                    let message = format!("the disk can't take {name} in");
                    return Err(Error::new(Code::Unavailable, message).because(error));
                }
                Err(Trouble::Upstream(error)) => {
                    match error {
                        UpstreamError::Paused | UpstreamError::Waiting(_) => {}
                        _ => tracing::warn!(upstream, %name, %error, "an upstream's object is not used"),
                    }
                    live.upstreams.failed(&mut tally, upstream, error);
                }
            }
        }
        self.without(name, via, tally.heard(), &live).await
    }

    /// The right to take one object in. It lasts as long as the result.
    pub(super) async fn slot(&self) -> Result<SemaphorePermit<'_>> {
        self.fetches.acquire().await.map_err(|e| Error::internal("slots for objects").because(e))
    }

    async fn try_upstream(
        &self,
        upstream: &str,
        name: &ObjectName,
        via: &Via,
        live: &Live,
    ) -> std::result::Result<Option<Object>, Trouble> {
        let body = live.upstreams.object(upstream, name, via).await.map_err(Trouble::Upstream)?;
        let Some(ObjectBody { stream, coding }) = body else { return Ok(None) };
        let rules = rules(name);
        let taken = take(decoded(stream, &coding), rules.limit, &self.local);
        let taken = tokio::time::timeout(BODY_TIMEOUT, taken).await;
        let taken = taken.map_err(|_| Trouble::Upstream(UpstreamError::Stalled))??;
        if let Coding::Other(coding) = coding {
            // Nobody knows what is in it: it is passed on and not kept.
            return Ok(Some(Object { content: content(&taken), coding: Some(coding) }));
        }
        check(&taken, rules).await.map_err(Trouble::Upstream)?;
        Ok(Some(self.keep(name, taken, live.settings.max_objects_bytes).await))
    }

    /// What can't be kept is served all the same.
    async fn keep(&self, name: &ObjectName, taken: Taken, budget: u64) -> Object {
        self.absent_until.remove(name);
        let object = Object { content: content(&taken), coding: None };
        let (store, kept) = (Arc::clone(&self.store), name.clone());
        let written = blocking(move || match taken {
            Taken::Memory(bytes) => store.put(&kept, &bytes, ObjectFrom::Upstream, budget),
            Taken::Spooled(spool, size) => store.commit(&kept, spool, size, ObjectFrom::Upstream, budget),
        });
        if let Err(error) = written.await {
            tracing::warn!(%name, %error, "an object can't be kept");
        }
        object
    }

    /// Nobody had it. Remembered, and forgotten here, only where everybody was heard.
    async fn without(
        &self,
        name: &ObjectName,
        via: &Via,
        heard: Result<Heard>,
        live: &Live,
    ) -> Result<Option<Object>> {
        match heard {
            Ok(Heard::All) if via.is_direct() => {
                self.absent_until.insert(name.clone(), Instant::now() + live.settings.negative_ttl);
                self.forget(name).await;
                Ok(None)
            }
            Ok(_) => Ok(None),
            Err(error) if live.settings.absent_on_upstream_failure => {
                tracing::warn!(%name, error = error.story(), "answered as absent, as configured");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, name: &ObjectName) {
        let (store, gone) = (Arc::clone(&self.store), name.clone());
        if let Err(error) = blocking(move || store.forget(&gone)).await {
            tracing::warn!(%name, %error, "an object that is gone upstream can't be removed");
        }
    }
}

pub(super) fn content(taken: &Taken) -> Content {
    match taken {
        Taken::Memory(bytes) => Content::Memory(bytes.clone()),
        Taken::Spooled(spool, size) => Content::File(spool.file(), *size),
    }
}

async fn check(taken: &Taken, rules: Rules) -> std::result::Result<(), UpstreamError> {
    if rules.json && !taken.is_json().await { Err(UpstreamError::NotJson) } else { Ok(()) }
}
