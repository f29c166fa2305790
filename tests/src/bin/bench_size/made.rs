//! Indexes that are made, and the copy of the large one that is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ncps_control::Db;
use ncps_runtime::clock::UnixTime;
use ncps_tests::bench::{Target, fill, row};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// Where a data path has its index.
const DATABASE: &str = "data/db/db.sqlite";

/// Makes the index of so many paths, unless it is there. One that is half made has another name.
pub(crate) async fn make(file: &Path, paths: usize) {
    if file.exists() {
        return;
    }
    let began = Instant::now();
    let half = file.with_extension("half");
    let whole = file.parent().expect("it lies in a directory");
    fs::create_dir_all(whole).expect("room for the index");
    drop(fs::remove_file(&half));
    filled(&half, paths).await;
    fs::rename(&half, file).expect("it is there");
    println!("an index of {paths} paths, made in {:.0} s: {}", began.elapsed().as_secs_f64(), file.display());
}

async fn filled(file: &Path, paths: usize) {
    let db = Db::open(file, UnixTime(1)).await.expect("a new database");
    db.close().await;
    fill(file, paths).expect("rows that fit the schema");
}

/// A data path with an index of so many paths.
pub(crate) async fn small(paths: usize) -> Arc<TempDir> {
    let dir = tempfile::Builder::new().prefix("ncps-bench-").tempdir().expect("a temporary directory");
    fs::create_dir_all(dir.path().join("data/db")).expect("room");
    filled(&dir.path().join(DATABASE), paths).await;
    Arc::new(dir)
}

/// A copy of the large index in a data path, on the disk where that lies.
pub(crate) struct Large {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) paths: usize,
}

impl Large {
    pub(crate) fn copy(file: &Path) -> Large {
        let beside = file.parent().expect("it lies in a directory");
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(beside).expect("room beside the index");
        fs::create_dir_all(dir.path().join("data/db")).expect("room beside the index");
        fs::copy(file, dir.path().join(DATABASE)).expect("tests/bench/index makes the index");
        let paths = count(&dir.path().join(DATABASE));
        Large { dir: Arc::new(dir), paths }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// How large its file is.
    pub(crate) fn weigh(&self) {
        let bytes = fs::metadata(self.dir.path().join(DATABASE)).expect("it was copied").len();
        let how =
            format!("{:.2} GB, {} paths of 6 references and 2 signatures", bytes as f64 / 1e9, self.paths);
        let each = bytes as f64 / self.paths as f64;
        row("large index: its file, per path", each, "bytes", Target::AtMost(1500.0), &how);
    }
}

fn count(database: &Path) -> usize {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
    db.query_row("SELECT number FROM sums WHERE what = 'narinfos'", [], |row| row.get::<_, i64>(0))
        .expect("its sum") as usize
}
