//! The upstream caches: asked for narinfos in order of priority, read for NAR bytes.
//!
//! Knows HTTP towards upstreams, and keeps *absent* and *failed* apart. Absent on purpose: what is done with an
//! answer (the lookup and the transfer decide), credentials, and anything that clients see.

mod ask;
mod client;
mod error;
mod health;
mod nar;
mod narinfo;
mod object;
mod send;

use std::sync::Arc;
use std::time::Duration;

use ncps_nix::TrustedKeys;
use ncps_proto::{EdgeSettings, Error};
use tokio::sync::Semaphore;
use url::Url;

pub use ask::Verdict;
pub use error::UpstreamError;
pub use nar::{Body, Heading, Opening};
pub use object::{Coding, ObjectBody};

use health::Health;

use crate::metrics::{EdgeMetrics, UpstreamMetrics};

/// One upstream cache.
#[derive(Debug)]
pub struct Upstream {
    /// The base URL as configured; what origins and logs call it.
    name: String,
    /// The same with a trailing slash, so that relative URLs resolve below it.
    base: Url,
    health: Health,
    metrics: Arc<UpstreamMetrics>,
}

/// All upstreams of one configuration.
pub struct Upstreams {
    list: Vec<Arc<Upstream>>,
    client: reqwest::Client,
    trusted: TrustedKeys,
    /// From a request to its response head, connecting included.
    head_timeout: Duration,
    idle_timeout: Duration,
    hedge_delay: Duration,
    /// Narinfos asked for at once, at all upstreams together. The queue is as long as there are requests.
    narinfo_turns: Semaphore,
    metrics: Arc<EdgeMetrics>,
}

impl Upstreams {
    /// # Errors
    /// Where a URL does not parse or the TLS client can't be made.
    pub fn new(settings: &EdgeSettings, metrics: &Arc<EdgeMetrics>) -> Result<Upstreams, Error> {
        let list = settings.upstreams.iter();
        let list = list.map(|u| Upstream::new(&u.url, metrics.upstream(&u.url)).map(Arc::new));
        let list = list.collect::<Result<_, _>>()?;
        Ok(Upstreams {
            list,
            client: client::build(settings.connect_timeout)?,
            trusted: TrustedKeys::from_iter(settings.trusted_keys.iter().cloned()),
            head_timeout: settings.connect_timeout + settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            hedge_delay: settings.hedge_delay,
            narinfo_turns: Semaphore::new(settings.max_narinfo_requests.max(1) as usize),
            metrics: Arc::clone(metrics),
        })
    }

    /// The upstreams' base URLs, best first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|u| u.name.as_str())
    }

    /// The upstreams' base URLs and the state of their breakers: 0 closed, 1 may be tried, 2 open.
    pub fn breakers(&self) -> Vec<(String, u64)> {
        self.list.iter().map(|upstream| (upstream.name.clone(), upstream.health.state())).collect()
    }

    fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.list.iter().find(|u| u.name == name)
    }
}

impl Upstream {
    fn new(url: &str, metrics: Arc<UpstreamMetrics>) -> Result<Upstream, Error> {
        let invalid = |e| Error::internal(format!("the upstream URL {url:?} does not parse")).because(e);
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(invalid)?;
        Ok(Upstream { name: url.to_owned(), base, health: Health::default(), metrics })
    }

    /// An upstream's own URL made whole: relative to the base, or absolute.
    fn resolve(&self, url: &str) -> Result<Url, UpstreamError> {
        let whole = self.base.join(url).map_err(|_| UpstreamError::BadUrl(url.to_owned()))?;
        match whole.scheme() {
            "http" | "https" => Ok(whole),
            _ => Err(UpstreamError::BadUrl(url.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_resolve_below_the_base() {
        let metrics = EdgeMetrics::new(&ncps_runtime::telemetry::Telemetry::off());
        let upstream = Upstream::new("https://cache.test/sub", metrics.upstream("u")).expect("valid");
        let resolve = |url| upstream.resolve(url).map(|u| u.to_string());
        assert_eq!(resolve("nar/x.nar?hash=1").as_deref(), Ok("https://cache.test/sub/nar/x.nar?hash=1"));
        assert_eq!(resolve("http://other/x").as_deref(), Ok("http://other/x"));
        assert!(resolve("file:///etc/passwd").is_err());
    }
}
