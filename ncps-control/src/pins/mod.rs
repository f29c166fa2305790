//! Pins: roots whose whole closure is not evicted, with a label, who made them, and maybe an end.
//!
//! They are few, so all of them are in memory; their rows are written before they count. What they protect is
//! kept by [`closure`]; the index says to it what comes and goes. Absent on purpose: what may be pinned (see
//! [`crate::control`]) and eviction.

pub(crate) mod closure;

use std::collections::BTreeMap;
use std::sync::Arc;

use ncps_nix::{StorePath, StorePathHash};
use ncps_proto::admin::EventKind;
use ncps_proto::{Code, Error, Result};
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::db::Db;
use crate::index::Index;
use crate::journal::{Journal, Note};
pub use closure::Extent;

/// Pins at most.
pub(crate) const MOST: usize = 10_000;

/// A root that is not evicted, with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub path: StorePath,
    /// What it is called. Several pins may have one label.
    pub label: Option<String>,
    /// Who made it.
    pub made_by: String,
    pub created_at: UnixTime,
    /// From then on it protects nothing.
    pub expires_at: Option<UnixTime>,
}

impl Pin {
    fn key(&self) -> Key {
        (self.path.hash(), self.label.clone())
    }

    /// What the journal says of it.
    pub(crate) fn note(&self, kind: EventKind, more: &str) -> Note {
        let label = self.label.as_ref().map(|label| format!(", label {label}")).unwrap_or_default();
        Note::new(kind, format!("{}{label}{more}", self.path)).path(self.path.hash())
    }

    fn is_over(&self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

type Key = (StorePathHash, Option<String>);

/// Every pin.
pub(crate) struct Pins {
    db: Db,
    index: Arc<Index>,
    journal: Arc<Journal>,
    all: Mutex<BTreeMap<Key, Pin>>,
    /// Filled once the rows were read.
    read: OnceCell<()>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Pins {
    pub(crate) fn new(db: Db, index: Arc<Index>, journal: Arc<Journal>) -> Pins {
        Pins {
            db,
            index,
            journal,
            all: Mutex::default(),
            read: OnceCell::new(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whose narinfos say what they protect.
    pub(crate) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Waits until it is known all that pins protect. What comes from then on is protected at once.
    ///
    /// # Errors
    /// Where the database can't be read: then nobody knows.
    pub(crate) async fn settled(&self) -> Result<()> {
        self.read.get_or_try_init(|| self.read()).await?;
        self.index.settle_closures().await
    }

    async fn read(&self) -> Result<()> {
        for pin in self.db.pins().await? {
            self.index.closures().add_root(pin.path.hash());
            self.all.lock().insert(pin.key(), pin);
        }
        Ok(())
    }

    /// Those that count, by label and path.
    pub(crate) async fn list(&self, now: UnixTime) -> Result<Vec<Pin>> {
        self.settled().await?;
        let mut pins: Vec<Pin> = self.all.lock().values().filter(|pin| !pin.is_over(now)).cloned().collect();
        pins.sort_by(|a, b| (&a.label, &a.path).cmp(&(&b.label, &b.path)));
        Ok(pins)
    }

    /// Those that keep a path, by label and path.
    pub(crate) async fn keeping(&self, path: StorePathHash, now: UnixTime) -> Result<Vec<Pin>> {
        let mut pins = self.list(now).await?;
        if pins.is_empty() {
            return Ok(pins);
        }
        let roots = self.index.closures().roots_of(path);
        pins.retain(|pin| roots.contains(&pin.path.hash()));
        Ok(pins)
    }

    /// Adds a pin, or gives another end to the one of this path and label. Returns what it protects.
    ///
    /// # Errors
    /// [`Code::Invalid`] where there are too many, or too much would be protected.
    pub(crate) async fn add(&self, pin: Pin) -> Result<Extent> {
        self.settled().await?;
        let _turn = self.turn.lock().await;
        let (key, root) = (pin.key(), pin.path.hash());
        let is_new = !self.all.lock().contains_key(&key);
        if is_new && self.all.lock().len() >= MOST {
            return Err(Error::new(Code::Invalid, format!("there are {MOST} pins, which is the most")));
        }
        self.index.closures().add_root(root);
        let added = self.add_settled(&pin).await;
        match added {
            Ok(()) => drop(self.all.lock().insert(key, pin)),
            // What was not added protects nothing.
            Err(_) => self.release(root),
        }
        added.map(|()| self.index.closures().extent_of(root))
    }

    async fn add_settled(&self, pin: &Pin) -> Result<()> {
        self.index.settle_closures().await?;
        if self.index.closures().is_full() {
            let most = closure::MOST_PATHS;
            return Err(Error::new(Code::Invalid, format!("more than {most} paths would be pinned")));
        }
        Ok(self.db.put_pin(pin).await?)
    }

    /// Removes those that are `meant`; returns them.
    pub(crate) async fn remove(&self, meant: impl Fn(&Pin) -> bool) -> Result<Vec<Pin>> {
        self.settled().await?;
        let _turn = self.turn.lock().await;
        let removed: Vec<Pin> = self.all.lock().values().filter(|pin| meant(pin)).cloned().collect();
        for pin in &removed {
            self.db.delete_pin(pin).await?;
            self.all.lock().remove(&pin.key());
            self.release(pin.path.hash());
        }
        Ok(removed)
    }

    /// Removes those whose time is over.
    pub(crate) async fn expire(&self, now: UnixTime) -> Result<()> {
        for pin in self.remove(|pin| pin.is_over(now)).await? {
            tracing::info!(path = %pin.path, label = pin.label, "a pin has ended");
            self.journal.note(pin.note(EventKind::Unpinned, ", its time was over"));
        }
        Ok(())
    }

    /// The root counts no longer, unless another pin has it.
    fn release(&self, root: StorePathHash) {
        let pinned = self.all.lock().keys().any(|(hash, _)| *hash == root);
        if !pinned {
            self.index.closures().remove_root(root);
        }
    }

    /// How many there are; 0 before they were read.
    pub(crate) fn count(&self) -> usize {
        self.all.lock().len()
    }
}
