//! The upstream caches: asked for narinfos in order of priority and speed, read for NAR bytes.
//!
//! Knows HTTP towards upstreams, and keeps *absent* and *failed* apart. Absent on purpose: what is done with an
//! answer (the lookup and the transfer decide), and anything that clients see.

mod address;
mod ask;
pub(crate) mod body;
mod client;
mod error;
pub(crate) mod guarded;
pub(crate) mod health;
mod login;
mod nar;
mod narinfo;
mod object;
mod outward;
mod pace;
mod peer;
mod send;
mod trust;
mod warm_up;

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::TrustedKeys;
use ncps_proto::{EdgeSettings, Error, UpstreamSettings, UpstreamState, UpstreamTotals};
use ncps_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use url::Url;

pub use ask::Verdict;
pub use error::UpstreamError;
pub use nar::{Body, Heading, Opening};
pub use object::{Coding, ObjectBody};
pub(crate) use peer::{Lends, Peers, Wish};

use health::Health;
use login::Logins;
use outward::Rules;
use pace::Pace;
use trust::Trust;
use warm_up::Quiet;

use crate::metrics::{EdgeMetrics, UpstreamMetrics};
use crate::via::Via;

/// One upstream cache.
pub struct Upstream {
    /// The base URL as configured; what origins and logs call it.
    name: String,
    /// The same with a trailing slash, so that relative URLs resolve below it.
    base: Url,
    priority: i32,
    /// It has no say while it can't be asked.
    optional: bool,
    /// Narinfos that nobody vouches for are passed on.
    unsigned: bool,
    client: reqwest::Client,
    /// The same without our certificate, for hosts that the upstream names.
    stranger: reqwest::Client,
    rules: Arc<Rules>,
    logins: Logins,
    health: Health,
    pace: Pace,
    quiet: Quiet,
    trust: Trust,
    /// Narinfos asked of it at once. The queue is as long as there are requests.
    narinfo_turns: Semaphore,
    /// What it calls itself, where it is a cache of our kind and answered already.
    peer: Mutex<Option<String>>,
    metrics: Arc<UpstreamMetrics>,
    common: Arc<Common>,
}

/// What the upstreams of one configuration share.
struct Common {
    /// Who we are in `Via`.
    own_id: String,
    trusted: TrustedKeys,
    /// From a request to its response head, connecting and redirects included.
    head_timeout: Duration,
    idle_timeout: Duration,
    give_up_after: Option<Duration>,
    around: Surroundings,
}

/// What upstreams need of the process. Outlives configurations.
#[derive(Clone)]
pub struct Surroundings {
    pub metrics: Arc<EdgeMetrics>,
    pub tasks: Tasks,
    /// Told when an upstream that had no say can be asked again.
    pub returned: Arc<Notify>,
    /// Who may certify other edges beside the authorities of the system, in PEM.
    pub authorities: Option<Arc<str>>,
    /// Other edges are told of this one, and so it of them.
    pub has_peers: bool,
}

/// All upstreams of one configuration.
pub struct Upstreams {
    list: Vec<Arc<Upstream>>,
    peers: Peers,
    hedge_delay: Duration,
    around: Surroundings,
}

impl Upstreams {
    /// # Errors
    /// Where a URL does not parse or a TLS client can't be made.
    pub fn new(settings: &EdgeSettings, around: &Surroundings) -> Result<Upstreams, Error> {
        let common = Arc::new(Common {
            own_id: settings.index_id.clone(),
            trusted: TrustedKeys::from_iter(settings.trusted_keys.iter().cloned()),
            head_timeout: settings.connect_timeout + settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            give_up_after: settings.give_up_after,
            around: around.clone(),
        });
        let make = |one| Upstream::new(one, settings, &common).map(Arc::new);
        let list = settings.upstreams.iter().map(make).collect::<Result<_, _>>()?;
        let peers = Peers::new(settings, around)?;
        Ok(Upstreams { list, peers, hedge_delay: settings.hedge_delay, around: around.clone() })
    }

    /// The other edges of the fleet.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The upstreams' base URLs, best first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|u| u.name.as_str())
    }

    /// The upstreams' base URLs and how they are: 0 asked as usual, 1 left alone, 2 given up.
    pub fn breakers(&self) -> Vec<(String, u64)> {
        self.list.iter().map(|upstream| (upstream.name.clone(), upstream.state())).collect()
    }

    /// How each of them is, best first.
    pub fn totals(&self) -> Vec<UpstreamTotals> {
        self.list.iter().map(|upstream| upstream.totals()).collect()
    }

    /// In the order in which they are asked: by priority, then by how fast they answered.
    fn in_order(&self) -> Vec<&Arc<Upstream>> {
        let mut order: Vec<_> = self.list.iter().collect();
        order.sort_by_key(|upstream| (upstream.priority, upstream.pace.typical()));
        order
    }

    /// Whether a failure of this one leaves an absence open. What is no upstream always does.
    pub fn has_say(&self, name: &str) -> bool {
        self.named(name).is_none_or(|upstream| !upstream.has_no_say())
    }

    /// Whether a request came through this upstream, which then waits for us.
    pub fn waits(&self, upstream: &str, via: &Via) -> bool {
        let names = |peer: &String| via.names(peer);
        !via.is_direct() && self.named(upstream).is_some_and(|u| u.peer.lock().as_ref().is_some_and(names))
    }

    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.list.iter().find(|u| u.name == name)
    }
}

impl Upstream {
    fn new(one: &UpstreamSettings, all: &EdgeSettings, common: &Arc<Common>) -> Result<Upstream, Error> {
        let base = base(&one.url)?;
        let rules = Rules::new(&base, &all.outward.allowed);
        Ok(Upstream {
            client: client::build(&one.url, one.identity.as_ref(), all, &rules)?,
            stranger: client::build(&one.url, None, all, &rules)?,
            rules,
            logins: Logins::new(&base, one.login.as_ref(), &all.outward.netrc),
            base,
            name: one.url.clone(),
            priority: one.priority,
            optional: one.optional,
            unsigned: one.unsigned,
            health: Health::default(),
            pace: Pace::default(),
            quiet: Quiet::default(),
            trust: Trust::default(),
            narinfo_turns: Semaphore::new(all.max_narinfo_requests.max(1) as usize),
            peer: Mutex::default(),
            metrics: common.around.metrics.upstream(&one.url),
            common: Arc::clone(common),
        })
    }

    fn totals(&self) -> UpstreamTotals {
        let (requests, errors) = self.metrics.requests();
        UpstreamTotals {
            url: self.name.clone(),
            state: match self.state() {
                0 => UpstreamState::Asked,
                1 => UpstreamState::LeftAlone,
                _ => UpstreamState::GivenUp,
            },
            latency: self.pace.average(),
            requests,
            errors,
            bytes: self.metrics.bytes(),
        }
    }

    /// An upstream's own URL made whole: relative to the base, or absolute.
    fn resolve(&self, url: &str) -> Result<Url, UpstreamError> {
        resolve(&self.base, url)
    }
}

fn base(url: &str) -> Result<Url, Error> {
    let invalid = |e| Error::internal(format!("the upstream URL {url:?} does not parse")).because(e);
    Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(invalid)
}

fn resolve(base: &Url, url: &str) -> Result<Url, UpstreamError> {
    let bad = || UpstreamError::BadUrl(url.to_owned());
    let mut whole = base.join(url).map_err(|_| bad())?;
    if !matches!(whole.scheme(), "http" | "https") {
        return Err(bad());
    }
    // Who we are to a host is not for an upstream to say.
    whole.set_username("").and_then(|()| whole.set_password(None)).map_err(|()| bad())?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_resolve_below_the_base() {
        let base = base("https://cache.test/sub").expect("valid");
        let resolve = |url| resolve(&base, url).map(|u| u.to_string());
        assert_eq!(resolve("nar/x.nar?hash=1").as_deref(), Ok("https://cache.test/sub/nar/x.nar?hash=1"));
        assert_eq!(resolve("http://other/x").as_deref(), Ok("http://other/x"));
        assert_eq!(resolve("http://me:secret@other/x").as_deref(), Ok("http://other/x"));
        assert!(resolve("file:///etc/passwd").is_err());
    }
}
