//! What one edge asks another one to do for a client: whether the client may have it done is judged once, by what it has
//! shown to the edge that it talks to. Of that no other edge hears.

use ncps_proto::{Bearer, Errand, Result, Warranted, Warrants, Writer};
use tokio::time::Instant;

use super::Control;
use super::upload::caller;
use crate::sessions::Keeper;

/// Edges that are named to one that can't keep an upload. One is enough, where it can be reached.
const MOST_NAMED: usize = 8;

impl Control {
    pub(super) async fn warrant_errand(&self, errand: Errand, writer: &Writer) -> Result<Warrants> {
        self.may_write(errand.scope(), writer)?;
        let keepers = match &errand {
            // It may lie at each of them.
            Errand::DeleteObject(_) => self.sessions.keepers(&writer.instance),
            Errand::KeepNar(_) | Errand::KeepObject(_) => {
                let mut resting = self.sessions.resting(&writer.instance);
                resting.truncate(MOST_NAMED);
                resting
            }
        };
        // Right after a start none may be back.
        let known = self.sessions.is_any_durable() || self.roster.knows_keepers();
        let instances: Vec<_> = keepers.iter().map(|keeper| keeper.instance.clone()).collect();
        let by = caller(self.token_of(writer).as_ref());
        let warrants =
            self.warrants.lock().issue(&writer.instance, &instances, errand, by, Instant::now())?;
        let edges = keepers.into_iter().zip(warrants);
        let edges = edges.map(|(Keeper { url, .. }, warrant)| Warranted { url, warrant });
        Ok(Warrants { edges: edges.collect(), known })
    }

    pub(super) fn redeem_warrant(&self, bearer: &Bearer, errand: &Errand) -> Result<()> {
        self.warrants.lock().redeem(bearer, errand, Instant::now())
    }
}
