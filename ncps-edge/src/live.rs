//! The configuration in force: what control said last, and what was built from it. Swapped as a whole.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ncps_proto::{Code, EdgeSettings, Error, Result};

use crate::metrics::EdgeMetrics;
use crate::upstream::Upstreams;

/// One configuration.
pub struct Live {
    pub settings: EdgeSettings,
    pub upstreams: Arc<Upstreams>,
}

/// The place where the current one is found. Empty until control, or the state file, said one.
pub struct Current {
    live: ArcSwapOption<Live>,
    metrics: Arc<EdgeMetrics>,
}

impl Current {
    /// None yet; what is counted of its upstreams goes to `metrics`.
    pub fn new(metrics: Arc<EdgeMetrics>) -> Current {
        Current { live: ArcSwapOption::empty(), metrics }
    }

    /// Builds what `settings` need and puts them in force.
    ///
    /// # Errors
    /// Where they can't be; those before stay in force.
    pub fn apply(&self, settings: EdgeSettings) -> Result<()> {
        let upstreams = Arc::new(Upstreams::new(&settings, &self.metrics)?);
        self.live.store(Some(Arc::new(Live { settings, upstreams })));
        Ok(())
    }

    /// The configuration in force.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while there is none.
    pub fn get(&self) -> Result<Arc<Live>> {
        self.live
            .load_full()
            .ok_or_else(|| Error::new(Code::Unavailable, "control said no configuration yet"))
    }
}
