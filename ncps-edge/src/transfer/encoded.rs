//! The zstd file of a NAR that is asked for uncompressed: a client that decodes zstd itself gets it as it lies in the
//! store.
//!
//! What was committed here is remembered; else control is asked. Nothing is fetched or decoded for it. Absent: who
//! may have it so (HTTP's business).

use ncps_nix::{Compression, NarFileName, NarHash};
use ncps_proto::{Commit, Result};
use quick_cache::sync::Cache;

use super::engine::Engine;
use crate::store::StoredNar;

/// NARs of which it is remembered.
const REMEMBERED: usize = 65_536;

/// The zstd files that are known without asking control. They may have been evicted since.
pub(super) struct Encodings(Cache<NarHash, NarFileName>);

impl Default for Encodings {
    fn default() -> Self {
        Encodings(Cache::new(REMEMBERED))
    }
}

impl Encodings {
    /// A file whose NAR was proven came into the store.
    pub(super) fn committed(&self, commit: &Commit) {
        if commit.name.compression == Compression::Zstd {
            self.0.insert(commit.nar.hash, commit.name);
        }
    }
}

/// A stored zstd file.
pub struct StoredZstd {
    pub name: NarFileName,
    pub stored: StoredNar,
}

impl Engine {
    /// The zstd file of the uncompressed NAR `plain`, if it is in the store. Where nothing is remembered control is
    /// asked only if `ask`. None while a transfer of `plain` runs, whose readers share it.
    ///
    /// # Errors
    /// Where the disk fails. That control can't be asked is none.
    pub async fn zstd_of(&self, plain: NarFileName, ask: bool) -> Result<Option<StoredZstd>> {
        if plain.compression != Compression::None || self.is_running(plain) {
            return Ok(None);
        }
        let nar = NarHash(plain.hash.0);
        if let Some(name) = self.encodings().0.get(&nar)
            && let Some(stored) = self.stored(name).await?
        {
            return Ok(Some(StoredZstd { name, stored }));
        }
        if ask { self.located(plain, nar).await } else { Ok(None) }
    }

    /// The first of these files that is zstd and in the store.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(crate) async fn stored_zstd_of(&self, names: &[NarFileName]) -> Result<Option<StoredZstd>> {
        for name in names.iter().copied().filter(|name| name.compression == Compression::Zstd) {
            if let Some(stored) = self.stored(name).await? {
                return Ok(Some(StoredZstd { name, stored }));
            }
        }
        Ok(None)
    }

    async fn located(&self, plain: NarFileName, nar: NarHash) -> Result<Option<StoredZstd>> {
        let location = self.locate(plain).await;
        let location = location.inspect_err(|error| {
            tracing::debug!(nar = %plain, error = error.story(), "control can't say whether it is there as zstd");
        });
        let others = location.ok().flatten().map(|location| location.representations).unwrap_or_default();
        let here = self.stored_zstd_of(&others).await?;
        here.iter().for_each(|zstd| self.encodings().0.insert(nar, zstd.name));
        Ok(here)
    }
}
