//! Files that were made of others by an encoder that is said to be ours, and that don't come out the same here: from then
//! on another file of the NAR stands in for them, as for those of another encoder.

use ncps_nix::NarFileName;
use quick_cache::sync::Cache;

use super::plan::{Plan, Source};
use crate::upstream::UpstreamError;

/// Names of which it is remembered. It happens where the library was built otherwise, if at all.
const REMEMBERED: usize = 10_000;

pub(super) struct Unmakeable(Cache<NarFileName, ()>);

impl Default for Unmakeable {
    fn default() -> Self {
        Unmakeable(Cache::new(REMEMBERED))
    }
}

impl Unmakeable {
    /// What was made had another length than was promised: the next reader is not promised one.
    pub(super) fn note(&self, plan: &Plan, source: &Source, error: &UpstreamError) {
        let is_another = matches!(error, UpstreamError::TooMuch | UpstreamError::Cut(_));
        if is_another && plan.makes_of(source) {
            tracing::warn!(nar = %plan.name, %error, "a file that was made does not come out the same here");
            self.0.insert(plan.name, ());
        }
    }

    /// The plan, as it is for a name that is known not to come out.
    pub(super) fn noted(&self, mut plan: Plan) -> Plan {
        if plan.recipe.is_some() && self.0.get(&plan.name).is_some() {
            (plan.stands_in, plan.size) = (true, None);
        }
        plan
    }
}
