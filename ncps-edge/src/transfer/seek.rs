//! New sources for a file that those known don't give: the upstreams are asked for its paths anew.

use ncps_proto::{Publication, Result};

use super::engine::Engine;
use super::plan::{Plan, Source, Wanted};
use crate::lookup::Doubt;
use crate::upstream::Upstreams;

/// Paths of one file that are asked for. Mostly there is one; an upstream can name a file in any number.
const MOST_PATHS: usize = 8;

impl Engine {
    /// Where else the file is: every upstream that is no source of it yet is asked for its narinfo, since most kinds
    /// of caches have a NAR under a name of their own. What they say is control's to judge, which then knows more; while it is away, what
    /// they say is believed as it is, since it was verified.
    pub(super) async fn seek(
        &self,
        wanted: &Wanted,
        plan: &Plan,
        upstreams: &std::sync::Arc<Upstreams>,
    ) -> Vec<Source> {
        if plan.uploaded {
            return Vec::new();
        }
        let is_source = |name: &str| {
            plan.sources.iter().any(|source| matches!(source, Source::Origin(o) if o.upstream == name))
        };
        let mut found = false;
        for hash in plan.store_paths.iter().take(MOST_PATHS) {
            for (narinfo, upstream) in upstreams.ask_all(*hash, &plan.via, is_source).await {
                let publication = Publication { narinfo, upstream, replaces: false };
                if plan.control_away {
                    self.lookups().alone().vouch(publication);
                    found = true;
                } else {
                    found |= self.control().publish_narinfo(publication).await.is_ok();
                }
            }
        }
        if !found {
            return Vec::new();
        }
        let now = self.plan(wanted, upstreams).await;
        let same_file = now.name == plan.name;
        now.sources.into_iter().filter(|source| same_file && !plan.sources.contains(source)).collect()
    }

    /// Asks anew for the paths whose NAR is nowhere. Returns whether the same file has new origins.
    pub(super) async fn doubt(&self, plan: &Plan) -> Result<bool> {
        // Who was not asked, because he waits for us, may have it.
        if !plan.via.is_direct() {
            return Ok(false);
        }
        if plan.uploaded {
            // It may be us of whom control believes that we hold it: then it hears that it is not so.
            self.news().changed(plan.name);
        }
        let mut again = false;
        for hash in plan.store_paths.iter().take(MOST_PATHS) {
            again |= match self.lookups().doubt(*hash, plan.name, plan.nar).await? {
                Doubt::SameFile => true,
                Doubt::SameNar => plan.recipe.is_some(),
                Doubt::Gone => false,
            };
        }
        Ok(again)
    }
}
