//! Purge: paths that an administrator wants out of the cache, chosen by name, glob, upstream and age, all of which
//! must fit. Whoever asks for one of them again has it fetched anew.
//!
//! Pinned paths stay: one that is named is refused, those that a rule would choose are left and counted; unless they
//! are forced, and then the pin protects what comes back. Absent on purpose: the removal itself (see
//! [`super::removal`]).

use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{StorePath, StorePathHash};
use ncps_proto::admin::{
    Caller, EventKind, MOST_PURGED, PurgeOrder, PurgeReport, PurgeStep, PurgedPath, Steps,
};
use ncps_proto::{Code, Error, Result};
use ncps_runtime::clock::UnixTime;
use tokio::sync::mpsc;

use super::Control;
use crate::admin::Pattern;
use crate::journal::Note;
use crate::record::PathUse;

/// Paths that are looked at at once.
const PAGE: u32 = 1000;
/// Steps that who asked may be behind.
const STEPS: usize = 16;
/// How long what is on its way into the database is waited for: it may be chosen, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// An order that was understood.
struct Choice {
    name: Option<Pattern>,
    upstream: Option<String>,
    /// Nobody asked for it since.
    unused_since: Option<UnixTime>,
}

impl Control {
    /// See [`ncps_proto::admin::AdminPlane::purge`].
    pub(crate) fn begin_purge(&self, order: PurgeOrder, caller: Caller) -> Result<Steps<PurgeStep>> {
        let control = self.this()?;
        let (tell, mut told) = mpsc::channel(STEPS);
        let stop = self.tasks.life().hard();
        self.tasks.spawn_background("purge", async move {
            let purged = stop.run_until_cancelled(control.purge(&order, &caller, |paths, all| {
                // Who does not keep up hears the next one.
                tell.try_send(Ok(PurgeStep::Progress { paths, all })).ok();
                !tell.is_closed()
            }));
            match purged.await {
                Some(Ok(report)) => tell_report(report, &tell).await,
                // Who asked may have left.
                Some(Err(error)) => drop(tell.send(Err(error)).await),
                None => {}
            }
        });
        Ok(futures::stream::poll_fn(move |cx| told.poll_recv(cx)).boxed())
    }

    /// Purges. It goes on from step to step as long as `go_on`, which is told how many paths are gone, of how many.
    ///
    /// # Errors
    /// As [`ncps_proto::admin::AdminPlane::purge`] says.
    pub async fn purge(
        &self,
        order: &PurgeOrder,
        caller: &Caller,
        mut go_on: impl FnMut(u64, u64) -> bool,
    ) -> Result<PurgeReport> {
        let choice = Choice::of(order, self.clock.now())?;
        let _turn = self.purging.lock().await;
        tokio::time::timeout(PATIENCE, self.index.flushed()).await.ok();
        self.pins.settled().await?;
        let (mut report, absent) = self.choose(order, &choice).await?;
        if report.paths.is_empty() && absent.is_empty() {
            return Err(nothing_fits(report.pinned));
        }
        (report.count, report.absences) = (report.paths.len() as u64, absent.len() as u64);
        if order.dry_run {
            return Ok(report);
        }
        self.journal.audit(caller, Note::new(EventKind::Purged, summary(order, &report))).await?;
        absent.iter().for_each(|hash| self.index.forget_absence(*hash));
        let hashes: Vec<_> = report.paths.iter().map(|purged| purged.path.hash()).collect();
        let removed = self.remover.remove(&hashes, |done| go_on(done, report.count)).await?;
        for narinfo in &removed.paths {
            let hash = narinfo.store_path.hash();
            self.journal.note(Note::new(EventKind::Purged, format!("by {caller}")).path(hash));
        }
        (report.files, report.bytes, report.unheard) = (removed.files, removed.bytes, removed.unheard);
        Ok(report)
    }

    /// What fits and goes, and the named paths that are believed absent.
    async fn choose(&self, order: &PurgeOrder, choice: &Choice) -> Result<(PurgeReport, Vec<StorePathHash>)> {
        let mut report = PurgeReport::default();
        if order.paths.is_empty() {
            self.choose_of_all(order, choice, &mut report).await?;
            return Ok((report, Vec::new()));
        }
        let mut absent = Vec::new();
        for hash in &order.paths {
            match self.index.use_of(*hash).await? {
                Some(known) if !self.fits(&known, choice).await? => {}
                Some(known) if self.stays(*hash, order) => return Err(pinned(&known.path)),
                Some(known) => report.paths.push(self.purged(known).await?),
                None if self.index.is_absent(*hash) => absent.push(*hash),
                None => return Err(Error::new(Code::Absent, format!("{hash} is not in the index"))),
            }
        }
        Ok((report, absent))
    }

    async fn choose_of_all(
        &self,
        order: &PurgeOrder,
        choice: &Choice,
        report: &mut PurgeReport,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.index.uses(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.path.hash());
            for known in page {
                if !self.fits(&known, choice).await? {
                    continue;
                }
                if self.stays(known.path.hash(), order) {
                    report.pinned += 1;
                } else {
                    report.paths.push(self.purged(known).await?);
                }
            }
        }
    }

    fn stays(&self, hash: StorePathHash, order: &PurgeOrder) -> bool {
        !order.force && self.index.closures().protects(hash)
    }

    async fn fits(&self, known: &PathUse, choice: &Choice) -> Result<bool> {
        let name_fits = choice.name.as_ref().is_none_or(|pattern| pattern.fits(known.path.name()));
        let age_fits = choice.unused_since.is_none_or(|then| known.last_use <= then);
        if !name_fits || !age_fits {
            return Ok(false);
        }
        let Some(upstream) = &choice.upstream else { return Ok(true) };
        let file = self.index.file(known.file).await?;
        let origins = file.iter().flat_map(|file| &file.origins);
        let (theirs, others): (Vec<_>, Vec<_>) =
            origins.partition(|origin| origin.upstream.trim_end_matches('/') == upstream);
        Ok(!theirs.is_empty() && others.is_empty())
    }

    async fn purged(&self, known: PathUse) -> Result<PurgedPath> {
        let file = self.index.file(known.file).await?;
        let uploaded = file.as_ref().is_some_and(|file| file.is_irreplaceable());
        let file_size = file.and_then(|file| file.file_size);
        Ok(PurgedPath { path: known.path, last_use: known.last_use.0, file_size, uploaded })
    }
}

/// With the uploads before it, of which each is to be known by name.
async fn tell_report(report: PurgeReport, tell: &mpsc::Sender<Result<PurgeStep>>) {
    let uploads = report.paths.iter().filter(|purged| purged.uploaded).map(|purged| purged.path.clone());
    let uploads: Vec<StorePath> = uploads.collect();
    let pages = uploads.chunks(MOST_PURGED).map(|page| PurgeStep::Uploads(page.to_vec()));
    for step in pages.chain([PurgeStep::Report(report)]) {
        if tell.send(Ok(step)).await.is_err() {
            return;
        }
    }
}

impl Choice {
    fn of(order: &PurgeOrder, now: UnixTime) -> Result<Choice> {
        let PurgeOrder { paths, name, upstream, older_than, .. } = order;
        if paths.is_empty() && name.is_none() && upstream.is_none() && older_than.is_none() {
            return Err(Error::new(
                Code::Invalid,
                "say what is to be purged: paths, a glob, an upstream, or an age",
            ));
        }
        let unused_since = older_than.map(|age| UnixTime(now.0.saturating_sub(age.as_secs().cast_signed())));
        Ok(Choice {
            name: name.as_deref().map(Pattern::new),
            upstream: upstream.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
            unused_since,
        })
    }
}

/// What the audit log says of it.
fn summary(order: &PurgeOrder, report: &PurgeReport) -> String {
    let mut said = format!("{} paths", report.count);
    for (what, text) in [("name", &order.name), ("upstream", &order.upstream)] {
        if let Some(text) = text {
            said.push_str(&format!(", {what} {text}"));
        }
    }
    if let Some(age) = order.older_than {
        said.push_str(&format!(", not asked for in {} s", age.as_secs()));
    }
    if let [only] = report.paths.as_slice() {
        said.push_str(&format!(": {}", only.path));
    }
    said
}

fn pinned(path: &StorePath) -> Error {
    Error::new(Code::Invalid, format!("{path} is pinned: unpin it first, or purge it with --force"))
}

fn nothing_fits(pinned: u64) -> Error {
    let but = if pinned > 0 { format!(" but {pinned} pinned paths, which stay") } else { String::new() };
    Error::new(Code::Absent, format!("nothing in the index fits{but}"))
}
