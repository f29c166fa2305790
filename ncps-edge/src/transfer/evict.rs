//! Removing what control names. A file that is being read goes, and its readers keep it open. What a transfer is about
//! to put there stays where it is evicted; where it is removed its readers get it, and it is not kept.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::Victim;
use ncps_runtime::fault::{self, Point};
use parking_lot::Mutex;

use super::engine::Engine;
use crate::attach::Ticket;
use crate::near::named;
use crate::store::{LocalStore, blocking};

/// Names under which a file is being put into the store, and how often at once.
#[derive(Default)]
pub(super) struct Commits(Mutex<HashMap<NarFileName, usize>>);

impl Commits {
    /// Keeps a name from eviction while the result lives.
    pub(super) fn begin(&self, name: NarFileName) -> Committing<'_> {
        *self.0.lock().entry(name).or_default() += 1;
        Committing { all: self, name }
    }

    fn has(&self, name: NarFileName) -> bool {
        self.0.lock().contains_key(&name)
    }
}

/// A name that is being committed.
pub(super) struct Committing<'c> {
    all: &'c Commits,
    name: NarFileName,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(count) = all.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.name);
            }
        }
    }
}

/// Counts removals, to tell transfers that began before one.
pub(super) type Epoch = u64;

/// Names that were removed while transfers ran, which may bring them again. Those of which no running transfer is
/// older are forgotten.
#[derive(Default)]
pub(super) struct Removals(Mutex<Removed>);

#[derive(Default)]
struct Removed {
    epoch: Epoch,
    names: HashMap<NarFileName, Epoch>,
}

impl Removals {
    pub(super) fn epoch(&self) -> Epoch {
        self.0.lock().epoch
    }

    /// `oldest` is when the oldest running transfer began.
    pub(super) fn note(&self, names: &[NarFileName], oldest: Option<Epoch>) {
        let mut removed = self.0.lock();
        removed.epoch += 1;
        let epoch = removed.epoch;
        removed.names.retain(|_, at| oldest.is_some_and(|oldest| *at > oldest));
        if oldest.is_some() {
            removed.names.extend(names.iter().map(|name| (*name, epoch)));
        }
    }

    /// Does something unless the name was removed since; a removal waits for its end.
    pub(super) fn unless_removed<T>(
        &self,
        name: NarFileName,
        since: Epoch,
        act: impl FnOnce() -> T,
    ) -> Option<T> {
        let removed = self.0.lock();
        let was_removed = removed.names.get(&name).is_some_and(|at| *at > since);
        (!was_removed).then(act)
    }
}

impl Engine {
    /// Takes paths out of the store, and NAR files that nothing names any more, and says so to control.
    pub async fn remove(
        self: &Arc<Self>,
        ticket: Ticket,
        store_paths: Vec<StorePathHash>,
        nars: Vec<NarFileName>,
    ) {
        self.note_removal(&nars);
        let (engine, paths) = (Arc::clone(self), store_paths.clone());
        let gone = blocking(move || {
            // First: a crash in between must not leave narinfos that name nothing.
            paths.iter().try_for_each(|hash| engine.store().remove_narinfo(*hash))?;
            fault::point(Point::RemovedBare);
            let gone = nars.into_iter().filter(|name| engine.removes(*name)).collect::<Vec<_>>();
            // And after it: one may have been written meanwhile.
            paths.iter().try_for_each(|hash| engine.store().remove_narinfo(*hash))?;
            fault::point(Point::RemovedGone);
            Ok(gone)
        });
        let gone = gone.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what was removed is still in the store");
            Vec::new()
        });
        for hash in store_paths {
            // Written meanwhile, or published anew: control knows.
            if let Err(error) = self.lookups().refresh(hash, true).await {
                tracing::warn!(%hash, error = error.story(), "the narinfo in the store may be behind");
            }
        }
        let some = !gone.is_empty();
        self.news().done(ticket, gone);
        self.room().evicted(some);
    }

    fn removes(&self, name: NarFileName) -> bool {
        let removed = self.store().remove(name);
        if let Err(error) = &removed {
            tracing::warn!(nar = %name, %error, "a NAR file can't be removed");
        }
        removed.is_ok()
    }

    /// Removes NAR files and the narinfos that name them, and notes it for control. What is in use, and what
    /// can't be removed, stays.
    pub async fn evict(self: &Arc<Self>, ticket: Ticket, victims: Vec<Victim>) {
        let engine = Arc::clone(self);
        let evict = move || {
            let gone = victims.iter().filter(|victim| engine.evict_one(victim)).map(|victim| victim.name);
            Ok(gone.collect())
        };
        let gone: Vec<_> = blocking(evict).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an eviction ended early");
            Vec::new()
        });
        let some = !gone.is_empty();
        self.news().done(ticket, gone);
        self.room().evicted(some);
    }

    fn evict_one(&self, victim: &Victim) -> bool {
        let name = victim.name;
        if self.is_running(name) || self.commits().has(name) {
            return false;
        }
        let Some(removed) = self.awaited().unless_awaited(name, || remove(self.store(), victim)) else {
            return false;
        };
        if let Err(error) = &removed {
            tracing::warn!(nar = %name, %error, "a NAR file can't be evicted");
        }
        removed.is_ok()
    }
}

/// Narinfos first: a crash in between must not leave one that names nothing. And after it again: one may have
/// been written meanwhile.
fn remove(store: &LocalStore, Victim { name, narinfos }: &Victim) -> io::Result<()> {
    remove_narinfos(store, *name, narinfos)?;
    fault::point(Point::VictimBare);
    store.remove(*name)?;
    fault::point(Point::VictimGone);
    remove_narinfos(store, *name, narinfos)
}

/// Those that still name the file.
pub(super) fn remove_narinfos(
    store: &LocalStore,
    name: NarFileName,
    narinfos: &[StorePathHash],
) -> io::Result<()> {
    for hash in narinfos {
        let Some(text) = store.narinfo(*hash)? else { continue };
        if NarInfo::parse(&text).map_or(true, |narinfo| named(&narinfo) == name) {
            store.remove_narinfo(*hash)?;
        }
    }
    Ok(())
}
