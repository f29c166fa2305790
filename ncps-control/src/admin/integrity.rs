//! Scrubs, verification, rebuilding the index, backups: what people ask, begun, and told to them step by step.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use ncps_proto::admin::{
    BackupPiece, Caller, EdgeScrub, EventKind, Rebuilt, ScrubOrder, ScrubStep, Staged, Steps,
};
use ncps_proto::{Code, Error, JobProgress, Result};
use tokio::sync::{oneshot, watch};

use crate::Control;
use crate::control::Scrubbing;
use crate::journal::Note;

impl Control {
    pub(super) async fn ordered_scrub(&self, caller: &Caller, order: ScrubOrder) -> Result<Steps<ScrubStep>> {
        let what = match &order.edge {
            Some(edge) => format!("scrub of edge {edge}"),
            None => "scrub".to_owned(),
        };
        let scrubbing = self.begin_scrub(order)?;
        self.journal.audit(caller, Note::new(EventKind::JobRun, what)).await?;
        Ok(steps(scrubbing).boxed())
    }

    pub(super) async fn ordered_rebuild(&self, caller: &Caller) -> Result<Steps<Rebuilt>> {
        self.journal.audit(caller, Note::new(EventKind::JobRun, "index rebuild")).await?;
        self.rebuild()
    }

    pub(super) async fn ordered_backup(&self, caller: &Caller) -> Result<Steps<BackupPiece>> {
        self.journal.audit(caller, Note::new(EventKind::BackedUp, "")).await?;
        self.copy_out().await
    }

    pub(super) async fn ordered_restore(&self, caller: &Caller, pieces: Steps<Bytes>) -> Result<Staged> {
        let staged = self.copy_in(pieces).await?;
        let what =
            format!("staged for the next start: {} narinfos of index {}", staged.narinfos, staged.index_id);
        self.journal.audit(caller, Note::new(EventKind::Restored, what)).await?;
        Ok(staged)
    }
}

/// Its progress whenever that changes, then its result.
fn steps(Scrubbing { progress, report }: Scrubbing) -> impl Stream<Item = Result<ScrubStep>> + Send {
    stream::unfold(Some((progress, report)), |running| async move {
        let (mut progress, mut report) = running?;
        let step = next(&mut progress, &mut report).await;
        let goes_on = matches!(step, Ok(ScrubStep::Progress(_)));
        Some((step, goes_on.then_some((progress, report))))
    })
}

async fn next(
    progress: &mut watch::Receiver<JobProgress>,
    report: &mut oneshot::Receiver<Vec<EdgeScrub>>,
) -> Result<ScrubStep> {
    tokio::select! {
        biased;
        Ok(()) = progress.changed() => Ok(ScrubStep::Progress(*progress.borrow_and_update())),
        report = report => {
            let stopping = |_| Error::new(Code::Unavailable, "control is stopping");
            report.map(ScrubStep::Result).map_err(stopping)
        }
    }
}
