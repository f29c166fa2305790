//! Control for an import, offline: its locks, key, database and index without anybody who asks. What another cache
//! held is adopted through the use cases that serve, so names, signatures and rows are made in one place.
//!
//! Absent on purpose: files of NARs and narinfos (the command's), and edges; nobody can attach.

mod go;
mod go_row;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ncps_nix::{NarFileName, NarInfo, PublicKey, SecretKey, StorePathHash, TrustedKeys};
use ncps_proto::{Code, Error, NarFacts, Result};
use ncps_runtime::clock::{Clock, SystemClock, UnixTime};
use ncps_runtime::foreign::refuse_go_data;
use ncps_runtime::lock::DirLock;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::compose::{self, ComposeError};
use crate::config::{ControlConfig, KeySource};
use crate::db::Db;
use crate::keys;
use crate::record::facts_of;

pub use crate::control::Adoption;
pub use go::{GoDatabase, GoDatabaseError, is_go_database};
pub use go_row::{GoNarFile, GoRow};

/// Adoptions until the index is waited for: what waits is in memory.
const UNWRITTEN: usize = 2048;

/// The data path and the database, which are this process' alone.
#[derive(Debug)]
pub struct Place(Vec<DirLock>);

impl Place {
    /// Makes the folders and takes the locks.
    ///
    /// # Errors
    /// [`ComposeError::Lock`] while a server runs there. [`ComposeError::GoDataPath`] where the data path is the Go
    /// original's, unless it is taken over `in_place`.
    pub fn take(config: &ControlConfig, in_place: bool) -> std::result::Result<Place, ComposeError> {
        if !in_place {
            refuse_go_data(&config.data_path)?;
        }
        compose::lock(config).map(Place)
    }
}

/// The index, open for adoptions.
pub struct Importer {
    control: Arc<Control>,
    /// The upstreams' keys: what one of them signed can be had again.
    upstreams: TrustedKeys,
    /// When files and narinfos that wait for their rows were last read.
    accesses: Mutex<Accesses>,
    /// Nothing is waited for any more.
    stop: CancellationToken,
}

#[derive(Default)]
struct Accesses {
    files: BTreeMap<NarFileName, UnixTime>,
    narinfos: BTreeMap<StorePathHash, UnixTime>,
}

impl Importer {
    /// Opens the index at a place. `former_key` is that of the other cache: it becomes ours where we have none, and
    /// its signatures are believed.
    ///
    /// # Errors
    /// [`ComposeError::Key`] where we have another key already; the database's.
    pub async fn open(
        mut config: ControlConfig,
        place: Place,
        former_key: Option<&SecretKey>,
        tasks: &Tasks,
    ) -> std::result::Result<Importer, ComposeError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        if let (KeySource::Default(path), Some(former)) = (&config.key, former_key) {
            keys::take_over(path, former)?;
        }
        let key = compose::key(&config.key, &config.settings.hostname)?;
        let db = Db::open(&config.database, clock.now()).await?;
        let upstreams = TrustedKeys::from_iter(config.settings.trusted_keys.iter().cloned());
        let believed = [former_key, key.as_ref()].into_iter().flatten().map(SecretKey::public);
        config.settings.trusted_keys.extend(believed);
        let control = compose::start(config, place.0, key, db, tasks, clock, &Telemetry::off()).await?;
        Ok(Importer { control, upstreams, accesses: Mutex::default(), stop: tasks.life().hard() })
    }

    /// The key that adopted narinfos are signed with.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.control.public_key()
    }

    /// The NAR of a path that is known already.
    ///
    /// # Errors
    /// The database's.
    pub async fn known(&self, hash: StorePathHash) -> Result<Option<NarFacts>> {
        Ok(self.control.index().narinfo(hash).await?.map(|narinfo| facts_of(&narinfo)))
    }

    /// The proven files of a NAR, with their sizes in bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn files_of(&self, nar: NarFacts) -> Result<Vec<(NarFileName, u64)>> {
        let mut files = self.control.index().files_of(nar.hash).await?;
        files.retain(|(_, file)| file.proven && file.nar == Some(nar));
        Ok(files.into_iter().filter_map(|(name, file)| Some((name, file.file_size?))).collect())
    }

    /// Whether anybody vouches for a narinfo; to be asked before its NAR is read, which takes long.
    ///
    /// # Errors
    /// As [`Importer::adopt`].
    pub fn vouch(&self, narinfo: &NarInfo) -> Result<()> {
        self.control.vouch(narinfo)
    }

    /// Puts a path into the index whose file was committed, and returns its narinfo as it is served from now on.
    ///
    /// # Errors
    /// [`Code::Invalid`] where nobody vouches for the narinfo, its file holds another NAR, or the path is
    /// known with another one. Others are the database's.
    pub async fn adopt(&self, adoption: Adoption, last_access: Option<UnixTime>) -> Result<NarInfo> {
        if self.control.index().waiting() > UNWRITTEN {
            self.flush().await?;
        }
        let (file, hash) = (adoption.file, adoption.narinfo.store_path.hash());
        let irreplaceable = adoption.origin.is_none() && self.upstreams.verify(&adoption.narinfo).is_none();
        let narinfo = self.control.adopt(adoption, irreplaceable).await?;
        if let Some(at) = last_access {
            let mut accesses = self.accesses.lock();
            let latest = accesses.files.entry(file).or_insert(at);
            *latest = at.max(*latest);
            accesses.narinfos.insert(hash, at);
        }
        Ok(narinfo)
    }

    /// Waits until everything that was adopted has its row.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where the process has to end before.
    pub async fn flush(&self) -> Result<()> {
        // Taken first: an access is written only where its row is.
        let accesses = std::mem::take(&mut *self.accesses.lock());
        tokio::select! {
            () = self.control.flushed() => {}
            () = self.stop.cancelled() => {
                return Err(Error::new(Code::Unavailable, "stopped before the index was written"));
            }
        }
        let index = self.control.index();
        accesses.files.into_iter().for_each(|(name, at)| index.accessed(name, at));
        accesses.narinfos.into_iter().for_each(|(hash, at)| index.served(hash, at));
        Ok(())
    }

    /// The same, and waits until the rows are on the disk, whatever becomes of the machine.
    ///
    /// # Errors
    /// As [`Importer::flush`]; the database's.
    pub async fn settle(&self) -> Result<()> {
        self.flush().await?;
        self.control.index().checkpoint().await
    }
}

/// The key in a file of the other cache.
///
/// # Errors
/// Where there is no such file, or no key in it.
pub fn read_key(path: &Path) -> std::result::Result<SecretKey, ComposeError> {
    Ok(keys::load(path)?)
}
