//! The HTTP client towards one upstream, with connections of its own: its certificate and its rules about where
//! it may send us belong to it alone. It decodes nothing and follows nothing: bytes are hashed as they were named,
//! and every redirect is looked at (see `send`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use ncps_proto::{EdgeSettings, Error, Secret};

use super::outward::{Resolver, Rules};

const USER_AGENT: &str = concat!("ncps/", env!("CARGO_PKG_VERSION"));
const IDLE_CONNECTION: Duration = Duration::from_secs(90);
/// Everything that is asked over HTTP/2 shares one connection: one that is dead must be noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What an upstream may send of one answer before we have read it, in bytes: 1 Gbit/s over a round trip of 130 ms. Windows
/// that grow with what comes begin with 64 KiB for all answers together, which is 70 narinfos a round trip.
const STREAM_WINDOW: u32 = 16 << 20;
/// The same of all answers on a connection: one that nobody reads leaves as much to the others.
const CONNECTION_WINDOW: u32 = 32 << 20;

pub(super) fn build(
    url: &str,
    pem: Option<&Secret>,
    all: &EdgeSettings,
    rules: &Arc<Rules>,
) -> Result<reqwest::Client, Error> {
    let mut builder = builder(all, rules).tls_certs_merge(roots(&all.outward.roots)?);
    if let Some(pem) = pem {
        builder = builder.identity(identity(pem, url)?);
    }
    let failed = |e| Error::internal(format!("the client for {url} can't be made")).because(e);
    builder.build().map_err(failed)
}

/// The client towards another edge: no proxy is told what we show it.
pub(super) fn for_peers(
    all: &EdgeSettings,
    authorities: Option<&str>,
    rules: &Arc<Rules>,
) -> Result<reqwest::Client, Error> {
    let builder = builder(all, rules).no_proxy().tls_certs_merge(roots(authorities.unwrap_or_default())?);
    builder.build().map_err(|e| Error::internal("the client for a peer can't be made").because(e))
}

fn builder(all: &EdgeSettings, rules: &Arc<Rules>) -> reqwest::ClientBuilder {
    // Installed once a process; a second caller finds it there.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .connect_timeout(all.connect_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Resolver(Arc::clone(rules))))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
}

fn roots(pem: &str) -> Result<Vec<reqwest::Certificate>, Error> {
    let parsed = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
    parsed.map_err(|e| Error::internal("the certificate authorities don't parse").because(e))
}

fn identity(pem: &Secret, url: &str) -> Result<reqwest::Identity, Error> {
    let parsed = reqwest::Identity::from_pem(pem.reveal().as_bytes());
    parsed.map_err(|e| Error::internal(format!("the client certificate for {url} can't be used")).because(e))
}
