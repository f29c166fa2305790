//! Once a start: narinfo files and NAR files are made to agree, which a process that was killed between the two leaves
//! undone. A narinfo file whose NAR file is gone goes; a NAR file that control's narinfos name and that has none beside
//! it is proven again, and said to control, which then gives them. A narinfo file that nothing of ours signed was
//! written while control was away, by a process that could not tell it: control's takes its place as soon as it has one.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ncps_nix::{NarFileName, NarInfo, StorePathHash, TrustedKeys};
use ncps_proto::{Commit, HeldNar, Location};

use super::Workshop;
use super::check::{Finding, Look};
use super::pace::Pace;
use crate::near::named;
use crate::store::{Fault, LocalStore, blocking};

/// How often, and how far apart, control is asked for what it may be about to take over from this edge or another.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(3);

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
        let ours = self.own_keys();
        let Undone { bare, unsigned } = blocking(move || undone(&store, &ours)).await?;
        for held in bare {
            // Who can't be asked now is asked at the next start.
            let Ok(Some(location)) = self.engine.locate(held.name).await else { continue };
            if location.name == held.name && !location.store_paths.is_empty() {
                self.say_again(held, location).await?;
            }
        }
        self.sign(unsigned).await;
        Ok(())
    }

    /// Our keys, of now and of before; none where control signs nothing.
    fn own_keys(&self) -> TrustedKeys {
        let live = self.current.get();
        TrustedKeys::from_iter(live.map(|live| live.settings.public_keys.clone()).unwrap_or_default())
    }

    async fn sign(&self, mut unsigned: Vec<StorePathHash>) {
        for _ in 0..TRIES {
            let mut unknown = Vec::new();
            for hash in unsigned {
                // Nothing is removed: control may be about to take it over.
                if !self.lookups.refresh(hash, false).await.unwrap_or(false) {
                    unknown.push(hash);
                }
            }
            if unknown.is_empty() {
                return;
            }
            unsigned = unknown;
            tokio::time::sleep(PAUSE).await;
        }
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
                    recipe: None,
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

/// What a former process left.
struct Undone {
    /// NAR files that no narinfo file names.
    bare: Vec<HeldNar>,
    /// Narinfo files without a signature of ours.
    unsigned: Vec<StorePathHash>,
}

/// Removes narinfo files whose NAR file is gone; returns what else is to be done.
fn undone(store: &LocalStore, ours: &TrustedKeys) -> io::Result<Undone> {
    let (mut with_narinfo, mut unsigned) = (HashSet::new(), Vec::new());
    for hash in store.narinfos()? {
        let Some(text) = store.narinfo(hash)? else { continue };
        // Who else put something there knows what it is.
        let Ok(narinfo) = NarInfo::parse(&text) else { continue };
        let name = named(&narinfo);
        if store.open(name)?.is_some() {
            with_narinfo.insert(name);
            if !ours.is_empty() && ours.verify(&narinfo).is_none() {
                unsigned.push(hash);
            }
        } else {
            tracing::info!(path = %narinfo.store_path, "a narinfo file whose NAR is gone is removed");
            store.remove_narinfo(hash)?;
        }
    }
    let mut bare = store.list()?;
    bare.retain(|held| !with_narinfo.contains(&held.name));
    Ok(Undone { bare, unsigned })
}
