//! One path of the other cache becomes ours: vouched for, spooled, proven, committed, adopted, in this order. Whatever
//! stops that, a later run does again what is not in the index, and nothing else.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use ncps_control::import::{Adoption, Importer};
use ncps_edge::import::{Proven, Take, prove_file, spool};
use ncps_edge::store::{Committed, LocalStore};
use ncps_nix::{Compression, NarFileName, NarInfo};
use ncps_proto::{Code, NarFacts};
use ncps_runtime::fault::{self, Point};
use ncps_runtime::tasks::Tasks;

use super::source::{Entry, NoEntry, Source};

/// What became of a path.
pub(super) enum Outcome {
    Imported {
        /// Its NAR file was taken just now, of so many bytes; else another path's file is its, too.
        taken: Option<u64>,
    },
    AlreadyThere,
    Chunked,
    /// Only its narinfo is there.
    WithoutNar,
    /// What is wrong with it.
    Refused(String),
}

/// What the import of a path needs.
pub(super) struct Workshop {
    pub(super) source: Source,
    pub(super) importer: Importer,
    pub(super) store: Arc<LocalStore>,
    pub(super) take: Take,
    pub(super) tasks: Tasks,
}

impl Workshop {
    /// Imports one path.
    ///
    /// # Errors
    /// Where it would be of no use to go on: our disk fails, or is full.
    pub(super) async fn import(&self, hash: &str) -> anyhow::Result<Outcome> {
        let entry = match self.source.entry(hash).await {
            Ok(entry) => entry,
            Err(NoEntry::Bare) => return Ok(Outcome::WithoutNar),
            Err(NoEntry::Broken(error)) => return Err(error),
            Err(wrong) => return Ok(Outcome::Refused(wrong.to_string())),
        };
        let result = match self.importer.vouch(&entry.narinfo) {
            Ok(()) => self.import_entry(entry).await,
            Err(error) => Err(error.into()),
        };
        result.or_else(|error| match error.downcast_ref::<ncps_proto::Error>() {
            Some(refusal) if refusal.code() == Code::Invalid => Ok(Outcome::Refused(refusal.to_string())),
            _ => Err(error),
        })
    }

    async fn import_entry(&self, entry: Entry) -> anyhow::Result<Outcome> {
        let facts = NarFacts { hash: entry.narinfo.nar_hash, size: entry.narinfo.nar_size };
        let known = self.importer.known(entry.narinfo.store_path.hash()).await?;
        if known.is_some_and(|nar| nar != facts) {
            return Ok(Outcome::Refused("it is known here with another NAR".to_owned()));
        }
        if let Some(held) = self.held(&entry.narinfo, facts).await? {
            self.adopt(entry, held).await?;
            return Ok(known.map_or(Outcome::Imported { taken: None }, |_| Outcome::AlreadyThere));
        }
        match (entry.files.is_empty(), entry.is_chunked) {
            (true, true) => return Ok(Outcome::Chunked),
            (true, false) => return Ok(Outcome::WithoutNar),
            _ => {}
        }
        match self.taken(&entry.files, facts).await? {
            Ok(proven) => {
                self.adopt(entry, proven).await?;
                Ok(Outcome::Imported { taken: Some(proven.file_size) })
            }
            Err(reason) => Ok(Outcome::Refused(reason)),
        }
    }

    /// A file of this NAR that was proven before and lies in the store, in the compression that clients know, if they
    /// were given a compressed one.
    async fn held(&self, narinfo: &NarInfo, nar: NarFacts) -> anyhow::Result<Option<Proven>> {
        for (name, file_size) in self.importer.files_of(nar).await? {
            let fits = [name.compression, Compression::None].contains(&narinfo.compression);
            if fits && self.lies_here(name, file_size)? {
                return Ok(Some(Proven { name, file_size, nar }));
            }
        }
        Ok(None)
    }

    fn lies_here(&self, name: NarFileName, size: u64) -> anyhow::Result<bool> {
        Ok(self
            .store
            .open(name)
            .with_context(|| format!("open {name}"))?
            .is_some_and(|file| file.size == size))
    }

    /// The first of these files that is the NAR, as a NAR file of ours; else what is wrong with the last.
    async fn taken(&self, files: &[PathBuf], nar: NarFacts) -> anyhow::Result<Result<Proven, String>> {
        let (store, take, files) = (Arc::clone(&self.store), self.take, files.to_vec());
        let work = move || {
            let mut wrong = String::new();
            for file in files {
                match take_file(&store, &file, take, nar)? {
                    Ok(proven) => return Ok(Ok(proven)),
                    Err(reason) => wrong = format!("{}: {reason}", file.display()),
                }
            }
            Ok(Err(wrong))
        };
        self.tasks.spawn_blocking("import a NAR", work).await.context("the import of a NAR was stopped")?
    }

    async fn adopt(&self, entry: Entry, file: Proven) -> anyhow::Result<()> {
        let Entry { narinfo, former_names, last_access, origin, .. } = entry;
        let Proven { name, file_size, nar } = file;
        let adoption = Adoption { narinfo, file: name, file_size, nar, former_names, origin };
        let narinfo = self.importer.adopt(adoption, last_access).await?;
        let store = Arc::clone(&self.store);
        // Under the file that it names, which may be another one of the same NAR.
        let named =
            narinfo.file_hash.map_or(name, |hash| NarFileName { hash, compression: narinfo.compression });
        let put = self.tasks.spawn_blocking("store a narinfo", move || store.put_narinfo(&narinfo, named));
        put.await?.context("store a narinfo")
    }
}

/// Spools, proves and commits a file. The inner error says why it is not the NAR.
fn take_file(
    store: &LocalStore,
    file: &Path,
    take: Take,
    nar: NarFacts,
) -> anyhow::Result<Result<Proven, String>> {
    let spool = match spool(store, file, take) {
        Ok(spool) => spool,
        Err(error) if is_ours(&error) => {
            return Err(error).with_context(|| format!("take {}", file.display()));
        }
        Err(error) => return Ok(Err(format!("it can't be taken: {error}"))),
    };
    let proven = match prove_file(spool.file(), nar.size) {
        Ok(proven) if proven.nar == nar => proven,
        Ok(_) => return Ok(Err("it holds another NAR than its narinfo says".to_owned())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    let committed = store.commit(spool, proven.name, || {}).context("store a NAR file")?;
    fault::point(Point::NarStored);
    match committed {
        Committed::Kept(_) => Ok(Ok(proven)),
        Committed::NoRoom { .. } => anyhow::bail!("the store has no room for {}", proven.name),
    }
}

/// Whether a failure is our disk's, or that of every file of the other cache, so that it is of no use to go on.
fn is_ours(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), CrossesDevices | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}
