//! NAR files of which a client heard that they are here, so that it sends their narinfo next. For a minute they are
//! not evicted: what a client was told has to hold until its narinfo can be there.
//!
//! Absent on purpose: anything after the narinfo came (control knows then what would be lost), and removals that
//! somebody asked for, which wait for nobody.

use std::collections::HashMap;
use std::time::Duration;

use ncps_nix::NarFileName;
use parking_lot::Mutex;
use tokio::time::Instant;

/// From the answer about a NAR to the narinfo. Nix sends it at once.
const GRACE: Duration = Duration::from_secs(60);
/// Names that are remembered, about 100 bytes each. Beyond them none is added: it is a courtesy, no promise.
const MOST: usize = 16_384;

/// The names, each until its narinfo should have come.
#[derive(Default)]
pub(super) struct Awaited(Mutex<HashMap<NarFileName, Instant>>);

impl Awaited {
    /// A client is about to hear that the file is here. Waits for an eviction that goes on.
    pub(super) fn note(&self, name: NarFileName) {
        let (mut names, now) = (self.0.lock(), Instant::now());
        if names.len() >= MOST {
            names.retain(|_, until| now < *until);
        }
        if names.len() < MOST || names.contains_key(&name) {
            names.insert(name, now + GRACE);
        }
    }

    /// Its narinfo came.
    pub(super) fn came(&self, name: NarFileName) {
        self.0.lock().remove(&name);
    }

    /// Does something unless the file is awaited; meanwhile nobody hears that it is here. `None` where it is awaited.
    pub(super) fn unless_awaited<T>(&self, name: NarFileName, act: impl FnOnce() -> T) -> Option<T> {
        let names = self.0.lock();
        let is_awaited = names.get(&name).is_some_and(|until| Instant::now() < *until);
        (!is_awaited).then(act)
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    use super::*;

    fn file(seed: usize) -> NarFileName {
        let hash = FileHash(Sha256Hash::of(&seed.to_le_bytes()));
        NarFileName { hash, compression: Compression::None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_kept_until_its_narinfo_came_or_a_minute_is_over() {
        let awaited = Awaited::default();
        assert!(awaited.unless_awaited(file(1), || ()).is_some());
        awaited.note(file(1));
        awaited.note(file(2));
        assert!(awaited.unless_awaited(file(1), || ()).is_none());
        awaited.came(file(1));
        assert!(awaited.unless_awaited(file(1), || ()).is_some());
        tokio::time::advance(GRACE).await;
        assert!(awaited.unless_awaited(file(2), || ()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_is_bounded_and_loses_none_that_is_remembered() {
        let awaited = Awaited::default();
        (0..=MOST).for_each(|n| awaited.note(file(n)));
        assert!(awaited.unless_awaited(file(0), || ()).is_none());
        assert!(awaited.unless_awaited(file(MOST), || ()).is_some());
        tokio::time::advance(GRACE).await;
        awaited.note(file(MOST));
        assert!(awaited.unless_awaited(file(MOST), || ()).is_none());
        assert_eq!(awaited.0.lock().len(), 1);
    }
}
