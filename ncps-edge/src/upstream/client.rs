//! The one HTTP client towards upstreams. It decodes nothing: bytes are hashed as they were named.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use ncps_proto::Error;

const USER_AGENT: &str = concat!("ncps/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 10;
const IDLE_CONNECTION: Duration = Duration::from_secs(90);

pub(super) fn build(connect_timeout: Duration) -> Result<reqwest::Client, Error> {
    // Installed once a process; a second caller finds it there.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .http2_adaptive_window(true)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
        .map_err(|e| Error::internal("the client for upstreams can't be made").because(e))
}
