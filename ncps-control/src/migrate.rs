//! Making and migrating the database without serving: what `serve` does at its start, for those who want it done
//! before.
//!
//! Knows that what is not ours is recognised before anything is made, not even a lock. Absent: ways back; a
//! database goes forward only.

use std::path::Path;

use ncps_runtime::clock::{Clock, SystemClock};
use ncps_runtime::lock::DirLock;

use crate::compose::{ComposeError, make_database_folder};
use crate::db::{Db, beside};

/// What a database lacks to be that of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// There is none yet.
    pub is_new: bool,
    /// Versions and what they are about, in order.
    pub migrations: Vec<(i64, &'static str)>,
}

/// Looks, and changes nothing.
///
/// # Errors
/// Where the database is not ours, or can't be read.
pub async fn pending(database: &Path) -> Result<Pending, ComposeError> {
    let (is_new, migrations) = Db::pending(database).await?;
    Ok(Pending { is_new, migrations })
}

/// Makes the database and its folder where they are missing, and migrates it. Returns what was done.
///
/// # Errors
/// Where the database is not ours, in use, or can't be made or migrated.
pub async fn up(database: &Path) -> Result<Pending, ComposeError> {
    let done = pending(database).await?;
    make_database_folder(database)?;
    let _lock = DirLock::acquire(&beside(database, ".lock"))?;
    Db::open(database, SystemClock.now()).await?.close().await;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_pending_is_done_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b/db.sqlite");
        let before = pending(&path).await.expect("nothing is there");
        assert!(before.is_new && before.migrations.first() == Some(&(1, "index")));
        assert!(!dir.path().join("a").exists(), "looking makes nothing");
        assert_eq!(up(&path).await.expect("made"), before);
        let after = Pending { is_new: false, migrations: vec![] };
        assert_eq!(pending(&path).await.expect("ours"), after);
        assert_eq!(up(&path).await.expect("nothing to do"), after);
    }

    #[tokio::test]
    async fn what_is_in_use_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db.sqlite");
        let _held = DirLock::acquire(&beside(&path, ".lock")).expect("free");
        assert!(matches!(up(&path).await, Err(ComposeError::Lock(_))));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_foreign_is_not_even_locked() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db.sqlite");
        std::fs::write(&path, "no database").expect("room");
        assert!(matches!(up(&path).await, Err(ComposeError::Database(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1);
    }
}
