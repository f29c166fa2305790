//! Whose database is it? Answered before anything may change: from the header's bytes, and through a
//! connection that promises SQLite to touch nothing.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{OpenError, beside};

/// Ours, in the header of the file (<https://sqlite.org/fileformat.html>, offset 68): "ncps".
pub(super) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"ncps");

/// The header of a database file is 100 bytes long and starts with these.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;

/// What lies at the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or a database without any table.
    Nothing,
    /// A database of ours.
    Ours,
    /// The Go original's.
    GoOriginal,
}

struct Header {
    page_size: u64,
    pages: u64,
    application_id: u32,
}

/// Recognises what lies at `path`, and changes nothing. What can't be used is an error: what is not ours, or newer
/// than this program.
pub(super) async fn recognise(path: &Path, known: i64) -> Result<Found, OpenError> {
    match recognise_any(path).await? {
        Found::GoOriginal => Err(OpenError::GoOriginal(path.to_owned())),
        Found::Ours => check_version(path, known).await.map(|()| Found::Ours),
        Found::Nothing => Ok(Found::Nothing),
    }
}

/// The same, whoever wrote it.
pub(crate) async fn recognise_any(path: &Path) -> Result<Found, OpenError> {
    let Some(header) = read_header(path)? else { return Ok(Found::Nothing) };
    if header.application_id == APPLICATION_ID {
        return Ok(Found::Ours);
    }
    match tables(path, true).await {
        Ok(tables) if tables.iter().any(|table| table == "schema_migrations") => Ok(Found::GoOriginal),
        // Its log may hold anything, and reading that would change it.
        _ if wal_is_pending(path) => Err(OpenError::Foreign(path.to_owned())),
        Ok(tables) if tables.is_empty() && header.application_id == 0 => Ok(Found::Nothing),
        Ok(_) => Err(OpenError::Foreign(path.to_owned())),
        Err(error) => Err(error),
    }
}

/// `None` where there is no file, or an empty one.
fn read_header(path: &Path) -> Result<Option<Header>, OpenError> {
    let io = |source| OpenError::Io { action: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(io)?,
    };
    let length = file.metadata().map_err(io)?.len();
    if length == 0 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(damaged(path, "too short")),
        read => read.map_err(io)?,
    }
    let header = parse_header(&bytes).ok_or_else(|| damaged(path, "no SQLite header"))?;
    if length < header.page_size * header.pages && !wal_is_pending(path) {
        return Err(damaged(path, "cut short"));
    }
    Ok(Some(header))
}

fn parse_header(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let page_size = u16::from_be_bytes([bytes[16], bytes[17]]);
    bytes.starts_with(MAGIC).then_some(Header {
        // 1 stands for 65536, which does not fit.
        page_size: if page_size == 1 { 65_536 } else { page_size.into() },
        pages: number(28)?.into(),
        application_id: number(68)?,
    })
}

/// A write-ahead log with content: the file alone does not tell all.
fn wal_is_pending(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0)
}

async fn check_version(path: &Path, known: i64) -> Result<(), OpenError> {
    let is_empty = read_header(path)?.is_none_or(|header| header.pages == 0);
    let found = if is_empty { None } else { applied(path).await?.into_iter().max() };
    match found.filter(|found| *found > known) {
        Some(found) => Err(OpenError::Newer { path: path.to_owned(), found, known }),
        None => Ok(()),
    }
}

/// The versions that a database of ours has.
pub(super) async fn applied(path: &Path) -> Result<Vec<i64>, OpenError> {
    // After a crash of ours SQLite has to look into the log; without one it promises to touch nothing.
    let immutable = !wal_is_pending(path);
    if !tables(path, immutable).await?.iter().any(|table| table == "_sqlx_migrations") {
        return Ok(Vec::new());
    }
    read(path, immutable, "SELECT version FROM _sqlx_migrations").await
}

async fn tables(path: &Path, immutable: bool) -> Result<Vec<String>, OpenError> {
    read(path, immutable, "SELECT name FROM sqlite_schema WHERE type = 'table'").await
}

/// One column, read only; where `immutable`, no file is made or changed beside the database either.
async fn read<T>(path: &Path, immutable: bool, sql: &'static str) -> Result<Vec<T>, OpenError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(immutable);
    let mut connection = options.connect().await.map_err(|e| damaged(path, e))?;
    let rows = read_from(&mut connection, sql).await;
    // Nothing was written; what closing could still say does not matter.
    connection.close().await.ok();
    rows.map_err(|e| damaged(path, e))
}

async fn read_from<T>(connection: &mut SqliteConnection, sql: &'static str) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_all(connection).await
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}
