//! The configuration in force: what control said last, and what was built from it. Swapped as a whole.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ncps_proto::{Code, EdgeSettings, Error, Result};

use crate::upstream::{Surroundings, Upstreams};
use crate::via::Via;

/// One configuration.
pub struct Live {
    pub settings: EdgeSettings,
    pub upstreams: Arc<Upstreams>,
}

/// The place where the current one is found. Empty until control, or the state file, said one.
pub struct Current {
    live: ArcSwapOption<Live>,
    around: Surroundings,
}

impl Current {
    /// None yet.
    pub fn new(around: Surroundings) -> Current {
        Current { live: ArcSwapOption::empty(), around }
    }

    /// Builds what `settings` need and puts them in force. Those that are in force already, as control says again after
    /// every break, change nothing: connections and what is known of upstreams stay.
    ///
    /// # Errors
    /// Where they can't be; those before stay in force.
    pub fn apply(&self, settings: EdgeSettings) -> Result<()> {
        if self.get().is_ok_and(|live| live.settings == settings) {
            return Ok(());
        }
        let upstreams = Arc::new(Upstreams::new(&settings, &self.around)?);
        self.live.store(Some(Arc::new(Live { settings, upstreams })));
        Ok(())
    }

    /// Whether a request came through here before.
    pub fn loops(&self, via: &Via) -> bool {
        !via.is_direct() && self.get().is_ok_and(|live| via.loops(&live.settings.index_id))
    }

    /// An upstream that had no say is back: said by upstreams, and by who could not pass it on.
    pub fn is_back(&self) {
        self.around.returned.notify_one();
    }

    /// Waits for an upstream that had no say to be back.
    pub async fn upstream_back(&self) {
        self.around.returned.notified().await;
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
