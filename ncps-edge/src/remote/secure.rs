//! TLS towards control: who vouches for control, and what we prove ourselves with. The files are read for each
//! connection, so that renewed ones need no restart; running connections go on with what they began with.

use std::sync::Arc;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use ncps_proto::{Code, Error, Result};
use ncps_runtime::tls;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;
use tower::{Service, ServiceExt};
use url::{Host, Url};

use crate::config::ControlLink;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connected = TokioIo<TlsStream<TcpStream>>;

/// Connections to a port with TLS.
pub(super) fn connector(
    link: &ControlLink,
    url: &Url,
) -> Result<impl Service<Uri, Response = Connected, Error = BoxError, Future: Send> + Send + 'static> {
    // What can't be used now is said now.
    config(link)?;
    let name = server_name(url)?;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let link = link.clone();
    Ok(tower::service_fn(move |uri| {
        let (link, name, tcp) = (link.clone(), name.clone(), tcp.clone());
        async move { connect(link, name, tcp.oneshot(uri)).await }
    }))
}

async fn connect<E: Into<BoxError>>(
    link: ControlLink,
    name: ServerName<'static>,
    tcp: impl Future<Output = std::result::Result<TokioIo<TcpStream>, E>>,
) -> std::result::Result<Connected, BoxError> {
    let config = tokio::task::spawn_blocking(move || config(&link)).await?;
    let config = config.map_err(|error| error.story())?;
    let stream = tcp.await.map_err(Into::into)?.into_inner();
    let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(TokioIo::new(secured))
}

fn server_name(url: &Url) -> Result<ServerName<'static>> {
    let invalid = |e| Error::new(Code::Invalid, format!("{url} names no host")).because(e);
    match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(invalid),
        Some(Host::Ipv4(ip)) => Ok(ServerName::IpAddress(std::net::IpAddr::V4(ip).into())),
        Some(Host::Ipv6(ip)) => Ok(ServerName::IpAddress(std::net::IpAddr::V6(ip).into())),
        None => Err(Error::new(Code::Invalid, format!("{url} names no host"))),
    }
}

fn config(link: &ControlLink) -> Result<ClientConfig> {
    let failed = |what: &str| {
        let message = what.to_owned();
        move |e: rustls::Error| Error::new(Code::Invalid, message).because(e)
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(failed("TLS can't be set up"))?;
    let builder = builder.with_root_certificates(roots(link)?);
    let mut config = match &link.identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = tls::read(files).map_err(|e| unusable("the certificate for control", e))?;
            let together = failed("the certificate for control and its key can't be used together");
            builder.with_client_auth_cert(chain, key).map_err(together)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // What is taken up again would show the certificate of before.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Those of the file alone, else those of the system.
fn roots(link: &ControlLink) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &link.ca_file {
        Some(path) => {
            let what = "the authorities that may certify control";
            let certificates = tls::certificates(path).map_err(|e| unusable(what, e))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|e| unusable(what, e))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn unusable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::Invalid, what.to_owned()).because(error)
}
