//! Whose databases are opened, what is refused and how it is left, and rows there and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ncps_nix::{Compression, ContentAddress, NarInfo};
use ncps_proto::Recipe;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};
use tempfile::TempDir;

use super::*;
use crate::record::{NarFile, facts_of, file_of, point_at};
use crate::testing::{Upstream, file, origin};

const NOW: UnixTime = UnixTime(1_000_000);

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("db.sqlite")
    }

    /// Every file and its bytes.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = std::fs::read_dir(self.0.path()).expect("readable");
        let paths = entries.map(|entry| entry.expect("readable").path());
        paths.map(|path| (path.clone(), std::fs::read(path).expect("readable"))).collect()
    }

    async fn refused(&self) -> OpenError {
        let before = self.contents();
        let error = Db::open(&self.path(), NOW).await.expect_err("must be refused");
        assert_eq!(self.contents(), before, "left untouched");
        error
    }

    async fn open(&self) -> Db {
        Db::open(&self.path(), NOW).await.expect("opens")
    }

    /// Runs statements as another program would, and closes the file.
    async fn as_another(&self, statements: &[&str]) {
        let mut connection = raw(&self.path()).await;
        for statement in statements {
            sqlx::query(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await.expect("runs");
        }
        connection.close().await.expect("closes");
    }
}

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options.connect().await.expect("opens")
}

#[tokio::test]
async fn a_new_database_is_ours_and_keeps_its_id() {
    let folder = Folder::new();
    let first = folder.open().await;
    assert_eq!(first.index_id().len(), 32);
    first.close().await;
    let bytes = std::fs::read(folder.path()).expect("there");
    assert_eq!(&bytes[68..72], b"ncps", "the application id");
    assert_eq!(folder.contents().len(), 1, "closed in order, no log is left");
    let second = folder.open().await;
    assert_eq!(second.index_id(), first.index_id());
    second.close().await;
    let other = Folder::new().open().await;
    assert_ne!(other.index_id(), first.index_id());
}

#[tokio::test]
async fn the_fleets_secret_is_made_once_and_never_printed() {
    let folder = Folder::new();
    let first = folder.open().await;
    let secret = first.fleet_secret().clone();
    assert_eq!(secret.reveal().len(), 64);
    assert!(!format!("{first:?}").contains(secret.reveal()));
    first.close().await;
    assert_eq!(folder.open().await.fleet_secret(), &secret);
    assert_ne!(Folder::new().open().await.fleet_secret(), &secret);
}

#[tokio::test]
async fn an_empty_file_and_an_empty_database_become_ours() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "").expect("written");
    folder.open().await.close().await;
    let folder = Folder::new();
    folder.as_another(&["PRAGMA user_version = 7"]).await;
    folder.open().await.close().await;
}

#[tokio::test]
async fn a_database_that_was_not_closed_opens_again() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    // As after a crash: the log is still there.
    let copy = Folder::new();
    for (path, bytes) in folder.contents() {
        std::fs::write(copy.0.path().join(path.file_name().expect("a file")), bytes).expect("copied");
    }
    assert!(copy.contents().len() > 1, "with its log");
    let again = copy.open().await;
    assert_eq!(again.index_id(), db.index_id());
    assert_eq!(again.narinfo(narinfo.store_path.hash()).await.expect("reads"), Some(narinfo));
}

#[tokio::test]
async fn the_originals_database_is_refused() {
    let folder = Folder::new();
    folder
        .as_another(&["CREATE TABLE schema_migrations (version TEXT)", "CREATE TABLE narinfos (id INTEGER)"])
        .await;
    let error = folder.refused().await;
    assert!(matches!(error, OpenError::GoOriginal(_)), "{error}");
    assert!(error.to_string().contains("--cache-database-url"), "says what to do: {error}");
    std::fs::write(folder.0.path().join("db.sqlite-wal"), "pending").expect("written");
    let error = folder.refused().await;
    assert!(matches!(error, OpenError::GoOriginal(_)), "with its log: {error}");
}

#[tokio::test]
async fn other_programs_databases_are_refused() {
    let with_tables = Folder::new();
    with_tables.as_another(&["CREATE TABLE bookmarks (url TEXT)"]).await;
    let marked = Folder::new();
    marked.as_another(&["PRAGMA application_id = 42"]).await;
    let in_log = Folder::new();
    in_log.as_another(&["PRAGMA user_version = 1"]).await;
    std::fs::write(in_log.0.path().join("db.sqlite-wal"), "pending").expect("written");
    for folder in [with_tables, marked, in_log] {
        let error = folder.refused().await;
        assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    }
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let folder = Folder::new();
    folder.open().await.close().await;
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99, 'later', TRUE, x'00', 0)";
    folder.as_another(&[later]).await;
    let error = folder.refused().await;
    let newest = open::newest();
    assert!(matches!(error, OpenError::Newer { found: 99, known, .. } if known == newest), "{error}");
}

#[tokio::test]
async fn damaged_files_are_refused() {
    let ours = Folder::new();
    ours.open().await.close().await;
    let whole = std::fs::read(ours.path()).expect("there");
    let mut scrambled = whole.clone();
    scrambled[100..2000].fill(0xAB);
    for bytes in
        [b"no database".to_vec(), vec![0; 4096], whole[..50].to_vec(), whole[..8192].to_vec(), scrambled]
    {
        let folder = Folder::new();
        std::fs::write(folder.path(), &bytes).expect("written");
        let error = folder.refused().await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{} bytes: {error}", bytes.len());
    }
}

/// A narinfo as it is served, with everything that one can have.
async fn stored(db: &Db, seed: u8) -> NarInfo {
    let mut narinfo = Upstream::new().narinfo(seed);
    let own = crate::testing::own_key();
    narinfo.signatures.push(own.sign(&narinfo.fingerprint()));
    let ca = "fixed:r:sha256:0000000000000000000000000000000000000000000000000000";
    narinfo.ca = Some(ContentAddress::parse(ca).expect("valid"));
    let (name, nar_file) = (file_of(&narinfo), file_record(&narinfo));
    point_at(&mut narinfo, name, Some(1));
    let narinfos = vec![(narinfo.store_path.hash(), Some(narinfo.clone().into()))];
    let batch = Batch { files: vec![(name, Some(nar_file.into()))], narinfos, ..Batch::default() };
    db.write(&batch, NOW).await.expect("writes");
    db.write(&batch, NOW).await.expect("may be repeated");
    narinfo
}

fn file_record(narinfo: &NarInfo) -> NarFile {
    let mut second = origin(narinfo);
    second.upstream.push_str(":81");
    NarFile {
        file_size: narinfo.file_size,
        nar: Some(facts_of(narinfo)),
        proven: true,
        uploaded: true,
        origins: vec![second, origin(narinfo)],
        recipe: Some(Recipe { source: file_of(narinfo), level: 3, encoder: "zstd-1.2.3".to_owned() }),
        drop_at: Some(UnixTime(77)),
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    let name = file_of(&narinfo);
    assert_eq!(db.narinfo(narinfo.store_path.hash()).await.expect("reads"), Some(narinfo.clone()));
    let mut theirs = Upstream::new().narinfo(1);
    theirs.signatures.clear();
    assert_eq!(db.nar_file(name).await.expect("reads"), Some(file_record(&theirs)));
    assert_eq!(db.to_drop(UnixTime(76), 10).await.expect("reads"), []);
    assert_eq!(db.to_drop(UnixTime(77), 10).await.expect("reads"), [name]);
    assert_eq!(db.naming(name).await.expect("reads"), [narinfo.store_path.hash()]);
    assert_eq!(db.files_of(narinfo.nar_hash).await.expect("reads"), [name]);

    let gone = Batch { narinfos: vec![(narinfo.store_path.hash(), None)], ..Batch::default() };
    db.write(&gone, NOW).await.expect("writes");
    assert_eq!(db.narinfo(narinfo.store_path.hash()).await.expect("reads"), None);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM signatures").fetch_one(&db.readers).await.expect("reads");
    assert_eq!(left, 0, "signatures go with their narinfo");
}

#[tokio::test]
async fn aliases_come_and_go() {
    let folder = Folder::new();
    let db = folder.open().await;
    let (wrong, right, other) =
        (file("w", Compression::Xz), file("r", Compression::Zstd), file("o", Compression::None));
    for target in [Some(right), Some(other), None] {
        db.write(&Batch { aliases: vec![(wrong, target)], ..Batch::default() }, NOW).await.expect("writes");
        assert_eq!(db.alias(wrong).await.expect("reads"), target);
    }
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = Upstream::new().narinfo(1);
    let wrong = file("w", Compression::Xz);
    // The narinfo's file is missing: the last statement fails.
    let batch = Batch {
        aliases: vec![(wrong, Some(wrong))],
        narinfos: vec![(narinfo.store_path.hash(), Some(narinfo.into()))],
        ..Batch::default()
    };
    db.write(&batch, NOW).await.expect_err("a narinfo without its file");
    assert_eq!(db.alias(wrong).await.expect("reads"), None);
}

#[tokio::test]
async fn a_bad_row_names_itself() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    let hash = narinfo.store_path.hash();
    for (column, value) in [("name", "'a/b'"), ("compression", "'lz4'"), ("nar_size", "-1"), ("ca", "'x'")] {
        let update = format!("PRAGMA foreign_keys = OFF; UPDATE narinfos SET {column} = {value}");
        let folder = Folder::new();
        let db = folder.open().await;
        stored(&db, 1).await;
        sqlx::raw_sql(AssertSqlSafe(update)).execute(&db.writer).await.expect("runs");
        let error = db.narinfo(hash).await.expect_err("a bad row").to_string();
        assert!(error.starts_with(&format!("table narinfos, column {column}, row {hash}: ")), "{error}");
    }
}

#[tokio::test]
async fn no_statement_looks_through_a_table() {
    let folder = Folder::new();
    let db = folder.open().await;
    plans_look_through_nothing(&db).await;
}

#[test]
fn every_statement_is_explained_but_those_that_read_all_once_a_start() {
    let source = include_str!("sql.rs");
    let (statements, all) = source.split_once("const ALL:").expect("the list of all is the last");
    let names = statements.split("const ").skip(1).filter_map(|rest| rest.split(':').next());
    let listed = |name: &str| all.lines().any(|line| line.trim() == format!("{name},"));
    let left: Vec<_> = names.filter(|name| !listed(name)).collect();
    assert_eq!(left, ["TOKENS", "PINS"]);
}

async fn plans_look_through_nothing(db: &Db) {
    for statement in sql::ALL {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query(explain).fetch_all(&db.writer).await.expect("explains");
        for step in plan {
            let step: String = step.get("detail");
            // The rows of one that is given, not of a table.
            let step = step.replace("SCAN a VIRTUAL TABLE", "a");
            assert!(!step.contains("SCAN") && !step.contains("TEMP B-TREE"), "{statement}: {step}");
        }
    }
}

/// SQLite does so by itself where the disk is full, whether in a statement or in the commit.
#[tokio::test]
async fn after_a_transaction_that_sqlite_ended_the_next_ones_are_written() {
    let folder = Folder::new();
    let db = folder.open().await;
    folder
        .as_another(&[
            "CREATE TRIGGER full BEFORE INSERT ON aliases BEGIN SELECT RAISE(ROLLBACK, 'it is full'); END",
        ])
        .await;
    let (alias, target) = (file("w", Compression::Xz), file("r", Compression::Zstd));
    let batch = Batch { aliases: vec![(alias, Some(target))], ..Batch::default() };
    for _ in 0..3 {
        let error = ncps_proto::Error::from(db.write(&batch, NOW).await.expect_err("full")).story();
        assert!(error.contains("it is full"), "{error}");
    }
    folder.as_another(&["DROP TRIGGER full"]).await;
    db.write(&batch, NOW).await.expect("writes");
    assert_eq!(db.alias(alias).await.expect("reads"), Some(target));
    db.close().await;
}

#[tokio::test]
async fn a_reader_waits_for_no_writer() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    let writing = db.writer.begin_with("BEGIN IMMEDIATE").await.expect("begins");
    assert!(db.narinfo(narinfo.store_path.hash()).await.expect("reads").is_some());
    writing.rollback().await.expect("rolls back");
}

#[tokio::test]
async fn a_reader_stays_with_its_rows_until_it_is_asked_for_later_ones() {
    let folder = Folder::new();
    let db = folder.open().await;
    let hash = stored(&db, 1).await.store_path.hash();
    let gone = Batch { narinfos: vec![(hash, None)], ..Batch::default() };
    let writer = (db.clone(), tokio::runtime::Handle::current());
    let seen = db.read(move |reader| {
        let mut is_there =
            |mark| reader.as_of(mark).and_then(|rows| rows.narinfo(hash)).expect("reads").is_some();
        let before = is_there(1);
        writer.1.block_on(writer.0.write(&gone, NOW)).expect("writes");
        [before, is_there(1), is_there(2)]
    });
    assert_eq!(seen.await.expect("reads"), [true, true, false]);
    db.checkpoint().await.expect("no reader is left in the log");
}

/// Narinfos and NAR files as the program would write them, made by the database itself.
const MANY: &str = "
    INSERT INTO nar_files (file_hash, compression, file_size, proven, created_at, last_access)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    SELECT CAST(printf('%032d', i) AS BLOB), 'zstd', 10, 0, 1, 1 FROM n;
    INSERT INTO narinfos (store_path_hash, name, nar_hash, nar_size, file_hash, compression, store_refs,
                          created_at, served_at)
    SELECT CAST(printf('%020d', CAST(CAST(file_hash AS TEXT) AS INTEGER)) AS BLOB), 'path', file_hash, 100,
           file_hash, compression, '', 1, 1 FROM nar_files;
    UPDATE nar_files SET uploaded = 1 WHERE CAST(CAST(file_hash AS TEXT) AS INTEGER) % 10000 = 0;
    ANALYZE;";

#[tokio::test]
async fn at_a_hundred_thousand_paths_nothing_is_counted_or_looked_through() {
    let folder = Folder::new();
    let db = folder.open().await;
    sqlx::raw_sql(AssertSqlSafe(MANY.to_owned())).execute(&db.writer).await.expect("runs");
    let sum = |number, bytes| ncps_proto::admin::Sum { number, bytes };
    assert_eq!(db.narinfo_sum().await.expect("reads"), sum(100_000, 10_000_000));
    assert_eq!(db.nar_file_sum().await.expect("reads"), sum(100_000, 1_000_000));
    let first = db.paths_after(None, 1000).await.expect("reads");
    let next = db.paths_after(first.last().map(|last| last.path.hash()), 1000).await.expect("reads");
    assert_eq!((first.len(), next.len()), (1000, 1000));
    assert!(first.last().map(|last| last.path.hash()) < next.first().map(|first| first.path.hash()));
    let uploads = db.uploads_after(None, 4).await.expect("reads");
    let last = uploads.last().map(|last| last.path.hash());
    assert_eq!((uploads.len(), db.uploads_after(last, 1000).await.expect("reads").len()), (4, 6));
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql::UPLOADS));
    let first = sqlx::query(explain).fetch_all(&db.writer).await.expect("explains");
    let first: String = first[0].get("detail");
    assert!(first.starts_with("SEARCH u "), "from the uploads on: {first}");
    // Again with the statistics of a large index.
    plans_look_through_nothing(&db).await;
}

#[tokio::test]
async fn sums_follow_the_rows() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    let sum = db.narinfo_sum().await.expect("reads");
    assert_eq!((sum.number, sum.bytes), (1, narinfo.nar_size), "a batch that is repeated counts once");
    let file_size = narinfo.file_size;
    let larger = NarFile { file_size: Some(12_345), ..NarFile::default() };
    let batch = Batch { files: vec![(file_of(&narinfo), Some(larger.into()))], ..Batch::default() };
    assert!(file_size != Some(12_345));
    db.write(&batch, NOW).await.expect("writes");
    assert_eq!(db.nar_file_sum().await.expect("reads").bytes, 12_345);
    let gone = Batch { narinfos: vec![(narinfo.store_path.hash(), None)], ..Batch::default() };
    db.write(&gone, NOW).await.expect("writes");
    assert_eq!(db.narinfo_sum().await.expect("reads"), ncps_proto::admin::Sum::default());
}

#[tokio::test]
async fn uploaded_paths_follow_the_rows() {
    let folder = Folder::new();
    let db = folder.open().await;
    let narinfo = stored(&db, 1).await;
    let (hash, name) = (narinfo.store_path.hash(), file_of(&narinfo));
    let is_listed = async || !db.uploads_after(None, 10).await.expect("reads").is_empty();
    let write = async |batch: Batch| db.write(&batch, NOW).await.expect("writes");
    let put = async |name, file: NarFile| {
        write(Batch { files: vec![(name, Some(file.into()))], ..Batch::default() }).await
    };
    assert!(!is_listed().await, "upstreams have it, too");
    let brought = NarFile { origins: Vec::new(), ..file_record(&narinfo) };
    put(name, brought.clone()).await;
    assert!(is_listed().await);
    put(name, NarFile { uploaded: false, ..brought.clone() }).await;
    assert!(!is_listed().await);
    put(name, brought).await;
    assert!(is_listed().await);
    let (mut moved, other) = (narinfo.clone(), file("other", Compression::Xz));
    point_at(&mut moved, other, Some(1));
    put(other, NarFile::default()).await;
    for (narinfo, listed) in [(&moved, false), (&narinfo, true)] {
        write(Batch { narinfos: vec![(hash, Some(narinfo.clone().into()))], ..Batch::default() }).await;
        assert_eq!(is_listed().await, listed);
    }
    write(Batch { narinfos: vec![(hash, None)], ..Batch::default() }).await;
    assert!(!is_listed().await);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM uploaded_paths")
        .fetch_one(&db.readers)
        .await
        .expect("reads");
    assert_eq!(left, 0, "they go with their narinfos");
}
