//! Where an upstream may send us, by a redirect or an absolute URL: never to link-local addresses and metadata
//! services, to this machine and private networks only where the upstream is in one itself or the operator named
//! the target. Addresses are checked when connecting, after the name was resolved, so that no name can hide one.
//! Behind an HTTP proxy the proxy decides.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper_util::client::proxy::matcher::Matcher;
use ncps_proto::Target;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::UpstreamError;
use super::address::{Kind, kind};

/// The rules of one upstream.
pub(super) struct Rules {
    /// The upstream's own host, as URLs spell it.
    home: String,
    /// Its own addresses are private: so may be others.
    at_home_in_private: AtomicBool,
    allowed: Vec<Target>,
    proxies: Matcher,
    /// These are resolved for the connection to a proxy.
    proxy_hosts: Vec<String>,
}

/// An address where we must not be sent.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {addr}, where an upstream may not send us{}", .hint)]
pub(super) struct Forbidden {
    host: String,
    addr: IpAddr,
    hint: &'static str,
}

impl Rules {
    pub(super) fn new(base: &Url, allowed: &[Target]) -> Arc<Rules> {
        let proxies = Matcher::from_system();
        let literal = literal(base).is_some_and(|addr| kind(addr) == Kind::Private);
        Arc::new(Rules {
            home: base.host_str().unwrap_or_default().to_owned(),
            at_home_in_private: AtomicBool::new(literal),
            allowed: allowed.to_vec(),
            proxy_hosts: proxy_hosts(&proxies),
            proxies,
        })
    }

    /// Those of the other edges: each is at home wherever it is. Link-local addresses and metadata services are nobody's
    /// home, and no proxy is asked.
    pub(super) fn of_peers() -> Arc<Rules> {
        Arc::new(Rules {
            home: String::new(),
            at_home_in_private: AtomicBool::new(true),
            allowed: Vec::new(),
            proxies: Matcher::builder().build(),
            proxy_hosts: Vec::new(),
        })
    }

    /// Checks what the resolver won't see: an address in the place of a name. For one that needs it, finds out
    /// first where the upstream itself is.
    pub(super) async fn permit(&self, url: &Url) -> Result<(), UpstreamError> {
        let Some(addr) = literal(url).filter(|_| !self.is_proxied(url)) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default();
        self.check(host, addr).await.map_err(|forbidden| UpstreamError::Forbidden(forbidden.to_string()))
    }

    fn is_proxied(&self, url: &Url) -> bool {
        let uri = url.as_str().parse::<http::Uri>();
        uri.is_ok_and(|uri| self.proxies.intercept(&uri).is_some())
    }

    async fn check(&self, host: &str, addr: IpAddr) -> Result<(), Forbidden> {
        let forbidden = |hint| Forbidden { host: host.to_owned(), addr, hint };
        match kind(addr) {
            Kind::Public => Ok(()),
            Kind::Never => Err(forbidden("")),
            Kind::Private if self.is_home(host) => Ok(()),
            Kind::Private if self.allowed.iter().any(|target| target.covers(host, addr)) => Ok(()),
            Kind::Private if self.home_is_private().await => Ok(()),
            Kind::Private => Err(forbidden(" unless --upstream-allow-target names it")),
        }
    }

    fn is_home(&self, host: &str) -> bool {
        host.eq_ignore_ascii_case(&self.home)
    }

    /// Known once the upstream was resolved; an absolute URL of a former run may come before.
    async fn home_is_private(&self) -> bool {
        if !self.at_home_in_private.load(Ordering::Relaxed) {
            lookup(&self.home).await.iter().for_each(|addrs| self.seen_at_home(addrs));
        }
        self.at_home_in_private.load(Ordering::Relaxed)
    }

    /// One address in private beside public ones is nobody's home.
    fn seen_at_home(&self, addrs: &[SocketAddr]) {
        let private = !addrs.is_empty() && addrs.iter().all(|addr| kind(addr.ip()) == Kind::Private);
        self.at_home_in_private.store(private, Ordering::Relaxed);
    }

    /// The addresses of a name that may be connected to; an error where there is none.
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let addrs = lookup(host).await?;
        if self.proxy_hosts.iter().any(|proxy| proxy.eq_ignore_ascii_case(host)) {
            return Ok(addrs);
        }
        if self.is_home(host) {
            self.seen_at_home(&addrs);
        }
        let (mut good, mut refused) = (Vec::new(), None);
        for addr in addrs {
            match self.check(host, addr.ip()).await {
                Ok(()) => good.push(addr),
                Err(forbidden) => refused = Some(forbidden),
            }
        }
        match refused {
            Some(forbidden) if good.is_empty() => Err(forbidden.into()),
            _ => Ok(good),
        }
    }
}

/// The name resolver of the client: the system's, and the rules.
pub(super) struct Resolver(pub(super) Arc<Rules>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let addrs = rules.resolve(name.as_str()).await?;
            Ok(Box::new(addrs.into_iter()) as Addrs)
        })
    }
}

async fn lookup(host: &str) -> std::io::Result<Vec<SocketAddr>> {
    // The port is the client's business.
    Ok(tokio::net::lookup_host((host, 0)).await?.collect())
}

fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(addr) => Some(addr.into()),
        Host::Ipv6(addr) => Some(addr.into()),
        Host::Domain(_) => None,
    }
}

fn proxy_hosts(proxies: &Matcher) -> Vec<String> {
    let anywhere = ["http://ncps.invalid/", "https://ncps.invalid/"].map(http::Uri::from_static);
    let proxies = anywhere.iter().filter_map(|uri| proxies.intercept(uri));
    proxies.filter_map(|proxy| proxy.uri().host().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(base: &str, allowed: &[&str]) -> Arc<Rules> {
        let allowed: Vec<Target> = allowed.iter().map(|text| text.parse().expect("a target")).collect();
        Rules::new(&Url::parse(base).expect("valid"), &allowed)
    }

    async fn permits(rules: &Rules, url: &str) -> bool {
        rules.permit(&Url::parse(url).expect("valid")).await.is_ok()
    }

    #[tokio::test]
    async fn a_public_upstream_sends_nobody_into_private_networks() {
        let rules = rules("https://1.1.1.1/", &["10.7.0.0/16"]);
        assert!(permits(&rules, "http://9.9.9.9/x").await);
        for private in
            ["http://127.0.0.1/x", "http://[::1]/x", "http://10.0.0.1/x", "http://[::ffff:10.0.0.1]/x"]
        {
            assert!(!permits(&rules, private).await, "{private}");
        }
        assert!(permits(&rules, "http://10.7.0.1/x").await, "named by the operator");
        assert!(rules.resolve("localhost").await.is_err());
    }

    #[tokio::test]
    async fn a_private_upstream_may_but_not_to_metadata() {
        let rules = rules("http://10.0.0.1/", &["169.254.0.0/16"]);
        assert!(permits(&rules, "http://192.168.1.1/x").await);
        assert!(permits(&rules, "http://127.0.0.1/x").await);
        assert!(!permits(&rules, "http://169.254.169.254/latest").await, "not even when named");
        assert!(rules.resolve("localhost").await.is_ok());
    }

    #[tokio::test]
    async fn a_peer_may_be_anywhere_but_at_metadata() {
        let rules = Rules::of_peers();
        for home in ["http://10.0.0.1/", "http://[::1]:8501/", "http://9.9.9.9/"] {
            assert!(permits(&rules, home).await, "{home}");
        }
        assert!(rules.resolve("localhost").await.is_ok());
        assert!(!permits(&rules, "http://169.254.169.254/").await);
    }

    #[tokio::test]
    async fn where_an_upstream_is_shows_when_it_is_needed() {
        let rules = rules("http://localhost:1/", &[]);
        assert!(permits(&rules, "http://10.0.0.1/x").await, "localhost is private");
    }

    #[tokio::test]
    async fn names_are_allowed_by_name() {
        assert!(rules("http://1.1.1.1/", &["localhost"]).resolve("localhost").await.is_ok());
    }
}
