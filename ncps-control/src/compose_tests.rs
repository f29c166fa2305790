//! What is made at the start, what is refused, and that refused places are left as they were.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use ncps_runtime::clock::SystemClock;
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Timing};
use tempfile::TempDir;

use super::*;
use crate::Scrubs;
use crate::config::ControlAddr;
use crate::testing::{Upstream, settings};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn config(data: &Path) -> ControlConfig {
    ControlConfig {
        data_path: data.to_owned(),
        database: data.join("db/db.sqlite"),
        key: KeySource::Default(data.join("secret.key")),
        negative_ttl: Duration::from_secs(60),
        addr: ControlAddr::FirstOf(vec![]),
        socket: None,
        temp_path: None,
        without_effect: Vec::new(),
        warnings: Vec::new(),
        http_addr: None,
        insecure: false,
        eviction_schedule: None,
        scrubs: Scrubs::default(),
        shown: Vec::new(),
        admission: crate::Admission::default(),
        settings: settings(Upstream::new().key.public()),
    }
}

fn life() -> Lifecycle {
    Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO })
}

async fn start(config: ControlConfig, life: &Lifecycle) -> Result<Composed, ComposeError> {
    compose(config, &life.tasks(), Arc::new(SystemClock), &Telemetry::off()).await
}

async fn refused(config: ControlConfig) -> ComposeError {
    match start(config, &life()).await {
        Ok(_) => panic!("must be refused"),
        Err(error) => error,
    }
}

async fn stop(life: Lifecycle, tasks: Tasks) {
    life.handle().stop_now();
    assert_eq!(life.run_until_stopped(tasks).await, Exit::Ok);
}

/// Every file below a folder, and its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).expect("readable"));
        }
    }
    found
}

#[tokio::test]
async fn everything_is_made_and_let_go_at_the_end() {
    let folder = folder();
    let data = folder.path().join("not/yet/there");
    let life = life();
    let tasks = life.tasks();
    let composed =
        compose(config(&data), &tasks, Arc::new(SystemClock), &Telemetry::off()).await.expect("starts");
    let key = composed.control.public_key().expect("signs");
    assert_eq!(key.name(), "cache.test");
    assert_eq!(composed.control.settings().public_keys, std::slice::from_ref(&key));
    let error = refused(config(&data)).await;
    assert!(matches!(error, ComposeError::Lock(LockError::Held { .. })), "{error}");
    stop(life, tasks).await;
    let again = crate::compose::tests::life();
    let tasks = again.tasks();
    let composed =
        compose(config(&data), &tasks, Arc::new(SystemClock), &Telemetry::off()).await.expect("was let go");
    assert_eq!(composed.control.public_key(), Some(key));
    stop(again, tasks).await;
}

#[tokio::test]
async fn a_database_belongs_to_one_process_wherever_its_data_path_is() {
    let (folder, other) = (folder(), folder());
    let life = life();
    let tasks = life.tasks();
    let clock = Arc::new(SystemClock);
    compose(config(folder.path()), &tasks, clock.clone(), &Telemetry::off()).await.expect("starts");
    let same_database = ControlConfig { database: config(folder.path()).database, ..config(other.path()) };
    let second = compose(same_database, &tasks, clock, &Telemetry::off()).await;
    let Err(ComposeError::Lock(LockError::Held { path, .. })) = second else {
        panic!("the database is in use")
    };
    assert_eq!(path, folder.path().join("db/db.sqlite.lock"));
    stop(life, tasks).await;
}

#[tokio::test]
async fn the_originals_data_path_is_left_untouched() {
    for file in ["store/narinfo/a/ab/x.narinfo", "store/nar/1/1b/x.nar.xz", "config/cache.key"] {
        let folder = folder();
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(path, "theirs").expect("written");
        let before = contents(folder.path());
        let error = refused(config(folder.path())).await;
        assert!(matches!(error, ComposeError::GoDataPath(_)), "{error}");
        assert!(error.to_string().contains("--cache-data-path"), "says what to do: {error}");
        assert_eq!(contents(folder.path()), before);
    }
}

#[tokio::test]
async fn a_missing_key_that_was_given_makes_no_database() {
    let folder = folder();
    let key = KeySource::Given(folder.path().join("absent"));
    let error = refused(ControlConfig { key, ..config(folder.path()) }).await;
    assert!(matches!(error, ComposeError::Key(KeyFileError::Missing(_))), "{error}");
    assert!(!folder.path().join("db/db.sqlite").exists());
}

#[tokio::test]
async fn without_signing_there_is_no_key() {
    let folder = folder();
    let life = life();
    let tasks = life.tasks();
    let config = ControlConfig { key: KeySource::None, ..config(folder.path()) };
    let composed = compose(config, &tasks, Arc::new(SystemClock), &Telemetry::off()).await.expect("starts");
    assert_eq!((composed.control.public_key(), composed.control.settings().public_keys.len()), (None, 0));
    assert!(!folder.path().join("secret.key").exists());
    stop(life, tasks).await;
}
