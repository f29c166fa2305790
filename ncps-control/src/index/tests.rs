//! The writer's promises: nothing that was put is lost by a write that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::{Code, ControlPlane};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::logs::capture;
use ncps_runtime::telemetry::Telemetry;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::{Index, MAX_WAITING};
use crate::db::Db;
use crate::journal::Journal;
use crate::metrics::ControlMetrics;
use crate::testing::{BreakingClock, House, Upstream, file, own_key, publication, settings};

async fn run(folder: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(folder.join("db.sqlite"));
    let mut connection = options.connect().await.expect("opens");
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect("runs");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_write_that_fails_is_said_and_tried_again_while_reads_go_on() {
    let (folder, upstream, log) = (tempfile::tempdir().expect("a directory"), Upstream::new(), capture());
    let settings = settings(upstream.key.public());
    let house = House::open(folder.path(), own_key(), settings, Duration::from_secs(60)).await;
    run(
        folder.path(),
        "CREATE TRIGGER fire BEFORE INSERT ON narinfos BEGIN SELECT RAISE(ABORT, 'disk on fire'); END",
    )
    .await;
    let mark = log.mark();
    let control = Arc::clone(&house.control);
    let ours = control.publish_narinfo(publication(upstream.narinfo(1))).await.expect("trusted");
    let is_said =
        || log.since(mark).iter().any(|event| event.fields.values().any(|v| v.contains("disk on fire")));
    while !is_said() {
        tokio::task::yield_now().await;
    }
    let known = control.narinfo(ours.store_path.hash()).await.expect("answers");
    assert_eq!(known, ncps_proto::Lookup::Known(ours.clone()));
    let location =
        control.locate("edge", crate::record::file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(location.store_paths, [ours.store_path.hash()]);
    run(folder.path(), "DROP TRIGGER fire").await;
    control.flushed().await;
    let db = control.index().db.clone();
    assert_eq!(db.narinfo(ours.store_path.hash()).await.expect("reads"), Some(ours));
    drop(control);
    house.stop().await;
}

#[tokio::test]
async fn past_the_limit_changes_are_refused_and_reads_go_on() {
    let (folder, upstream) = (tempfile::tempdir().expect("a directory"), Upstream::new());
    let settings = settings(upstream.key.public());
    let house = House::open(folder.path(), own_key(), settings, Duration::from_secs(60)).await;
    let control = Arc::clone(&house.control);
    let ours = control.publish_narinfo(publication(upstream.narinfo(1))).await.expect("trusted");
    let fire = "CREATE TRIGGER fire BEFORE INSERT ON aliases BEGIN SELECT RAISE(ABORT, 'full'); END";
    run(folder.path(), fire).await;
    for seed in 0..MAX_WAITING {
        let name = file(&seed.to_string(), Compression::Xz);
        control.index().put_alias(name, Some(name));
    }
    let refused = control.publish_narinfo(publication(upstream.narinfo(2))).await.expect_err("no room");
    assert_eq!(refused.code(), Code::Overloaded);
    let known = control.narinfo(ours.store_path.hash()).await.expect("answers");
    assert_eq!(known, ncps_proto::Lookup::Known(ours));
    run(folder.path(), "DROP TRIGGER fire").await;
    control.flushed().await;
    control.publish_narinfo(publication(upstream.narinfo(2))).await.expect("room again");
    drop(control);
    house.stop().await;
}

#[tokio::test]
async fn a_writer_that_panics_ends_the_process() {
    let (folder, log) = (tempfile::tempdir().expect("a directory"), capture());
    let mark = log.mark();
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::from_secs(20) });
    let tasks = life.tasks();
    let db = Db::open(&folder.path().join("db.sqlite"), UnixTime(1)).await.expect("opens");
    let metrics = ControlMetrics::new(&Telemetry::off());
    let clock = Arc::new(BreakingClock { broken: true.into(), ..BreakingClock::default() });
    let journal = Arc::new(Journal::new(db.clone(), Arc::clone(&clock) as _));
    let index = Index::start(db, Duration::from_secs(60), clock, &tasks, metrics, journal, ());
    let running = tokio::spawn(life.run_until_stopped(tasks));
    index.put_alias(file("a", Compression::Xz), Some(file("b", Compression::Xz)));
    let exit = tokio::time::timeout(Duration::from_secs(20), running).await.expect("it stops by itself");
    assert_eq!(exit.expect("no panic"), Exit::Failure);
    let said =
        |what| log.since(mark).iter().any(|event| event.fields.values().any(|value| value.contains(what)));
    assert!(said("the clock is broken") && said("index-writer"), "the log tells it");
}
