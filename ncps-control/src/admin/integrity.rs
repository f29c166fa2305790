//! Scrubs, verification, rebuilding the index, backups: what people ask, begun, and told to them step by step.

use bytes::Bytes;
use ncps_proto::Result;
use ncps_proto::admin::{BackupPiece, Caller, EventKind, Rebuilt, ScrubOrder, ScrubStep, Staged, Steps};

use super::steps::steps;
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
        let Scrubbing { progress, report } = scrubbing;
        Ok(steps(progress, report, ScrubStep::Progress, |edges| Ok(ScrubStep::Result(edges))))
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
        let staged = self.copy_in(caller, pieces).await?;
        let what =
            format!("staged for the next start: {} narinfos of index {}", staged.narinfos, staged.index_id);
        self.journal.audit(caller, Note::new(EventKind::Restored, what)).await?;
        Ok(staged)
    }
}
