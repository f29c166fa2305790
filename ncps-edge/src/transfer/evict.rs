//! Removing what control names. A file that a transfer is about to put there stays; one that is being read goes,
//! and its readers keep it open.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::Victim;
use ncps_runtime::fault::{self, Point};
use parking_lot::Mutex;

use super::engine::Engine;
use crate::near::named;
use crate::store::{LocalStore, blocking};

/// Names under which a file is being put into the store.
#[derive(Default)]
pub(super) struct Commits(Mutex<HashSet<NarFileName>>);

impl Commits {
    /// Keeps a name from eviction while the result lives.
    pub(super) fn begin(&self, name: NarFileName) -> Committing<'_> {
        self.0.lock().insert(name);
        Committing { all: self, name }
    }

    fn has(&self, name: NarFileName) -> bool {
        self.0.lock().contains(&name)
    }
}

/// A name that is being committed.
pub(super) struct Committing<'c> {
    all: &'c Commits,
    name: NarFileName,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

impl Engine {
    /// Removes NAR files and the narinfos that name them, and notes it for control. What is in use, and what
    /// can't be removed, stays.
    pub async fn evict(self: &Arc<Self>, victims: Vec<Victim>) {
        let engine = Arc::clone(self);
        let evict = move || {
            let gone = victims.iter().filter(|victim| engine.evict_one(victim)).map(|victim| victim.name);
            let gone: Vec<_> = gone.collect();
            let some = !gone.is_empty();
            // Said in the order in which it happened: a file that comes again is said after this.
            engine.news().evicted(gone);
            Ok(some)
        };
        let some = blocking(evict).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an eviction ended early");
            false
        });
        self.room().evicted(some);
    }

    fn evict_one(&self, victim: &Victim) -> bool {
        let name = victim.name;
        if self.is_running(name) || self.commits().has(name) {
            return false;
        }
        let removed = remove(self.store(), victim);
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
