//! The configuration in force: what control said last, and what was built from it. Swapped as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use ncps_proto::{Code, EdgeSettings, Error, Result};

use crate::upstream::{Surroundings, Upstreams};
use crate::via::Via;

/// One configuration.
pub struct Live {
    pub settings: EdgeSettings,
    pub upstreams: Arc<Upstreams>,
}

impl Live {
    /// How many downloads run at most for what no client waits for: half of all, so that clients find the other half free.
    pub(crate) fn downloads_ahead(&self) -> usize {
        (self.settings.max_downloads as usize / 2).max(1)
    }
}

/// The place where the current one is found. Empty until control, or the state file, said one.
pub struct Current {
    live: ArcSwapOption<Live>,
    /// Control has another index than the one that this edge belongs to.
    foreign: AtomicBool,
    /// A request came back here, and that was said.
    looped: AtomicBool,
    around: Surroundings,
}

impl Current {
    /// None yet.
    pub fn new(around: Surroundings) -> Current {
        Current {
            live: ArcSwapOption::empty(),
            foreign: AtomicBool::new(false),
            looped: AtomicBool::new(false),
            around,
        }
    }

    /// Builds what `settings` need and puts them in force. Upstreams whose settings stay are not built anew: their
    /// connections and what is known of them stay, too. Returns the configuration before.
    ///
    /// # Errors
    /// Where they can't be; those before stay in force.
    pub fn apply(&self, settings: EdgeSettings) -> Result<Option<Arc<Live>>> {
        let before = self.live.load_full();
        let upstreams = match &before {
            Some(live) if same_upstreams(&live.settings, &settings) => Arc::clone(&live.upstreams),
            _ => Arc::new(Upstreams::new(&settings, &self.around)?),
        };
        upstreams.warm_up();
        self.live.store(Some(Arc::new(Live { settings, upstreams })));
        Ok(before)
    }

    /// Whether control has another index than the one that this edge belongs to: nothing is removed for it.
    pub fn is_foreign(&self) -> bool {
        self.foreign.load(Ordering::SeqCst)
    }

    /// The same, as the session with control knows it.
    pub fn set_foreign(&self, foreign: bool) {
        self.foreign.store(foreign, Ordering::SeqCst);
    }

    /// Whether a request came through here before. The first time, this is said: it is no fault where caches list each
    /// other, and useless where one lists itself.
    pub fn loops(&self, via: &Via) -> bool {
        let loops = !via.is_direct() && self.get().is_ok_and(|live| via.loops(&live.settings.index_id));
        if loops && !self.looped.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %via,
                what_to_do = "take this cache out of its own --upstream-cache; caches that list each other may stay so",
                "a request came back to the cache that it came through, and gets what is stored alone"
            );
        }
        loops
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

/// Whether both differ at most in what upstreams have no part in: who our clients are and what they may do, and the
/// keys that we sign with. Any other difference may matter to them.
fn same_upstreams(one: &EdgeSettings, other: &EdgeSettings) -> bool {
    *one == EdgeSettings {
        public_keys: one.public_keys.clone(),
        tokens: one.tokens.clone(),
        writing: one.writing,
        when_away: one.when_away,
        keep_peer_copies: one.keep_peer_copies,
        look_ahead: one.look_ahead,
        recompress: one.recompress,
        ..other.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ncps_nix::SecretKey;
    use ncps_proto::{Scope, Token, UpstreamSettings};
    use ncps_runtime::lifecycle::{Lifecycle, Timing};
    use ncps_runtime::telemetry::Telemetry;

    use super::*;
    use crate::metrics::EdgeMetrics;

    fn current() -> Current {
        let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::ZERO });
        let metrics = EdgeMetrics::new(&Telemetry::off());
        Current::new(Surroundings {
            metrics,
            tasks: life.tasks(),
            returned: Arc::default(),
            authorities: None,
            has_peers: false,
        })
    }

    fn settings() -> EdgeSettings {
        let mut settings = ncps_proto::decode_settings(&[]).expect("what is not said has defaults");
        settings.upstreams = vec![UpstreamSettings::plain("http://upstream.test", 1)];
        settings
    }

    #[test]
    fn what_is_known_of_upstreams_outlives_other_changes() {
        let current = current();
        assert!(current.apply(settings()).expect("usable").is_none());
        let first = Arc::clone(&current.get().expect("configured").upstreams);
        let mut next = settings();
        next.tokens = vec![Token {
            id: "one".to_owned(),
            hash: ncps_nix::Sha256Hash::of(b"secret"),
            scopes: vec![Scope::Read],
            expires_at: None,
            edges: Vec::new(),
        }];
        next.public_keys = vec![SecretKey::generate("ours").expect("made").public()];
        next.writing.put = true;
        let before = current.apply(next.clone()).expect("usable").expect("there was one");
        let live = current.get().expect("configured");
        assert_eq!((&before.settings, &live.settings), (&settings(), &next));
        assert!(Arc::ptr_eq(&live.upstreams, &first));
        next.idle_timeout += Duration::from_secs(1);
        current.apply(next).expect("usable");
        assert!(!Arc::ptr_eq(&current.get().expect("configured").upstreams, &first));
    }
}
