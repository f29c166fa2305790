//! Puts the control plane together: folders, locks, key, database, tasks. What is not ours is recognised
//! before it is touched.
//!
//! Absent: sockets (see [`crate::serve`]); a process that has the edge, too, needs none.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ncps_nix::SecretKey;
use ncps_runtime::clock::Clock;
use ncps_runtime::foreign::{GoDataPath, refuse_go_data};
use ncps_runtime::lock::{DirLock, LockError};
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;

use crate::announce;
use crate::config::{ControlConfig, KeySource};
use crate::db::{beside, take_restored};
use crate::keys::{self, KeyFileError, KeyPlace};
use crate::metrics::ControlMetrics;
use crate::{Control, Db, OpenError, Parts, Tokens};

/// Why the control plane can't start. All of it is about the place that the configuration points at.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The data path is the Go original's.
    #[error(transparent)]
    GoDataPath(#[from] GoDataPath),
    /// A folder can't be made.
    #[error("make folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the data path or the database.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The tokens in it can't be read.
    #[error(transparent)]
    Tokens(#[from] ncps_proto::Error),
    /// There is no key to sign with.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// The running control plane.
pub struct Composed {
    /// What edges talk to.
    pub control: Arc<Control>,
}

/// Makes, locks and opens what `config` names, and starts control in the background of `tasks`: when their
/// hard token fires, sessions end, what waits is written, the database is closed and the locks are let go.
///
/// # Errors
/// See [`ComposeError`]. What is not ours is left untouched.
pub async fn compose(
    config: ControlConfig,
    tasks: &Tasks,
    clock: Arc<dyn Clock>,
    telemetry: &Telemetry,
) -> Result<Composed, ComposeError> {
    refuse_go_data(&config.data_path)?;
    let locks = lock(&config)?;
    let key = key(&config.key, &config.settings.hostname)?;
    let restored = take_restored(&config.database, clock.now());
    let failed = |source| OpenError::Io { action: "restore", path: config.database.clone(), source };
    if let Some(former) = restored.map_err(failed)? {
        tracing::warn!(former = %former.display(), "a backup was restored; the former database is kept");
    }
    let db = Db::open(&config.database, clock.now()).await?;
    announce::configuration(&config, key.as_ref(), clock.now());
    let control = start(config, locks, key, db, tasks, clock, telemetry).await?;
    Ok(Composed { control })
}

/// Starts control over what was opened for it.
pub(crate) async fn start(
    config: ControlConfig,
    keep: Vec<DirLock>,
    key: Option<SecretKey>,
    db: Db,
    tasks: &Tasks,
    clock: Arc<dyn Clock>,
    telemetry: &Telemetry,
) -> Result<Arc<Control>, ComposeError> {
    let tokens = Tokens::open(&db).await?;
    let key_place = key_place(&config.key, key.as_ref())?;
    let ControlConfig { settings, admission, negative_ttl, eviction_schedule, scrubs, shown, .. } = config;
    let metrics = ControlMetrics::new(telemetry);
    let parts = Parts {
        db,
        key,
        settings,
        tokens,
        negative_ttl,
        eviction_schedule,
        scrubs,
        admission,
        clock,
        key_place,
        shown,
        metrics,
        keep,
    };
    Ok(Control::start(parts, tasks))
}

/// Makes the folders of data path and database, and takes their locks.
pub(crate) fn lock(config: &ControlConfig) -> Result<Vec<DirLock>, ComposeError> {
    let mut locks = Vec::new();
    make_folder(&config.data_path, SHARED)?;
    locks.push(DirLock::acquire(&config.data_path.join("lock"))?);
    make_database_folder(&config.database)?;
    locks.push(DirLock::acquire(&beside(&config.database, ".lock"))?);
    Ok(locks)
}

/// The store below is for every user of the machine, who must get there.
const SHARED: u32 = 0o755;
const PRIVATE: u32 = 0o700;

/// The folder of the database is for us alone, those above may hold a store, too.
pub(crate) fn make_database_folder(database: &Path) -> Result<(), ComposeError> {
    let Some(folder) = database.parent() else { return Ok(()) };
    if let Some(above) = folder.parent() {
        make_folder(above, SHARED)?;
    }
    make_folder(folder, PRIVATE)
}

/// Makes what is missing of a path; what is there keeps its mode.
fn make_folder(path: &Path, mode: u32) -> Result<(), ComposeError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| ComposeError::Folder { path: path.to_owned(), source })
}

/// The signing key: read, or made where that is allowed.
pub(crate) fn key(source: &KeySource, hostname: &str) -> Result<Option<SecretKey>, KeyFileError> {
    match source {
        KeySource::None => Ok(None),
        KeySource::Given(path) => keys::load(path).map(Some),
        KeySource::Default(path) => keys::load_or_generate(path, hostname).map(Some),
    }
}

fn key_place(source: &KeySource, key: Option<&SecretKey>) -> Result<KeyPlace, KeyFileError> {
    match (source, key) {
        (KeySource::Default(path), Some(key)) => KeyPlace::load(path, &key.public()),
        _ => Ok(KeyPlace::default()),
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
