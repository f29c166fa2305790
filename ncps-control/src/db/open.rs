//! Making, opening and migrating the database: the part that only SQLite knows.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use ncps_proto::Secret;
use ncps_runtime::clock::UnixTime;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, SqlitePool};

use super::backup::note_restored;
use super::lookups::Lookups;
use super::recognise::{APPLICATION_ID, Found, applied, recognise};
use super::{Db, OpenError, edges, totals};

/// Every migration that this program knows: version, description, SQL.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "index", include_str!("../../../migrations/sqlite/0001_index.sql")),
    (2, "uploads", include_str!("../../../migrations/sqlite/0002_uploads.sql")),
    (3, "journal", include_str!("../../../migrations/sqlite/0003_journal.sql")),
    (4, "tokens", include_str!("../../../migrations/sqlite/0004_tokens.sql")),
    (5, "pins", include_str!("../../../migrations/sqlite/0005_pins.sql")),
    (6, "integrity", include_str!("../../../migrations/sqlite/0006_integrity.sql")),
    (7, "uploaded paths", include_str!("../../../migrations/sqlite/0007_uploaded_paths.sql")),
    (8, "edges", include_str!("../../../migrations/sqlite/0008_edges.sql")),
    (10, "leaving", include_str!("../../../migrations/sqlite/0010_leaving.sql")),
    (11, "recipes", include_str!("../../../migrations/sqlite/0011_recipes.sql")),
];

/// How long a connection waits for another program's lock (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// Whether there is no database yet, and which migrations it lacks.
pub(super) async fn pending(path: &Path) -> Result<(bool, Vec<(i64, &'static str)>), OpenError> {
    let is_new = recognise(path, newest()).await? == Found::Nothing;
    let applied = if is_new { Vec::new() } else { applied(path).await? };
    let lacking = MIGRATIONS.iter().filter(|(version, ..)| !applied.contains(version));
    Ok((is_new, lacking.map(|(version, about, _)| (*version, *about)).collect()))
}

pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

pub(super) async fn open(path: &Path, now: UnixTime) -> Result<Db, OpenError> {
    if recognise(path, newest()).await? == Found::Nothing {
        claim(path).await.map_err(|e| sqlite("create", path, e))?;
    }
    let options = options(path);
    let writer = pool(sound(), options.clone(), 1).await.map_err(|e| sqlite("open", path, e))?;
    migrator().run(&writer).await.map_err(|e| sqlite("migrate", path, e))?;
    note_restored(&writer, now).await.map_err(|e| sqlite("note the restore of", path, e))?;
    let index_id = index_id(&writer, now).await.map_err(|e| sqlite("read the index id of", path, e))?;
    let fleet_secret =
        fleet_secret(&writer).await.map_err(|e| sqlite("read the fleet's secret of", path, e))?;
    let readers = pool(SqlitePoolOptions::new(), options.read_only(true), READERS).await;
    let readers = readers.map_err(|e| sqlite("open", path, e))?;
    let lookups = Lookups::open(path, BUSY_TIMEOUT).map_err(|e| OpenError::Sqlite {
        action: "open",
        path: path.to_owned(),
        source: Box::new(e),
    })?;
    let narinfos_at_open = count(&readers).await.map_err(|e| sqlite("count the narinfos of", path, e))?;
    let last_event = last_event(&readers).await.map_err(|e| sqlite("read the journal of", path, e))?;
    let counted = totals::load(&readers).await.map_err(|e| sqlite("read the totals of", path, e))?;
    let known = edges::load(&readers).await.map_err(|e| sqlite("read the edges of", path, e))?;
    Ok(Db {
        path: path.to_owned(),
        writer,
        readers,
        lookups,
        index_id,
        fleet_secret,
        narinfos_at_open,
        last_event_at_open: last_event,
        counted_at_open: counted,
        edges_at_open: known,
    })
}

/// Marks a new file as ours before it gets a write-ahead log: the mark is in the file itself, so that a
/// crash right after leaves nothing that looks foreign.
async fn claim(path: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await?;
    let mark = format!("PRAGMA application_id = {APPLICATION_ID}");
    sqlx::query(AssertSqlSafe(mark)).execute(&mut connection).await?;
    connection.close().await
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// No connection is used again on which a transaction seems to be open. Where the disk is full SQLite ends one by itself;
/// sqlx does not learn that, can't roll back what is none any more, and would refuse to begin another one there for good.
fn sound() -> SqlitePoolOptions {
    SqlitePoolOptions::new().after_release(|connection, _| {
        Box::pin(async {
            // What was left is rolled back by then, where it can be.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

async fn pool(
    pool: SqlitePoolOptions,
    options: SqliteConnectOptions,
    connections: u32,
) -> Result<SqlitePool, sqlx::Error> {
    pool.max_connections(connections)
        // Opening a file costs more than keeping it open.
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(BUSY_TIMEOUT)
        // It is a file: what breaks is found by the statement that needs it.
        .test_before_acquire(false)
        .connect_with(options)
        .await
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, description, sql)| {
        Migration::new(*version, (*description).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Reads the random name of the index, and makes it where there is none yet.
async fn index_id(writer: &SqlitePool, now: UnixTime) -> Result<String, Box<dyn Error + Send + Sync>> {
    meta(writer, "created_at", now.to_string()).await?;
    meta(writer, "counting_since", now.to_string()).await?;
    meta(writer, "index_id", random::<16>()?).await
}

/// The same of what edges know one another by.
async fn fleet_secret(writer: &SqlitePool) -> Result<Secret, Box<dyn Error + Send + Sync>> {
    Ok(Secret::new(meta(writer, "fleet_secret", random::<32>()?).await?))
}

fn random<const N: usize>() -> Result<String, String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("no randomness: {e}"))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// What stands under a key; `fresh` where nothing did.
async fn meta(writer: &SqlitePool, key: &str, fresh: String) -> Result<String, Box<dyn Error + Send + Sync>> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
        .bind(key)
        .bind(fresh)
        .execute(writer)
        .await?;
    Ok(sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_one(writer).await?)
}

/// As the triggers keep it: to count millions would hold up the start.
async fn count(readers: &SqlitePool) -> Result<u64, sqlx::Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT number FROM sums WHERE what = 'narinfos'").fetch_one(readers).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The largest id, at the end of the primary key.
async fn last_event(readers: &SqlitePool) -> Result<u64, sqlx::Error> {
    let last: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM journal").fetch_one(readers).await?;
    Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
}

fn sqlite(action: &'static str, path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> OpenError {
    OpenError::Sqlite { action, path: path.to_owned(), source: source.into() }
}
