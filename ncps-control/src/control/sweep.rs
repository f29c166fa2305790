//! Uploads that no edge has. A process that is killed after the removal of an upload's last copy and before that of its
//! narinfo leaves a promise, and no edge will ever say that it lost what it kept: who removed it does not know of it any
//! more. So it is looked for once a run, when every edge that keeps its disk is back and has said all that it holds.
//!
//! Absent: what is lost while control runs, which edges say (see [`super::lost`]).

use std::collections::BTreeSet;
use std::sync::Weak;

use ncps_proto::Result;
use ncps_proto::admin::EventKind;
use ncps_runtime::tasks::Tasks;

use super::Control;
use super::lost::{self, Back};
use super::upload::RETURN;
use crate::db::Listed;
use crate::journal::Note;

/// Uploads that are looked at in one step.
const PAGE: u32 = 1000;

impl Control {
    pub(super) fn start_sweep(&self, tasks: &Tasks) {
        let (me, stop) = (Weak::clone(&self.me), tasks.life().hard());
        tasks.spawn_background("unheld uploads", async move {
            let sweeps = async {
                loop {
                    tokio::time::sleep(RETURN).await;
                    let Some(control) = me.upgrade() else { return };
                    match control.sweep().await {
                        Ok(true) => return,
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(
                                error = error.story(),
                                "uploads that no edge has can't be looked for"
                            );
                        }
                    }
                }
            };
            stop.run_until_cancelled(sweeps).await;
        });
    }

    /// False where somebody may hold what nobody said yet.
    async fn sweep(&self) -> Result<bool> {
        if !self.all_have_said_what_they_hold().await {
            return Ok(false);
        }
        let mut after = None;
        loop {
            let page = self.index.uploads_after(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(true) };
            after = Some(last.path.hash());
            for upload in page.iter().filter(|upload| self.is_nowhere(upload)) {
                let why = Note::new(EventKind::Retracted, "its NAR was an upload, which no edge has");
                lost::give_up(self.told(), upload.nar, &why, Back::Welcome).await?;
            }
        }
    }

    async fn all_have_said_what_they_hold(&self) -> bool {
        let edges = self.sessions.named(None);
        let names: BTreeSet<&str> = edges.iter().map(|(name, _)| &**name).collect();
        if edges.is_empty() || self.roster.away(&names).iter().any(|edge| edge.durable) {
            return false;
        }
        for (_, instance) in &edges {
            if self.sessions.counted(instance).await.is_err() {
                return false;
            }
        }
        true
    }

    fn is_nowhere(&self, Listed { nar, .. }: &Listed) -> bool {
        !self.sessions.is_held(*nar) && !self.sessions.is_remembered(*nar)
    }
}
