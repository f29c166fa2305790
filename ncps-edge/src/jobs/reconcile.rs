//! Once a start: narinfo files and NAR files are made to agree, which a process that was killed between the two leaves
//! undone. A narinfo file whose NAR file is gone goes; a NAR file that control's narinfos name and that has none beside
//! it is proven again, and said to control, which then gives them.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ncps_nix::{NarFileName, NarInfo};
use ncps_proto::{Commit, HeldNar, Location};

use super::Workshop;
use super::check::{Finding, Look};
use super::pace::Pace;
use crate::near::named;
use crate::store::{Fault, LocalStore, blocking};

impl Workshop {
    /// Begins it, unless it was.
    pub(crate) fn reconcile_once(self: &Arc<Self>) {
        if self.reconciled.swap(true, Ordering::SeqCst) {
            return;
        }
        let (workshop, stop) = (Arc::clone(self), self.tasks.life().hard());
        self.tasks.spawn_background("reconcile", async move {
            if let Some(Err(error)) = stop.run_until_cancelled(workshop.reconcile()).await {
                tracing::warn!(%error, "narinfo files and NAR files could not be compared");
            }
        });
    }

    async fn reconcile(self: &Arc<Self>) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let bare = blocking(move || bare(&store)).await?;
        for held in bare {
            // Who can't be asked now is asked at the next start.
            let Ok(Some(location)) = self.engine.locate(held.name).await else { continue };
            if location.name == held.name && !location.store_paths.is_empty() {
                self.say_again(held, location).await?;
            }
        }
        Ok(())
    }

    async fn say_again(self: &Arc<Self>, held: HeldNar, location: Location) -> io::Result<()> {
        let name = held.name;
        let mut look = Look {
            store: Arc::clone(&self.store),
            deep: true,
            pace: Pace::new(None, Instant::now()),
            read: Arc::default(),
            stop: self.tasks.life().hard().child_token(),
        };
        match blocking(move || look.at(name)).await? {
            Finding::Right { nar: Some(nar), .. } if location.nar.is_none_or(|claimed| claimed == nar) => {
                tracing::info!(nar = %name, "a NAR without its narinfo file is said to control again");
                let commit = Commit {
                    name,
                    asked_as: None,
                    file_size: held.file_size,
                    nar,
                    origin: None,
                    uploaded: false,
                    meanwhile: Vec::new(),
                };
                self.engine.announce(commit).await;
            }
            Finding::Right { .. } | Finding::Missing => {}
            Finding::Wrong { seen, reason } => self.put_away(name, seen, Fault::Wrong, reason).await?,
            Finding::Unreadable { seen, reason } => {
                self.put_away(name, seen, Fault::Unreadable, reason).await?;
            }
        }
        Ok(())
    }

    async fn put_away(
        &self,
        name: NarFileName,
        seen: std::fs::Metadata,
        fault: Fault,
        reason: String,
    ) -> io::Result<()> {
        tracing::error!(nar = %name, reason, "a stored NAR file is in quarantine");
        self.engine.quarantine(name, seen, fault).await.map(drop)
    }
}

/// Removes narinfo files whose NAR file is gone; returns the NAR files that no narinfo file names.
fn bare(store: &LocalStore) -> io::Result<Vec<HeldNar>> {
    let mut with_narinfo = HashSet::new();
    for hash in store.narinfos()? {
        let Some(text) = store.narinfo(hash)? else { continue };
        // Who else put something there knows what it is.
        let Ok(narinfo) = NarInfo::parse(&text) else { continue };
        let name = named(&narinfo);
        if store.open(name)?.is_some() {
            with_narinfo.insert(name);
        } else {
            tracing::info!(path = %narinfo.store_path, "a narinfo file whose NAR is gone is removed");
            store.remove_narinfo(hash)?;
        }
    }
    let mut held = store.list()?;
    held.retain(|held| !with_narinfo.contains(&held.name));
    Ok(held)
}
