//! The database of the Go original, of any schema from 0.4 to 0.9, read and never changed.
//!
//! What a schema has is asked of the database itself: tables and columns that are missing count as empty. One with a
//! pending write-ahead log is read from a copy, since reading it changes files beside it. Absent on purpose: its files
//! of narinfos and NARs, and databases other than SQLite.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ncps_nix::{KeyError, SecretKey};
use ncps_runtime::clock::UnixTime;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqlitePool};
use zeroize::Zeroizing;

use super::go_row::{GoNarFile, GoRow, NarInfoColumns};
use crate::db::{Found, beside, recognise_any};

/// Why the original's database can't be read.
#[derive(Debug, thiserror::Error)]
pub enum GoDatabaseError {
    /// It is no SQLite database, or none of the original's.
    #[error("{0} is no database of the Go ncps")]
    Foreign(PathBuf),
    /// It can't be copied to where it can be read.
    #[error("copy the database {path}")]
    Copy {
        /// The database.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite.
    #[error("read the database {path}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The key in it is none.
    #[error("the secret key in {path} is none in Nix's format")]
    Key {
        /// The database.
        path: PathBuf,
        /// What is wrong, without the text.
        source: KeyError,
    },
}

type Result<T> = std::result::Result<T, GoDatabaseError>;

/// Whether the file is a database of the original's. Changes nothing.
pub async fn is_go_database(path: &Path) -> bool {
    matches!(recognise_any(path).await, Ok(Found::GoOriginal))
}

/// The original's database, open.
#[derive(Debug)]
pub struct GoDatabase {
    path: PathBuf,
    pool: SqlitePool,
    schema: Schema,
    /// Removed in the end.
    _copy: Option<Copy>,
}

/// `table` and `table.column` of what there is.
#[derive(Debug)]
struct Schema(HashSet<String>);

impl Schema {
    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The column as text or number, else NULL.
    fn column(&self, table: &str, column: &str) -> String {
        match self.has(&format!("{table}.{column}")) {
            true => format!("{table}.\"{column}\""),
            false => "NULL".to_owned(),
        }
    }

    /// A time in seconds since 1970, else NULL.
    fn time(&self, table: &str, column: &str) -> String {
        format!("CAST(strftime('%s', {}) AS INTEGER)", self.column(table, column))
    }
}

impl GoDatabase {
    /// Opens the database at `path`. `scratch` is a folder of ours for a copy, where one is needed.
    ///
    /// # Errors
    /// See [`GoDatabaseError`].
    pub async fn open(path: &Path, scratch: &Path) -> Result<GoDatabase> {
        if !is_go_database(path).await {
            return Err(GoDatabaseError::Foreign(path.to_owned()));
        }
        let copy = match fs::metadata(beside(path, "-wal")) {
            Ok(log) if log.len() > 0 => Some(Copy::of(path, scratch)?),
            _ => None,
        };
        let file = copy.as_ref().map_or(path, |copy| &copy.path);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(copy.is_none())
            .immutable(copy.is_none())
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let failed = |source| GoDatabaseError::Sqlite { path: path.to_owned(), source };
        let pool = pool.map_err(failed)?;
        let schema = schema(&pool).await.map_err(failed)?;
        Ok(GoDatabase { path: path.to_owned(), pool, schema, _copy: copy })
    }

    /// The signing key, where it is kept in the database (0.6 and later).
    ///
    /// # Errors
    /// See [`GoDatabaseError`].
    pub async fn secret_key(&self) -> Result<Option<SecretKey>> {
        if !self.schema.has("config.value") {
            return Ok(None);
        }
        let query = sqlx::query_scalar("SELECT value FROM config WHERE key = 'secret_key'");
        let text: Option<String> = query.fetch_optional(&self.pool).await.map_err(|e| self.failed(e))?;
        let Some(text) = text.map(Zeroizing::new) else { return Ok(None) };
        let key = SecretKey::parse(&text);
        key.map(Some).map_err(|source| GoDatabaseError::Key { path: self.path.clone(), source })
    }

    /// The hashes of all its store paths, as they are spelled there.
    ///
    /// # Errors
    /// See [`GoDatabaseError`].
    pub async fn hashes(&self) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT hash FROM narinfos ORDER BY id");
        query.fetch_all(&self.pool).await.map_err(|e| self.failed(e))
    }

    /// What it knows of a store path.
    ///
    /// # Errors
    /// See [`GoDatabaseError`].
    pub async fn row(&self, hash: &str) -> Result<Option<GoRow>> {
        self.read_row(hash).await.map_err(|e| self.failed(e))
    }

    async fn read_row(&self, hash: &str) -> std::result::Result<Option<GoRow>, sqlx::Error> {
        let column = |name| self.schema.column("narinfos", name);
        let columns = NarInfoColumns::NAMES.map(column).join(", ");
        let at = self.schema.time("narinfos", "last_accessed_at");
        let sql =
            format!("SELECT id, {at}, {}, {columns} FROM narinfos WHERE hash = $1", column("upstream_url"));
        let query = sqlx::query(AssertSqlSafe(sql)).bind(hash);
        let Some(row) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        let id: i64 = row.try_get(0)?;
        let texts = (3..3 + NarInfoColumns::NAMES.len()).map(|at| text(&row, at));
        let columns = NarInfoColumns {
            texts: texts.collect::<std::result::Result<_, _>>()?,
            references: self.related("narinfo_references", "reference", id).await?,
            signatures: self.related("narinfo_signatures", "signature", id).await?,
        };
        let nar_files = self.nar_files(id).await?;
        let latest = nar_files.iter().filter_map(|file| file.last_access).max();
        Ok(Some(GoRow {
            narinfo: columns.text(),
            last_access: row.try_get::<Option<i64>, _>(1)?.map(UnixTime).max(latest),
            upstream_url: text(&row, 2)?,
            nar_files,
        }))
    }

    async fn related(
        &self,
        table: &str,
        column: &str,
        id: i64,
    ) -> std::result::Result<Vec<String>, sqlx::Error> {
        if !self.schema.has(table) {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT \"{column}\" FROM {table} WHERE narinfo_id = $1 ORDER BY \"{column}\"");
        sqlx::query_scalar(AssertSqlSafe(sql)).bind(id).fetch_all(&self.pool).await
    }

    /// `nars` until 0.5, since then `nar_files`, which narinfos share.
    async fn nar_files(&self, id: i64) -> std::result::Result<Vec<GoNarFile>, sqlx::Error> {
        let (table, rows) = match self.schema.has("nar_files") {
            true => (
                "nar_files",
                "nar_files JOIN narinfo_nar_files ON narinfo_nar_files.nar_file_id = nar_files.id \
                 WHERE narinfo_nar_files.narinfo_id = $1",
            ),
            false if self.schema.has("nars") => ("nars", "nars WHERE nars.narinfo_id = $1"),
            false => return Ok(Vec::new()),
        };
        let sql = format!(
            "SELECT {}, {}, {}, {} FROM {rows}",
            self.schema.column(table, "hash"),
            self.schema.column(table, "compression"),
            self.schema.column(table, "total_chunks"),
            self.schema.time(table, "last_accessed_at"),
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_all(&self.pool).await?;
        rows.iter().map(nar_file).collect()
    }

    fn failed(&self, source: sqlx::Error) -> GoDatabaseError {
        GoDatabaseError::Sqlite { path: self.path.clone(), source }
    }
}

fn nar_file(row: &SqliteRow) -> std::result::Result<GoNarFile, sqlx::Error> {
    Ok(GoNarFile {
        hash: text(row, 0)?.unwrap_or_default(),
        compression: text(row, 1)?.unwrap_or_default(),
        is_chunked: row.try_get::<Option<i64>, _>(2)?.is_some_and(|chunks| chunks > 0),
        last_access: row.try_get::<Option<i64>, _>(3)?.map(UnixTime),
    })
}

/// A number is a text, too, so that one reading serves every column.
fn text(row: &SqliteRow, at: usize) -> std::result::Result<Option<String>, sqlx::Error> {
    match row.try_get::<Option<String>, _>(at) {
        Ok(text) => Ok(text),
        Err(_) => Ok(row.try_get::<Option<i64>, _>(at)?.map(|number| number.to_string())),
    }
}

async fn schema(pool: &SqlitePool) -> std::result::Result<Schema, sqlx::Error> {
    let sql = "SELECT t.name, c.name FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'";
    let columns: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(pool).await?;
    let names = columns.into_iter().flat_map(|(table, column)| [format!("{table}.{column}"), table]);
    Ok(Schema(names.collect()))
}

/// A copy of the database and its log.
#[derive(Debug)]
struct Copy {
    path: PathBuf,
}

/// What SQLite keeps beside a database.
const SIDES: [&str; 3] = ["", "-wal", "-shm"];

impl Copy {
    fn of(path: &Path, scratch: &Path) -> Result<Copy> {
        let copy = Copy { path: scratch.join(format!("go-ncps-{}.sqlite", std::process::id())) };
        for side in &SIDES[..2] {
            fs::copy(beside(path, side), beside(&copy.path, side))
                .map_err(|source| GoDatabaseError::Copy { path: path.to_owned(), source })?;
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for side in SIDES {
            // What SQLite has removed itself is gone.
            fs::remove_file(beside(&self.path, side)).ok();
        }
    }
}
