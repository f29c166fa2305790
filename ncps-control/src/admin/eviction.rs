//! Evictions that somebody asks for.

use ncps_proto::Result;
use ncps_proto::admin::{Caller, EventKind, EvictStep, EvictionOrder, Goal, Steps};

use super::steps::steps;
use crate::Control;
use crate::eviction::EvictionReport;
use crate::eviction::job::Evicting;
use crate::journal::Note;

impl Control {
    pub(super) async fn evict_for(&self, order: EvictionOrder, caller: &Caller) -> Result<Steps<EvictStep>> {
        if !order.dry_run {
            self.journal().audit(caller, Note::new(EventKind::Evicted, asked(&order))).await?;
        }
        let Evicting { progress, report } = self.begin_eviction(order).await?;
        let over = |report: Result<EvictionReport>| report.map(|report| EvictStep::Result(report.edges));
        Ok(steps(progress, report, EvictStep::Progress, over))
    }
}

fn asked(EvictionOrder { goal, edge, .. }: &EvictionOrder) -> String {
    let place = edge.as_ref().map_or_else(|| "every edge".to_owned(), |edge| format!("edge {edge}"));
    match goal {
        Goal::Limits => format!("what limits ask for, on {place}"),
        Goal::To(bytes) => format!("down to {bytes} bytes on {place}"),
        Goal::Free(bytes) => format!("{bytes} bytes on {place}"),
    }
}
