//! The index on disk: SQLite behind use cases. Rows become domain types here and nowhere else; a row that
//! can't become one says which it is.
//!
//! One writer and several readers: in WAL mode neither waits for the other. `now` is an argument. The SQL is
//! plain (`$1` placeholders, standard upserts), so that another database stays possible; what only SQLite
//! knows is in `open`. Absent on purpose: what is in memory only (see [`crate::index`]) and every decision.

mod backup;
mod edges;
mod error;
mod journal;
mod leaving;
mod listing;
mod lookups;
mod open;
mod pins;
mod reader;
mod recognise;
mod rows;
mod sql;
mod strays;
mod tokens;
mod totals;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ncps_nix::StorePathHash;
use ncps_proto::Secret;
use ncps_proto::admin::KnownEdge;
use ncps_runtime::clock::UnixTime;
use sqlx::SqlitePool;

pub(crate) use backup::{Refused, take_restored};
pub(crate) use error::DbError;
pub use error::OpenError;
pub(crate) use journal::Which;
pub(crate) use leaving::Leaving;
pub(crate) use listing::Listed;
pub(crate) use reader::{Met, Reader};
pub(crate) use recognise::{Found, recognise_any};
pub(crate) use write::Batch;

use crate::record::PathUse;
use crate::totals::Counted;
use lookups::Lookups;
use rows::UseRow;

/// The file of a database's name with this at its end: what belongs to it lies beside it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The open database. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Db {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    lookups: Arc<Lookups>,
    index_id: String,
    fleet_secret: Secret,
    narinfos_at_open: u64,
    last_event_at_open: u64,
    counted_at_open: BTreeMap<String, Counted>,
    edges_at_open: Vec<KnownEdge>,
}

type Result<T> = std::result::Result<T, DbError>;

impl Db {
    /// Opens the database at `path`, makes it if there is none, and migrates it. The caller holds the lock
    /// on it; its folder exists.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is not ours, newer than we are, or damaged is left untouched.
    pub async fn open(path: &Path, now: UnixTime) -> std::result::Result<Db, OpenError> {
        open::open(path, now).await
    }

    /// Whether there is no database at `path`, and versions and names of the migrations that it lacks.
    ///
    /// # Errors
    /// As [`Db::open`]. Nothing is changed.
    pub async fn pending(path: &Path) -> std::result::Result<(bool, Vec<(i64, &'static str)>), OpenError> {
        open::pending(path).await
    }

    /// The random name of this index, made with the database.
    pub fn index_id(&self) -> &str {
        &self.index_id
    }

    /// By what the edges of this index know one another: random, made with the database.
    pub(crate) fn fleet_secret(&self) -> &Secret {
        &self.fleet_secret
    }

    /// How many narinfos there were when it was opened.
    pub fn narinfos_at_open(&self) -> u64 {
        self.narinfos_at_open
    }

    /// Paths in the order of their hashes, after this one.
    pub(crate) async fn uses(&self, after: Option<StorePathHash>, limit: u32) -> Result<Vec<PathUse>> {
        let after = after.map_or(Vec::new(), |hash| hash.as_bytes().to_vec());
        let rows: Vec<UseRow> = sqlx::query_as(sql::USES)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read the uses of paths", e))?;
        rows.into_iter().map(UseRow::into_use).collect()
    }

    pub(crate) async fn use_of(&self, hash: StorePathHash) -> Result<Option<PathUse>> {
        let row: Option<UseRow> = sqlx::query_as(sql::USE)
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read a path", e))?;
        row.map(UseRow::into_use).transpose()
    }

    /// Folds the write-ahead log into the file, and both are synced: a commit alone survives a killed process, this a
    /// power cut, too.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(FULL)").execute(&self.writer).await;
        checkpoint.map(drop).map_err(|e| DbError::Sqlite("sync the write-ahead log", e))
    }

    /// Has a connection read something by its keys; what it does is done on another thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T> {
        self.lookups.read(read).await
    }

    /// Closes every connection; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.lookups.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}
