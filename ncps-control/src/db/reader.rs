//! A connection of lookups: reads by key, on whatever thread it is taken to (see [`super::lookups`]). Statements are
//! prepared once.
//!
//! It speaks to SQLite itself: with sqlx each read would be handed to another thread and back, which costs ten times what
//! the read does.

use std::path::Path;
use std::time::{Duration, Instant};

use ncps_nix::{NarFileName, NarHash, NarInfo, StorePathHash};
use ncps_runtime::clock::UnixTime;
use rusqlite::{Connection, OpenFlags, Params, Row};

use super::rows::{self, FileRow, NarInfoRow, OriginRow, SignatureRow};
use super::{DbError, Result, sql};
use crate::record::NarFile;

/// How long rows may be read as they once were. It bounds by how much the write-ahead log grows for a reader.
const LONGEST: Duration = Duration::from_millis(100);

/// A connection that reads. It goes on in one transaction as long as no caller asks for later rows: to end and begin one
/// costs as much as a read does, and what it keeps of the file in memory is good for as long.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    snapshot: Option<Snapshot>,
}

/// A transaction that is open.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    /// What it was asked for.
    mark: u64,
    begun: Instant,
}

/// What there is to know of a file that an edge holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// When it was last read.
    pub(crate) accessed: UnixTime,
    /// In bytes, where an edge proved it.
    pub(crate) size: Option<u64>,
    /// A client brought it, and no upstream is known to have it.
    pub(crate) irreplaceable: bool,
}

impl Reader {
    /// Opens the database, which is there, for reading alone.
    pub(super) fn open(path: &Path, patience: Duration) -> rusqlite::Result<Reader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(patience)?;
        Ok(Reader { connection, snapshot: None })
    }

    /// From here on rows are no older than `mark`, whatever it counts: those of the transaction that began with the same
    /// mark, or of a new one.
    pub(crate) fn as_of(&mut self, mark: u64) -> Result<&mut Reader> {
        if self.snapshot.is_none_or(|snapshot| snapshot.mark != mark || snapshot.begun.elapsed() > LONGEST) {
            self.rest();
            self.run("BEGIN")?;
            self.snapshot = Some(Snapshot { mark, begun: Instant::now() });
        }
        Ok(self)
    }

    /// Nobody reads for now: the transaction, if there is one, ends.
    pub(super) fn rest(&mut self) {
        if self.snapshot.take().is_some()
            && let Err(error) = self.run("COMMIT")
        {
            tracing::warn!(
                error = ncps_proto::Error::from(error).story(),
                "a lookup's transaction does not end"
            );
        }
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let run = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        run.map(drop).map_err(|error| DbError::Lookup("begin or end to read", error))
    }

    fn all<T>(
        &mut self,
        what: &'static str,
        sql: &str,
        key: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(key, read)?.collect());
        rows.map_err(|error| DbError::Lookup(what, error))
    }

    fn one<T>(
        &mut self,
        what: &'static str,
        sql: &str,
        key: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(what, sql, key, read)?.pop())
    }

    pub(crate) fn narinfo(&mut self, hash: StorePathHash) -> Result<Option<NarInfo>> {
        let key = [hash.as_bytes().as_slice()];
        let Some(row) = self.one("read a narinfo", sql::NARINFO, key, NarInfoRow::read)? else {
            return Ok(None);
        };
        let signatures = self.all("read a narinfo's signatures", sql::SIGNATURES, key, SignatureRow::read)?;
        row.into_narinfo(hash, signatures).map(Some)
    }

    /// The store paths whose narinfos name this file.
    pub(crate) fn naming(&mut self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        let hashes = self.all("read a NAR file's narinfos", sql::NAMING, key(&name), |row| row.get(0))?;
        hashes.iter().map(|hash: &Vec<u8>| rows::store_path_hash(hash)).collect()
    }

    pub(crate) fn nar_file(&mut self, name: NarFileName) -> Result<Option<NarFile>> {
        let row = self.one("read a NAR file", sql::FILE, key(&name), FileRow::read)?;
        let Some(row) = row else { return Ok(None) };
        let origins = self.all("read a NAR file's origins", sql::ORIGINS, key(&name), OriginRow::read)?;
        row.into_file(name, origins).map(Some)
    }

    /// When a file was last read, its size where that is proven, and whether anybody could give it again.
    pub(crate) fn met(&mut self, name: NarFileName) -> Result<Option<Met>> {
        self.one("read a NAR file's last access", sql::MET, key(&name), |row| {
            let (size, proven): (Option<i64>, i64) = (row.get(1)?, row.get(2)?);
            Ok(Met {
                accessed: UnixTime(row.get(0)?),
                size: size.filter(|_| proven != 0).and_then(|size| u64::try_from(size).ok()),
                irreplaceable: row.get::<_, i64>(3)? != 0,
            })
        })
    }

    /// The representations of a NAR.
    pub(crate) fn files_of(&mut self, nar: NarHash) -> Result<Vec<NarFileName>> {
        let names = self.all("read a NAR's files", sql::FILES_OF, [nar.0.as_bytes().as_slice()], pair)?;
        let at = ("nar_files", nar.to_string());
        names.iter().map(|(hash, compression)| rows::file_name(&at, hash, compression)).collect()
    }

    /// The file that is meant by a name that turned out wrong.
    pub(crate) fn alias(&mut self, name: NarFileName) -> Result<Option<NarFileName>> {
        let target = self.one("read an alias", sql::ALIAS, key(&name), pair)?;
        let at = || ("aliases", name.to_string());
        target.map(|(hash, compression)| rows::file_name(&at(), &hash, &compression)).transpose()
    }
}

fn key(name: &NarFileName) -> (&[u8], &'static str) {
    (rows::file_hash(name), name.compression.name())
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// One read alone.
#[cfg(test)]
impl super::Db {
    pub(crate) async fn narinfo(&self, hash: StorePathHash) -> Result<Option<NarInfo>> {
        self.read(move |reader| reader.narinfo(hash)).await?
    }

    pub(crate) async fn nar_file(&self, name: NarFileName) -> Result<Option<NarFile>> {
        self.read(move |reader| reader.nar_file(name)).await?
    }

    pub(crate) async fn alias(&self, name: NarFileName) -> Result<Option<NarFileName>> {
        self.read(move |reader| reader.alias(name)).await?
    }

    pub(crate) async fn naming(&self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        self.read(move |reader| reader.naming(name)).await?
    }

    pub(crate) async fn files_of(&self, nar: NarHash) -> Result<Vec<NarFileName>> {
        self.read(move |reader| reader.files_of(nar)).await?
    }
}
