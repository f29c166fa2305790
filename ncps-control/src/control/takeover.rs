//! What an edge holds and the index does not know: taken over where its narinfo proves itself, else a stray, which is
//! reported and goes after a week.
//!
//! A narinfo proves itself by a signature of ours, of now or of before, or of a key that is trusted for upstreams or
//! for uploads, or by its CA. Origins
//! don't come back like that: they are asked for anew, by store path, when they are needed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{Compression, NarFileName, NarInfo, StorePathHash, TrustedKeys};
use ncps_proto::admin::{AdoptedEdge, EventKind, Rebuilt, Steps};
use ncps_proto::{Job, JobSaid, Result, Victim};
use tokio::sync::mpsc;

use super::Control;
use crate::journal::Note;
use crate::record::{facts_of, file_of, uncompressed};

/// Refusals that are told; the others are counted.
const NAMED: usize = 100;
/// For how long a stray may lie in a store.
const STRAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Strays in one eviction.
const STEP: usize = 64;

/// A narinfo file that is not believed, and the file that it names.
type Refusal = (StorePathHash, NarFileName);

/// What became of a narinfo file.
enum Judged {
    Adopted { rewrite: bool },
    Known { rewrite: bool },
    Refused(String),
}

impl Control {
    /// Takes over what all attached edges hold. They belong to this index from then on.
    pub(crate) fn rebuild(&self) -> Result<Steps<Rebuilt>> {
        let control = self.this()?;
        let (tell, mut told) = mpsc::channel(1);
        let stop = self.tasks.life().hard();
        self.tasks.spawn_background("index-rebuild", async move {
            stop.run_until_cancelled(control.rebuild_from_all(&tell)).await;
        });
        Ok(futures::stream::poll_fn(move |cx| told.poll_recv(cx)).map(Ok).boxed())
    }

    async fn rebuild_from_all(&self, tell: &mpsc::Sender<Rebuilt>) {
        let mut rebuilt = Rebuilt::default();
        for (edge, instance) in self.sessions.named(None) {
            let mut adopted = AdoptedEdge { edge, instance, ..AdoptedEdge::default() };
            let before = rebuilt.clone();
            let so_far = |adopted: &AdoptedEdge| {
                let mut rebuilt = before.clone();
                rebuilt.edges.push(adopted.clone());
                // Who does not keep up hears the next one.
                tell.try_send(rebuilt).ok();
            };
            if let Err(error) = self.rebuild_from(&mut adopted, so_far).await {
                adopted.failure = Some(error.story());
            }
            tracing::info!(
                edge = adopted.edge,
                narinfos = adopted.narinfos,
                adopted = adopted.adopted,
                refused = adopted.refused,
                failure = adopted.failure,
                "the index was rebuilt from an edge"
            );
            rebuilt.edges.push(adopted);
        }
        rebuilt.done = true;
        // Who asked may have left.
        tell.send(rebuilt).await.ok();
    }

    async fn rebuild_from(&self, adopted: &mut AdoptedEdge, tell: impl Fn(&AdoptedEdge)) -> Result<()> {
        // Only of what is there is anything believed.
        self.sessions.counted(&adopted.instance).await?;
        let refused = self.adopt_from(adopted, tell).await?;
        // Its rows first: from then on it removes what we name.
        self.index.flushed().await;
        self.sessions.accept(&adopted.instance, self.index.id())?;
        let mut strays = Vec::new();
        for name in self.sessions.holdings(&adopted.instance) {
            if self.index.file(name).await?.is_none() {
                strays.push(name);
            }
        }
        self.strays(&adopted.instance, strays, refused).await
    }

    /// Looks at every narinfo file of an edge. Returns those that are not believed.
    pub(super) async fn adopt_from(
        &self,
        adopted: &mut AdoptedEdge,
        tell: impl Fn(&AdoptedEdge),
    ) -> Result<Vec<Refusal>> {
        let keys = self.settings.get();
        // Where nothing is signed here, who vouched for an upload is all that there is.
        let keys = keys.public_keys.iter().chain(&self.policy.admission.keys).cloned();
        let ours = TrustedKeys::from_iter(keys);
        let mut refused = Vec::new();
        let mut run = self.sessions.begin_job(&adopted.instance, Job::ListNarinfos)?;
        while let Some(said) = run.next().await? {
            let JobSaid::Narinfos(page) = said else { continue };
            let mut changed = Vec::new();
            for text in page {
                adopted.narinfos += 1;
                self.judge(adopted, &ours, &text, &mut refused, &mut changed).await?;
            }
            self.invalidate(&changed);
            tell(adopted);
        }
        Ok(refused)
    }

    async fn judge(
        &self,
        adopted: &mut AdoptedEdge,
        ours: &TrustedKeys,
        text: &str,
        refused: &mut Vec<Refusal>,
        changed: &mut Vec<StorePathHash>,
    ) -> Result<()> {
        let parsed = NarInfo::parse(text.as_bytes()).map_err(|error| error.to_string());
        let meant = parsed.as_ref().ok().map(|narinfo| (narinfo.store_path.hash(), file_of(narinfo)));
        let judged = match parsed {
            Ok(narinfo) => self.take_over(&adopted.instance, narinfo, ours).await?,
            Err(reason) => Judged::Refused(reason),
        };
        match judged {
            Judged::Adopted { rewrite } => {
                adopted.adopted += 1;
                self.metrics.adopted.inc(());
                changed.extend(meant.filter(|_| rewrite).map(|(hash, _)| hash));
                // It lies in a store already, and may be an upload.
                self.weigh(meant.map(|(_, name)| name)).await;
            }
            Judged::Known { rewrite } => {
                adopted.known += 1;
                // It may have come through another edge meanwhile.
                changed.extend(meant.filter(|_| rewrite).map(|(hash, _)| hash));
            }
            Judged::Refused(reason) => {
                tracing::warn!(instance = adopted.instance, reason, "a narinfo file is not believed");
                adopted.refused += 1;
                refused.extend(meant);
                if adopted.refusals.len() < NAMED {
                    adopted.refusals.push(reason);
                }
            }
        }
        Ok(())
    }

    async fn take_over(&self, instance: &str, narinfo: NarInfo, ours: &TrustedKeys) -> Result<Judged> {
        let (path, name, kept) = (narinfo.store_path.clone(), file_of(&narinfo), narinfo.render());
        let refused = |why: &str| Ok(Judged::Refused(format!("{path}: {why}")));
        if narinfo.url != name.url() || !fits(&narinfo) {
            return refused("it does not name its file as we do");
        }
        if !self.sessions.holds_file(instance, name) {
            return refused("its NAR file is not there");
        }
        let Some(narinfo) = self.policy.again(narinfo, ours) else {
            return refused("neither a trusted key nor one of ours signed it, and no CA proves it");
        };
        if self.index.removals(name).await?.contains(&path.hash())
            && self.index.narinfo(path.hash()).await?.is_none()
        {
            return refused("it was removed");
        }
        self.room_for_rows().await;
        let _file_turn = self.index.lock_files([name]).await;
        let known = self.index.file(name).await?;
        if known.as_ref().is_some_and(|file| file.contradicts(facts_of(&narinfo))) {
            return refused("its NAR file holds another NAR");
        }
        let mut file = known.as_deref().cloned().unwrap_or_default();
        file.file_size = file.file_size.or(narinfo.file_size);
        file.nar = file.nar.or(Some(facts_of(&narinfo)));
        // What no upstream signed came from a client, most likely: as long as nobody else is known to have it, it is not
        // to be lost.
        file.uploaded |= known.is_none() && self.policy.trusted.verify(&narinfo).is_none();
        self.put_if_changed(name, known.as_deref(), file);
        let _turn = self.index.lock_narinfos([path.hash()]).await;
        if let Some(known) = self.index.narinfo(path.hash()).await? {
            return Ok(Judged::Known { rewrite: known.render() != kept });
        }
        let rewrite = narinfo.render() != kept;
        let edge = self.sessions.name_of(instance).unwrap_or_else(|| instance.to_owned());
        self.journal
            .note(Note::new(EventKind::Adopted, format!("from edge {edge}")).path(path.hash()).nar(name));
        self.index.put_new_narinfo(Arc::new(narinfo));
        Ok(Judged::Adopted { rewrite })
    }

    /// Unlike who is waited for, who adopts may wait until there is room.
    async fn room_for_rows(&self) {
        while self.index.admit().await.is_err() {
            self.index.flushed().await;
        }
    }

    /// Notes what nothing vouches for; what was noted a week ago goes.
    pub(super) async fn strays(
        &self,
        instance: &str,
        names: Vec<NarFileName>,
        refused: Vec<Refusal>,
    ) -> Result<()> {
        let now = self.clock.now();
        let since = self.index.db().note_strays(instance, &names, now).await?;
        if !names.is_empty() {
            tracing::warn!(
                instance,
                files = names.len(),
                "NAR files that nothing vouches for: they are removed a week after they were found"
            );
        }
        let old = since.into_iter().filter(|(_, since)| now.since(*since) >= STRAY).map(|(name, _)| name);
        let victim = |name| {
            let narinfos =
                refused.iter().filter(|(_, named)| *named == name).map(|(hash, _)| *hash).collect();
            Victim { name, narinfos }
        };
        let victims: Vec<Victim> = old.map(victim).collect();
        for victims in victims.chunks(STEP) {
            tracing::info!(instance, files = victims.len(), "strays are removed");
            // Nobody waits for the answer: what is there next time is named again.
            let victims = victims.iter().map(|victim| (victim.clone(), None)).collect();
            drop(self.sessions.evict(instance, victims));
        }
        Ok(())
    }
}

/// An uncompressed file is its NAR.
fn fits(narinfo: &NarInfo) -> bool {
    let NarInfo { compression, file_hash, file_size, .. } = narinfo;
    let is_nar = *file_hash == Some(uncompressed(narinfo.nar_hash)) && *file_size == Some(narinfo.nar_size);
    file_hash.is_some() && (*compression != Compression::None || is_nar)
}
