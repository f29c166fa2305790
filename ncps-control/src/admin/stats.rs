//! Numbers. None of them is counted for this: all are kept.

use ncps_proto::Result;
use ncps_proto::admin::Stats;

use crate::Control;

impl Control {
    pub(crate) async fn numbers(&self) -> Result<Stats> {
        let (narinfos, nar_files) = self.index.sums().await?;
        let mut edges = self.sessions.edges();
        for edge in &mut edges {
            edge.counts = self.tally.of(&edge.instance);
        }
        let attached = edges.iter().map(|edge| &*edge.name).collect();
        let away = self.roster.away(&attached);
        Ok(Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.index.counting_since().await?,
            counts: self.tally.sum(),
            narinfos,
            nar_files,
            absences: self.index.absences() as u64,
            max_size: self.settings().max_size,
            away,
            refused: self.refusals.recent(),
            edges,
        })
    }
}
