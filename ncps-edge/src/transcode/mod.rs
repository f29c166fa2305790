//! Transcoding: what is stored as xz, bzip2 or uncompressed becomes zstd in the background, and narinfos name that file
//! from then on. Clients unpack it many times faster.
//!
//! ```text
//! commit, read of a stored file ─→ Queue ─→ worker ─→ Recoding (thread) ─→ store ─→ control: narinfos name it
//! ```
//!
//! A NAR is transcoded where narinfos name a file of another kind, and once: where a zstd file of it is here, narinfos
//! name that. What is not done, for want of room or of control, is tried again when the file is read a minute later. Absent: who
//! drops the former file, and when (control's); making one again that is gone (the transfer's).

mod queue;
mod recode;

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName};
use ncps_proto::{Commit, Error, Location, NarFacts, Recipe, Result};
use ncps_runtime::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use crate::live::Current;
use crate::metrics::{EdgeMetrics, Route, Size, Transcoded};
use crate::store::StoredNar;
use crate::transfer::{Engine, StoredZstd, library};

pub(crate) use queue::Queue;
use recode::{Made, Recoded, Recoding};

/// A worker for so many processors.
const PROCESSORS: usize = 4;

/// What the workers share.
pub(crate) struct Transcoder {
    engine: Arc<Engine>,
    current: Arc<Current>,
    metrics: Arc<EdgeMetrics>,
    stop: CancellationToken,
}

/// A stored file that is to become another one.
struct Source {
    name: NarFileName,
    stored: StoredNar,
    nar: NarFacts,
    level: i32,
}

impl Transcoder {
    /// Starts the workers in the background of `tasks`.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        current: &Arc<Current>,
        metrics: &Arc<EdgeMetrics>,
        tasks: &Tasks,
    ) {
        let transcoder = Arc::new(Transcoder {
            engine: Arc::clone(engine),
            current: Arc::clone(current),
            metrics: Arc::clone(metrics),
            stop: tasks.life().hard(),
        });
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors.div_ceil(PROCESSORS) {
            tasks.spawn_critical_background("transcode", Arc::clone(&transcoder).work());
        }
    }

    async fn work(self: Arc<Self>) {
        let work = async {
            loop {
                let name = self.engine.transcodes().next().await;
                if let Err(error) = self.look_at(name).await {
                    tracing::warn!(nar = %name, error = error.story(), "a NAR is not transcoded yet");
                    self.metrics.transcoded.inc(Transcoded::Failed);
                }
            }
        };
        self.stop.run_until_cancelled(work).await;
    }

    async fn look_at(&self, name: NarFileName) -> Result<()> {
        let Some(level) = self.level() else {
            self.engine.transcodes().forget(name);
            return Ok(());
        };
        let Some(stored) = self.engine.stored(name).await? else { return Ok(()) };
        let Some((location, nar)) = self.worth_it(name).await? else { return Ok(()) };
        let source = Source { name, stored, nar, level };
        match self.engine.stored_zstd_of(&location.representations).await? {
            // Whoever made it.
            Some(StoredZstd { name, stored }) => {
                let made = Made { name, file_size: stored.size };
                self.engine.tell(&source.commit(&made)).await
            }
            None => self.transcode(source).await,
        }
    }

    fn busy(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        let active = Arc::clone(&self.metrics.http.active);
        Arc::new(move || [Route::Nar, Route::Peer].into_iter().any(|route| active.get(route) > 0))
    }

    fn level(&self) -> Option<i32> {
        self.current.get().ok()?.settings.recompress
    }

    /// Nothing is done for what no narinfo names, or what nobody proved.
    async fn worth_it(&self, name: NarFileName) -> Result<Option<(Location, NarFacts)>> {
        let location =
            self.engine.locate(name).await?.filter(|location| location.proven && location.name == name);
        let named = location.filter(|location| !location.store_paths.is_empty());
        Ok(named.and_then(|location| location.nar.map(|nar| (location, nar))))
    }

    async fn transcode(&self, source: Source) -> Result<()> {
        let spool = self.engine.begin_spool(None).await;
        let spool = spool.map_err(|e| Error::internal("spool a transcoded NAR").because(e))?;
        let recoding = Recoding {
            from: Arc::clone(&source.stored.file),
            compression: source.name.compression,
            nar: source.nar,
            level: source.level,
            into: spool.file(),
            stop: self.stop.clone(),
            is_busy: self.busy(),
        };
        let Recoded { made, cpu } = recoding.run().await;
        self.metrics.transcode_cpu.add((), u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX));
        let made = made.map_err(|e| Error::internal("transcode a NAR").because(e))?;
        if source.gains_nothing(&made) {
            self.metrics.transcoded.inc(Transcoded::NoGain);
            self.engine.transcodes().settle(source.name);
            return Ok(());
        }
        let commit = source.commit(&made);
        match self.engine.commit_made(spool, commit).await? {
            true => self.count(&source, &made),
            false => self.metrics.transcoded.inc(Transcoded::NotKept),
        }
        Ok(())
    }

    fn count(&self, source: &Source, made: &Made) {
        tracing::info!(nar = %source.name, made = %made.name, before = source.stored.size, bytes = made.file_size,
            "transcoded a NAR");
        self.metrics.transcoded.inc(Transcoded::Made);
        self.metrics.transcoded_bytes.add(Size::Before, source.stored.size);
        self.metrics.transcoded_bytes.add(Size::After, made.file_size);
        self.metrics.transcode_saved.add((), source.stored.size.saturating_sub(made.file_size));
    }
}

impl Source {
    /// An uncompressed file that does not get smaller is unpacked fastest as it is.
    fn gains_nothing(&self, made: &Made) -> bool {
        self.name.compression == Compression::None && made.file_size >= self.stored.size
    }

    fn commit(&self, made: &Made) -> Commit {
        let recipe = Recipe { source: self.name, level: self.level, encoder: library() };
        Commit {
            name: made.name,
            asked_as: None,
            file_size: made.file_size,
            nar: self.nar,
            origin: None,
            uploaded: false,
            recipe: Some(recipe),
            meanwhile: Vec::new(),
        }
    }
}
