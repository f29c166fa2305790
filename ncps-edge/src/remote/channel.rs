//! Channels to control: over a Unix socket, over TLS, or in plaintext on this host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ncps_proto::{Code, Error, Result};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;
use url::Url;

use super::secure;
use crate::config::{ControlLink, ControlUrl};

/// A link that answers no ping for this long is dead, whatever TCP believes.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel over which nothing is connected yet; a broken link is made anew by the next call.
pub(super) fn lazy(link: &ControlLink) -> Result<Channel> {
    let endpoint = endpoint(link)?;
    Ok(match &link.url {
        ControlUrl::Http(_) => endpoint.connect_lazy(),
        ControlUrl::Https(url) => endpoint.connect_with_connector_lazy(secure::connector(link, url)?),
        ControlUrl::Unix(path) => endpoint.connect_with_connector_lazy(sockets(vec![path.clone()])),
        ControlUrl::FirstOf(paths) => endpoint.connect_with_connector_lazy(sockets(paths.clone())),
    })
}

/// A link to whatever control serves there, which is there when this returns.
///
/// # Errors
/// [`Code::Unavailable`] with every place that was tried.
pub async fn dial(link: &ControlLink) -> Result<Channel> {
    let endpoint = endpoint(link)?;
    let dialled = match &link.url {
        ControlUrl::Http(_) => endpoint.connect().await,
        ControlUrl::Https(url) => endpoint.connect_with_connector(secure::connector(link, url)?).await,
        ControlUrl::Unix(path) => endpoint.connect_with_connector(sockets(vec![path.clone()])).await,
        ControlUrl::FirstOf(paths) => endpoint.connect_with_connector(sockets(paths.clone())).await,
    };
    dialled.map_err(|e| Error::new(Code::Unavailable, "control can't be reached").because(e))
}

fn endpoint(link: &ControlLink) -> Result<Endpoint> {
    let invalid = |e| Error::internal("control's URL").because(e);
    let endpoint = match &link.url {
        ControlUrl::Http(url) => Endpoint::from_shared(url.to_string()).map_err(invalid)?,
        ControlUrl::Https(url) => {
            // The connector does TLS itself; calls say where they go all the same.
            let origin =
                url.as_str().parse::<Uri>().map_err(|e| Error::internal("control's URL").because(e))?;
            Endpoint::from_shared(plain(url)).map_err(invalid)?.origin(origin)
        }
        // The authority is never looked at.
        ControlUrl::Unix(_) | ControlUrl::FirstOf(_) => Endpoint::from_static("http://control"),
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// The same host and port for a connector that knows no TLS.
fn plain(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(443);
    format!("http://{}:{port}", url.host_str().unwrap_or_default())
}

/// Connects to the first of these sockets that can be; looked for anew at each connection.
fn sockets(
    paths: Vec<PathBuf>,
) -> impl Service<Uri, Response = TokioIo<UnixStream>, Error = io::Error, Future: Send> + Send + 'static {
    tower::service_fn(move |_| {
        let paths = paths.clone();
        async move { first_of(&paths).await.map(TokioIo::new) }
    })
}

async fn first_of(paths: &[PathBuf]) -> io::Result<UnixStream> {
    let mut tried = Vec::new();
    for path in paths {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Err(io::Error::other(tried.join("; ")))
}
