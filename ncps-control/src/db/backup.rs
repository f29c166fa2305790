//! Copies of the database: one made while it is used, and one that takes its place at the next start.
//!
//! ```text
//! db.sqlite.backup     a copy on its way out; removed when it is read
//! db.sqlite.restoring  a copy on its way in
//! db.sqlite.restore    one that was checked: the database from the next start on
//! db.sqlite.before-*   the database that it replaced, kept
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use ncps_proto::admin::EventKind;
use ncps_runtime::clock::UnixTime;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::open::newest;
use super::recognise::{Found, recognise};
use super::{Db, DbError, OpenError, beside};

const OUTWARD: &str = ".backup";
const INWARD: &str = ".restoring";
const STAGED: &str = ".restore";

/// Who had a copy restored, from when it is staged until its audit log says so.
const RESTORED_BY: &str = "restored_by";

/// What a database has beside it.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Why a copy is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this is no backup of ncps: {0}")]
    Foreign(String),
    #[error("the backup was written by a newer ncps (schema {found}, this one knows {known}): update first")]
    Newer { found: i64, known: i64 },
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    #[error("the disk does not take it")]
    Io(#[from] io::Error),
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) index_id: String,
    pub(crate) narinfos: u64,
}

impl Db {
    /// A consistent copy of all that is written, as an open file without a name.
    pub(crate) async fn copy(&self) -> Result<File, DbError> {
        let place = beside(&self.path, OUTWARD);
        let failed = |error| DbError::Sqlite("copy the database", sqlx::Error::Io(error));
        // Left by a process that was killed.
        remove(&place).map_err(failed)?;
        let copied =
            sqlx::query("VACUUM INTO $1").bind(place.display().to_string()).execute(&self.readers).await;
        let opened = copied
            .map_err(|error| DbError::Sqlite("copy the database", error))
            .and_then(|_| File::open(&place).map_err(failed));
        remove(&place).map_err(failed)?;
        opened
    }

    /// A file for a copy that comes in; one at a time.
    pub(crate) fn incoming(&self) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let place = beside(&self.path, INWARD);
        // Those of a copy that a killed process left would be folded into this one.
        for companion in COMPANIONS {
            remove(&beside(&place, companion))?;
        }
        remove(&place)?;
        File::options().write(true).create_new(true).mode(0o600).open(place)
    }

    /// Checks the copy that came in, and keeps it for the next start. `by` has it restored.
    pub(crate) async fn stage(&self, by: &str) -> Result<Content, Refused> {
        let place = beside(&self.path, INWARD);
        let checked = match check(&place).await {
            Ok(content) => sign(&place, by).await.map(|()| content),
            refused => refused,
        };
        if checked.is_err() {
            // What is of no use takes no room.
            remove(&place)?;
        }
        let content = checked?;
        fs::rename(&place, beside(&self.path, STAGED))?;
        sync_folder(&self.path)?;
        Ok(content)
    }

    /// Forgets a copy that did not come whole.
    pub(crate) fn discard_incoming(&self) -> io::Result<()> {
        remove(&beside(&self.path, INWARD))
    }
}

async fn check(path: &Path) -> Result<Content, Refused> {
    match recognise(path, newest()).await {
        Ok(Found::Ours) => {}
        Ok(Found::Nothing) => return Err(Refused::Foreign("it is empty".to_owned())),
        Err(OpenError::Newer { found, known, .. }) => return Err(Refused::Newer { found, known }),
        Err(OpenError::Damaged { reason, .. }) => return Err(Refused::Foreign(reason)),
        Ok(Found::GoOriginal) | Err(OpenError::GoOriginal(_)) => {
            return Err(Refused::Foreign("it is a database of the Go ncps".to_owned()));
        }
        Err(_) => return Err(Refused::Foreign("it is a database of another program".to_owned())),
    }
    let damaged = |error: sqlx::Error| Refused::Damaged(error.to_string());
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let mut connection = options.connect().await.map_err(damaged)?;
    let verdict: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.map_err(damaged)?;
    if verdict != "ok" {
        return Err(Refused::Damaged(verdict));
    }
    let index_id = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'index_id'");
    let index_id: String = index_id.fetch_one(&mut connection).await.map_err(damaged)?;
    let narinfos: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM narinfos")
        .fetch_one(&mut connection)
        .await
        .map_err(damaged)?;
    // Nothing was written; what closing could still say does not matter.
    connection.close().await.ok();
    Ok(Content { index_id, narinfos: u64::try_from(narinfos).unwrap_or(0) })
}

/// Says in a checked copy who has it restored: it may be that nobody can read that in the database that it replaces.
async fn sign(path: &Path, by: &str) -> Result<(), Refused> {
    let damaged = |error: sqlx::Error| Refused::Damaged(error.to_string());
    // The copy is one file, and of no use where this is cut.
    let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Memory);
    let mut connection = options.synchronous(SqliteSynchronous::Full).connect().await.map_err(damaged)?;
    let signed = sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ($1, $2)")
        .bind(RESTORED_BY)
        .bind(by)
        .execute(&mut connection)
        .await;
    signed.map_err(damaged)?;
    connection.close().await.map_err(damaged)
}

/// Has the audit log of a copy that took effect say so, once.
pub(super) async fn note_restored(writer: &SqlitePool, now: UnixTime) -> Result<(), sqlx::Error> {
    let mut tx = writer.begin().await?;
    let by = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(RESTORED_BY);
    let by: Option<String> = by.fetch_optional(&mut *tx).await?;
    let Some(by) = by else { return Ok(()) };
    let put = "INSERT INTO journal (id, at, kind, actor, detail) \
               SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4 FROM journal";
    let put = sqlx::query(put).bind(now.0).bind(EventKind::Restored.name()).bind(by);
    put.bind("this backup is the database from here on").execute(&mut *tx).await?;
    sqlx::query("DELETE FROM meta WHERE key = $1").bind(RESTORED_BY).execute(&mut *tx).await?;
    tx.commit().await
}

/// Puts a copy that was staged in the place of the database at `path`, which is kept beside it under the name that is
/// returned. May be cut anywhere: the next start goes on. The caller holds the lock on the database.
pub(crate) fn take_restored(path: &Path, now: UnixTime) -> io::Result<Option<PathBuf>> {
    let staged = beside(path, STAGED);
    if !staged.try_exists()? {
        return Ok(None);
    }
    let date = DateTime::from_timestamp(now.0, 0).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    let former = beside(path, &format!(".before-{date}"));
    // Its companions first: one of another database beside the new one would be folded into it.
    for companion in COMPANIONS {
        rename(&beside(path, companion), &beside(&former, companion))?;
    }
    rename(path, &former)?;
    fs::rename(&staged, path)?;
    sync_folder(path)?;
    Ok(Some(former))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Which;

    #[test]
    fn a_staged_copy_takes_the_place_of_a_database_with_its_log() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("db.sqlite");
        let write = |suffix: &str, text: &str| fs::write(beside(&path, suffix), text).expect("written");
        let read = |suffix: &str| fs::read_to_string(beside(&path, suffix)).ok();
        write("", "old");
        assert!(take_restored(&path, UnixTime(0)).expect("looked").is_none());
        assert_eq!(read("").as_deref(), Some("old"));
        write("-wal", "old log");
        write(STAGED, "new");
        let former = take_restored(&path, UnixTime(0)).expect("taken").expect("there was one");
        assert!(former.ends_with("db.sqlite.before-19700101T000000Z"), "{}", former.display());
        assert_eq!((read("").as_deref(), read("-wal")), (Some("new"), None));
        assert_eq!(fs::read_to_string(&former).expect("kept"), "old");
        assert_eq!(fs::read_to_string(beside(&former, "-wal")).expect("kept"), "old log");
        // Cut before the last step: the database is away already.
        fs::rename(&path, beside(&path, STAGED)).expect("renamed");
        take_restored(&path, UnixTime(1)).expect("taken");
        assert_eq!(read("").as_deref(), Some("new"));
    }

    #[tokio::test]
    async fn who_had_a_copy_restored_is_in_its_audit_log_once() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("db.sqlite");
        let db = Db::open(&path, UnixTime(1)).await.expect("opens");
        let mut copy = db.copy().await.expect("copied");
        // What a process left that was killed.
        for companion in COMPANIONS {
            fs::write(beside(&beside(&path, INWARD), companion), "of another copy").expect("written");
        }
        io::copy(&mut copy, &mut db.incoming().expect("made")).expect("written");
        db.stage("uid 7").await.expect("it is a backup");
        db.close().await;
        take_restored(&path, UnixTime(2)).expect("taken").expect("there was one");
        for opened in [3, 4] {
            let db = Db::open(&path, UnixTime(opened)).await.expect("opens");
            let audit = db.last_events(10, Which::Audit).await.expect("reads");
            let [event] = &audit[..] else { panic!("{audit:?}") };
            assert_eq!(
                (event.kind, event.actor.as_deref(), event.at),
                (EventKind::Restored, Some("uid 7"), 3)
            );
            db.close().await;
        }
        let left =
            fs::read_dir(folder.path()).expect("listed").map(|entry| entry.expect("listed").file_name());
        let left: Vec<_> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        assert!(left.iter().all(|name| !name.contains("restor")), "{left:?}");
    }
}
