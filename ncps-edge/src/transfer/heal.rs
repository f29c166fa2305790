//! A stored file whose bytes are wrong: out of the store, and fetched again like any other.

use std::fs::Metadata;
use std::io;
use std::sync::Arc;

use ncps_nix::NarFileName;
use ncps_proto::{Code, Error, Location, Result};

use super::engine::Engine;
use super::evict::remove_narinfos;
use super::plan::Wanted;
use crate::store::{Fault, blocking};

impl Engine {
    /// Moves the file that was `seen` out of the store, with the narinfos that name it. False where another one has
    /// taken its place, or it is gone. Whoever reads it goes on.
    pub(crate) async fn quarantine(
        &self,
        name: NarFileName,
        seen: Metadata,
        fault: Fault,
    ) -> io::Result<bool> {
        let location = self.locate(name).await;
        let narinfos = location.ok().flatten().map(|location| location.store_paths).unwrap_or_default();
        let store = Arc::clone(self.store());
        let moved = move || {
            let moved = store.quarantine(name, &seen, fault)?;
            if moved && store.open(name)?.is_none() {
                remove_narinfos(&store, name, &narinfos)?;
            }
            Ok(moved)
        };
        let moved = blocking(moved).await;
        self.news().changed(name);
        moved
    }

    /// Fetches a file as for a client, and waits until it is in the store.
    ///
    /// # Errors
    /// [`Code::Absent`] where every source says that it has none; else what kept it from coming.
    pub(crate) async fn refetch(self: &Arc<Self>, name: NarFileName) -> Result<()> {
        let mut reader = self.join(&Wanted::ours(name))?;
        reader.proven().await?;
        drop(reader);
        self.at_rest(name).await;
        match self.stored(name).await? {
            Some(_) => Ok(()),
            None => Err(Error::new(Code::StorageFull, "it came, and there was no room for it")),
        }
    }

    /// What control knows of a file.
    pub(crate) async fn locate(&self, name: NarFileName) -> Result<Option<Location>> {
        self.control().locate(self.instance(), name).await
    }
}
