//! The scrub: every stored file is compared with its name, at a bounded rate. What is wrong leaves the store before
//! anybody else is served it, and is fetched again.

use std::fs::Metadata;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ncps_nix::NarFileName;
use ncps_proto::{Checked, Code, HeldNar, JobProgress, JobSaid, NarFacts, Scrub, Verdict};
use tokio_util::sync::CancellationToken;

use super::check::{Finding, Look};
use super::pace::Pace;
use super::{Teller, Workshop};
use crate::metrics::{Healing, Unsound};
use crate::store::{Fault, LocalStore, blocking};

const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a scrub waits for one file to come again. It comes all the same.
const PATIENCE: Duration = Duration::from_secs(600);

/// A scrub on its way.
struct Round<'w> {
    workshop: &'w Arc<Workshop>,
    teller: &'w Teller,
    deep: bool,
    /// Who asks for these files wants to hear of each.
    named: bool,
    look: Option<Look>,
    read: Arc<AtomicU64>,
    progress: JobProgress,
}

impl Workshop {
    pub(super) async fn scrub(
        self: &Arc<Self>,
        scrub: Scrub,
        teller: &Teller,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let files = self.files(scrub.files.clone()).await.map_err(|e| format!("list the store: {e}"))?;
        let all_bytes = files.iter().map(|held| held.file_size).sum();
        let read = Arc::<AtomicU64>::default();
        let look = Look {
            store: Arc::clone(&self.store),
            deep: scrub.deep,
            pace: Pace::new(scrub.rate, Instant::now()),
            read: Arc::clone(&read),
            stop: stop.clone(),
        };
        let progress = JobProgress { all_files: files.len() as u64, all_bytes, ..JobProgress::default() };
        let (deep, named, look) = (scrub.deep, !scrub.files.is_empty(), Some(look));
        let mut round = Round { workshop: self, teller, deep, named, look, read, progress };
        round.tell().await;
        for held in files {
            round.check(held.name).await?;
        }
        if scrub.files.is_empty() {
            round.heal_quarantined().await?;
        }
        round.tell().await;
        Ok(())
    }

    /// Those that are named, else all of the store, in the order of their names.
    async fn files(&self, named: Vec<NarFileName>) -> io::Result<Vec<HeldNar>> {
        let store = Arc::clone(&self.store);
        let mut files = blocking(move || match named.is_empty() {
            true => store.list(),
            false => named.into_iter().map(|name| held(&store, name)).collect(),
        })
        .await?;
        files.sort_unstable_by_key(|held| held.name);
        Ok(files)
    }
}

/// As far as a scrub needs it. One that is missing has no size.
fn held(store: &LocalStore, name: NarFileName) -> io::Result<HeldNar> {
    let file_size = store.open(name)?.map_or(0, |stored| stored.size);
    Ok(HeldNar { name, file_size, disk_bytes: 0 })
}

impl Round<'_> {
    async fn check(&mut self, name: NarFileName) -> Result<(), String> {
        let found = self.look_at(name).await;
        self.progress.files += 1;
        self.workshop.metrics.scrubbed.inc(());
        match found {
            Ok(Finding::Right { size, nar, reason }) if self.deep || self.named => {
                self.said(Verdict::Right, name, size, nar, reason).await;
            }
            Ok(Finding::Missing) if self.named => {
                self.said(Verdict::Missing, name, 0, None, String::new()).await;
            }
            Ok(Finding::Right { .. } | Finding::Missing) => {}
            Ok(Finding::Wrong { seen, reason }) => self.replace(name, seen, Fault::Wrong, reason).await?,
            Ok(Finding::Unreadable { seen, reason }) => {
                self.replace(name, seen, Fault::Unreadable, reason).await?;
            }
            // Not even its size: nothing of it can be told from another file.
            Err(error) => self.said(Verdict::Unhealed, name, 0, None, error.to_string()).await,
        }
        Ok(())
    }

    /// Reads a file on a thread for that, and says every second how far it is.
    async fn look_at(&mut self, name: NarFileName) -> io::Result<Finding> {
        let Some(mut look) = self.look.take() else { return Err(io::Error::other("the last look was lost")) };
        let mut looking = std::pin::pin!(blocking(move || {
            let found = look.at(name);
            Ok((look, found))
        }));
        let (look, found) = loop {
            tokio::select! {
                looked = &mut looking => break looked?,
                () = tokio::time::sleep(TELL_EVERY) => self.tell().await,
            }
        };
        self.look = Some(look);
        found
    }

    async fn tell(&mut self) {
        let read = self.read.load(Ordering::Relaxed);
        self.workshop.metrics.scrubbed_bytes.add((), read - self.progress.bytes);
        self.progress.bytes = read;
        self.teller.say(JobSaid::Progress(self.progress)).await;
    }

    async fn replace(
        &self,
        name: NarFileName,
        seen: Metadata,
        fault: Fault,
        reason: String,
    ) -> Result<(), String> {
        let size = seen.len();
        let moved = self.workshop.engine.quarantine(name, seen, fault).await;
        if !moved.map_err(|e| format!("{name} is wrong ({reason}) and can't be moved away: {e}"))? {
            return Ok(());
        }
        tracing::error!(nar = %name, bytes = size, reason, "a stored NAR file is in quarantine");
        let (verdict, unsound) = match fault {
            Fault::Wrong => (Verdict::Wrong, Unsound::Wrong),
            Fault::Unreadable => (Verdict::Unreadable, Unsound::Unreadable),
        };
        self.workshop.metrics.unsound.inc(unsound);
        self.said(verdict, name, size, None, reason).await;
        self.heal(name).await;
        Ok(())
    }

    async fn heal(&self, name: NarFileName) {
        let fetched = tokio::time::timeout(PATIENCE, self.workshop.engine.refetch(name)).await;
        let (verdict, reason) = match fetched {
            Ok(Ok(())) => (Verdict::Healed, String::new()),
            Ok(Err(error)) if error.code() == Code::Absent => (Verdict::Lost, error.story()),
            Ok(Err(error)) => (Verdict::Unhealed, error.story()),
            Err(_) => (Verdict::Unhealed, "it is still being fetched".to_owned()),
        };
        self.workshop.metrics.healed.inc(match verdict {
            Verdict::Healed => Healing::Healed,
            Verdict::Lost => Healing::Lost,
            _ => Healing::Failed,
        });
        tracing::info!(nar = %name, ?verdict, reason, "a NAR file from quarantine was asked for again");
        self.said(verdict, name, 0, None, reason).await;
    }

    /// What could not be healed before may be there by now.
    async fn heal_quarantined(&self) -> Result<(), String> {
        let store = Arc::clone(&self.workshop.store);
        let missing = move || {
            let mut names = store.quarantined()?;
            names.retain(|name| matches!(store.open(*name), Ok(None)));
            Ok(names)
        };
        let missing = blocking(missing).await.map_err(|e| format!("list the quarantine: {e}"))?;
        for name in missing {
            self.heal(name).await;
        }
        Ok(())
    }

    async fn said(
        &self,
        verdict: Verdict,
        name: NarFileName,
        file_size: u64,
        nar: Option<NarFacts>,
        reason: String,
    ) {
        self.teller.say(JobSaid::Checked(Checked { name, verdict, file_size, nar, reason })).await;
    }
}
