//! Channels to control: over a Unix socket, over TLS, or in plaintext on this host.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ncps_proto::{Code, Error, Result};
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};
use tower::Service;

use crate::config::{ControlLink, ControlUrl};

/// A link that answers no ping for this long is dead, whatever TCP believes.
const PING: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel over which nothing is connected yet; a broken link is made anew by the next call.
pub(super) fn lazy(link: &ControlLink) -> Result<Channel> {
    let endpoint = endpoint(link)?;
    Ok(match link.url.sockets() {
        None => endpoint.connect_lazy(),
        Some(paths) => endpoint.connect_with_connector_lazy(sockets(paths)),
    })
}

/// A link to whatever control serves there, which is there when this returns.
///
/// # Errors
/// [`Code::Unavailable`] with every place that was tried.
pub async fn dial(link: &ControlLink) -> Result<Channel> {
    let endpoint = endpoint(link)?;
    let dialled = match link.url.sockets() {
        None => endpoint.connect().await,
        Some(paths) => endpoint.connect_with_connector(sockets(paths)).await,
    };
    dialled.map_err(|e| Error::new(Code::Unavailable, "control can't be reached").because(e))
}

fn endpoint(link: &ControlLink) -> Result<Endpoint> {
    let uri = match &link.url {
        ControlUrl::Http(url) | ControlUrl::Https(url) => url.to_string(),
        // The authority is never looked at.
        ControlUrl::Unix(_) | ControlUrl::FirstOf(_) => "http://control".to_owned(),
    };
    let invalid = |e| Error::internal("control's URL").because(e);
    let endpoint = Endpoint::from_shared(uri).map_err(invalid)?;
    let endpoint = match &link.url {
        ControlUrl::Https(_) => {
            let unusable =
                |e| Error::new(Code::Invalid, "the authorities that may certify control").because(e);
            endpoint.tls_config(tls(link)?).map_err(unusable)?
        }
        _ => endpoint,
    };
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Who vouches for control: those of the file alone, else those of the system.
fn tls(link: &ControlLink) -> Result<ClientTlsConfig> {
    let Some(path) = &link.ca_file else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let pem = std::fs::read(path)
        .map_err(|error| Error::new(Code::Invalid, format!("read {}", path.display())).because(error))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
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
