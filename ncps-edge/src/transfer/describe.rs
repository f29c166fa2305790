//! What can be said of a file that is not here, without fetching it: the answer to a HEAD.

use std::sync::Arc;

use ncps_nix::NarFileName;
use ncps_proto::{Code, Error, Result};

use super::engine::Engine;
use super::plan::{Plan, Wanted};
use crate::upstream::Heading;

impl Engine {
    /// The length of a file that could be fetched, where it is known.
    ///
    /// # Errors
    /// [`Code::Absent`] where no upstream has the name; others where that can't be said.
    pub async fn describe(&self, wanted: &Wanted) -> Result<Option<u64>> {
        let upstreams = Arc::clone(&self.live()?.upstreams);
        let plan = self.plan(wanted, &upstreams).await;
        if plan.uploaded && plan.sources.is_empty() {
            return self.describe_upload(wanted.name).await;
        }
        if plan.nar.is_some() {
            return Ok(plan.size);
        }
        self.ask_by_name(&plan, &upstreams).await
    }

    async fn describe_upload(&self, name: NarFileName) -> Result<Option<u64>> {
        if let Some(length) = self.held_elsewhere(name).await? {
            return Ok(length);
        }
        let is_away = self.locate(name).await?.is_some_and(|known| known.away);
        Err(match is_away {
            true => Error::new(
                Code::Unavailable,
                "it was uploaded, and the edge that may have it can't be reached",
            ),
            false => Error::new(Code::Absent, "it was uploaded, and nobody has it any more"),
        })
    }

    async fn ask_by_name(
        &self,
        plan: &Plan,
        upstreams: &Arc<crate::upstream::Upstreams>,
    ) -> Result<Option<u64>> {
        let (mut failure, mut silent, mut absent) = (None, None, false);
        for source in &plan.sources {
            let Some(origin) = source.origin() else { continue };
            match upstreams.head(origin, &plan.via).await {
                Heading::Present(length) => return Ok(length),
                Heading::Absent => absent = true,
                Heading::Failed(error) if source.is_unknown_name(&error) => absent = true,
                Heading::Failed(error) if upstreams.has_say(&origin.upstream) => failure = Some(error),
                Heading::Failed(error) => silent = Some(error),
            }
        }
        match failure.or(silent.filter(|_| !absent)) {
            Some(error) => Err(Error::new(error.code(), "no upstream could say").because(error)),
            None if plan.control_away => Err(Error::new(Code::Unavailable, "control is away")),
            None => Err(Error::new(Code::Absent, "no upstream has it")),
        }
    }
}
