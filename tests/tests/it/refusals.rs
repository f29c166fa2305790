//! Places that are not ours are left as they were found: the program says why, and ends with 2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ncps_tests::{Fixture, Installation, Mount, Process, Upstream, UpstreamKey, both_modes};
use sqlx::{ConnectOptions, Connection};

use crate::processes::UNDER_TEST;

/// Every file below a directory with its content, and every directory.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("it can be read") {
            let path = entry.expect("listed").path();
            if path.is_dir() {
                dirs.push(path.clone());
            }
            found.insert(path.clone(), fs::read(&path).ok());
        }
        found.insert(dir, None);
    }
    found
}

async fn is_refused(mut process: Process, why: &str) {
    assert_eq!(process.exit().await.code(), Some(2), "{:#?}", process.lines());
    process.line_with(why).await;
}

async fn sql(database: &Path, statements: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let mut connection = options.connect().await.expect("it opens");
    sqlx::raw_sql(statements).execute(&mut connection).await.expect("it is SQL");
    connection.close().await.expect("it closes");
}

/// The database that these statements make is refused by the program that has control, and keeps every byte.
async fn database_is_refused(ncps: &Installation, statements: &'static str, why: &str) {
    let database = ncps.control_data().join("db/db.sqlite");
    fs::create_dir_all(database.parent().expect("inside")).expect("room");
    sql(&database, statements).await;
    let before = fs::read(&database).expect("it is there");
    is_refused(ncps.spawn(&ncps.control_command(&ncps.control_data())), why).await;
    assert!(fs::read(&database).expect("it is there") == before, "it was touched");
    for suffix in ["-wal", "-shm", "-journal"] {
        assert!(!database.with_extension(format!("sqlite{suffix}")).exists(), "{suffix} was made");
    }
}

fn empty(mode: ncps_tests::Mode) -> Installation {
    Installation::new(mode, UNDER_TEST)
}

both_modes! {
    async fn a_data_path_of_the_go_original(mode) {
        let theirs = ["store/narinfo/1/1b/x.narinfo", "store/nar/1/1b/x.nar.xz", "config/cache.key"];
        for file in theirs {
            let ncps = empty(mode);
            let places = [ncps.control_data(), ncps.edge_data()];
            for data in &places {
                let file = data.join(file);
                fs::create_dir_all(file.parent().expect("inside")).expect("room");
                fs::write(file, "theirs").expect("room");
            }
            let before = places.each_ref().map(|data| contents(data));
            let why = "is a data path of the Go ncps";
            is_refused(ncps.spawn(&ncps.control_command(&places[0])), why).await;
            is_refused(ncps.spawn(&ncps.edge_command(&places[1])), why).await;
            assert!(places.each_ref().map(|data| contents(data)) == before, "{file}: something was touched");
        }
    }

    async fn a_database_of_the_go_original(mode) {
        let theirs = "CREATE TABLE schema_migrations (version TEXT); CREATE TABLE narinfos (id INTEGER)";
        database_is_refused(&empty(mode), theirs, "is a database of the Go ncps").await;
    }

    async fn a_database_of_another_program(mode) {
        let theirs = "CREATE TABLE songs (title TEXT); INSERT INTO songs VALUES ('Helden')";
        database_is_refused(&empty(mode), theirs, "is a database of another program").await;
    }

    async fn a_database_that_is_none(mode) {
        let ncps = empty(mode);
        let database = ncps.control_data().join("db/db.sqlite");
        fs::create_dir_all(database.parent().expect("inside")).expect("room");
        fs::write(&database, "not a database at all".repeat(100)).expect("room");
        let before = fs::read(&database).expect("it is there");
        is_refused(ncps.spawn(&ncps.control_command(&ncps.control_data())), "is no usable SQLite database").await;
        assert!(fs::read(&database).expect("it is there") == before, "it was touched");
    }

    async fn a_database_of_a_newer_version(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200);
        ncps.terminate().await;
        let newer = "UPDATE _sqlx_migrations SET version = version + 9000 \
                     WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
        database_is_refused(&ncps, newer, "was written by a newer ncps (schema 90").await;
        let back = "UPDATE _sqlx_migrations SET version = version - 9000 WHERE version > 9000";
        sql(&ncps.control_data().join("db/db.sqlite"), back).await;
        upstream.down().await;
        ncps.start().await;
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200, "its rows are still there");
        ncps.terminate().await;
    }

    async fn a_state_file_that_is_none(mode) {
        let ncps = empty(mode);
        fs::create_dir_all(ncps.edge_data()).expect("room");
        fs::write(ncps.edge_data().join("edge.state"), "something else").expect("room");
        is_refused(ncps.spawn(&ncps.edge_command(&ncps.edge_data())), "is not an edge's state file").await;
        assert_eq!(fs::read(ncps.edge_data().join("edge.state")).expect("there"), b"something else");
    }

    async fn an_address_that_is_taken(mode) {
        let ncps = empty(mode);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut command = ncps.edge_command(&ncps.edge_data());
        command.push(format!("--server-addr={}", taken.local_addr().expect("bound")));
        is_refused(ncps.spawn(&command), "(--server-addr)").await;
    }

    async fn a_data_path_that_is_a_file(mode) {
        let ncps = empty(mode);
        fs::write(ncps.edge_data(), "a file").expect("room");
        let why = format!("{}", ncps.edge_data().display());
        is_refused(ncps.spawn(&ncps.edge_command(&ncps.edge_data())), &why).await;
        assert_eq!(fs::read(ncps.edge_data()).expect("there"), b"a file");
    }

    async fn a_data_path_that_is_read_only(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200);
        ncps.get(&fixture.nar_path()).await.whole().await;
        ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
        ncps.terminate().await;
        for data in BTreeSet::from([ncps.control_data(), ncps.edge_data()]) {
            let before = contents(&data);
            let Some(sealed) = Mount::read_only(&data) else { return };
            let command = if data == ncps.edge_data() { ncps.edge_command(&data) } else { ncps.control_command(&data) };
            let mut process = ncps.spawn(&command);
            assert_eq!(process.exit().await.code(), Some(2), "{:#?}", process.lines());
            let line = process.line_with("Read-only file system").await;
            assert!(line.contains(&*data.to_string_lossy()), "which one: {line}");
            drop(sealed);
            assert!(contents(&data) == before, "something was touched");
        }
        upstream.down().await;
        ncps.start().await;
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200, "all is as it was");
        assert!(ncps.get(&fixture.nar_path()).await.whole().await == fixture.file.to_bytes());
        ncps.terminate().await;
    }
}
