//! TLS of a server: a certificate that is read again when its files change, so that renewing it needs no restart.
//! Connections that there are keep the one they began with. Where it asks clients for certificates, see [`clients`].
//!
//! Absent on purpose: what is spoken inside, several certificates by name, fetching certificates (ACME).

pub mod clients;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::values::absolute_path;
use crate::config::{Field, Resolver};
use clients::{ClientFiles, Shown, Visitors};

/// How often it is looked whether the files changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The first byte of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What a connection to a port with TLS begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    Handshake,
    /// Anything else.
    Plaintext,
}

/// What TLS is made of, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both fields, or neither. `None` where they were not given or a problem was noted.
    pub fn read(r: &mut Resolver, cert: &Field, key: &Field) -> Option<TlsFiles> {
        let paths = (r.get(cert, absolute_path), r.get(key, absolute_path));
        match (r.given(cert), r.given(key)) {
            (true, false) => r.problem(key, format_args!("has to be given with --{}", cert.flag)),
            (false, true) => r.problem(cert, format_args!("has to be given with --{}", key.flag)),
            _ => {}
        }
        Some(TlsFiles { cert: paths.0?, key: paths.1? })
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is something else.
    #[error("{path} is not usable PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// PEM of something else.
    #[error("{0} has no certificate")]
    NoCertificate(PathBuf),
    /// A list of revoked certificates, or of authorities, is none.
    #[error("{path} can't be used to check certificates of clients")]
    Clients {
        /// Which.
        path: PathBuf,
        /// Why.
        source: anyhow::Error,
    },
    /// They don't belong together.
    #[error("the certificate and the key can't be used together")]
    Pair(#[source] rustls::Error),
    /// The library.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// The server's side of TLS.
#[derive(Clone)]
pub struct Tls {
    served: Arc<ArcSwap<ServerConfig>>,
    files: TlsFiles,
    /// Best first, as ALPN names them.
    protocols: Arc<[Vec<u8>]>,
    visitors: Option<Arc<Visitors>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files. `protocols` are those that are spoken inside, best first, as ALPN names them. Clients are asked
    /// for a certificate where `clients` says who certifies them; one that shows none is let in, and its connection says so.
    ///
    /// # Errors
    /// Where the files can't be used: at start that is an end, later the ones before stay in force.
    pub fn load(
        files: &TlsFiles,
        clients: Option<&ClientFiles>,
        protocols: &[&str],
    ) -> Result<Tls, TlsError> {
        let protocols: Arc<[_]> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let visitors = clients.map(Visitors::load).transpose()?.map(Arc::new);
        let served = config(files, visitors.as_deref(), &protocols)?;
        Ok(Tls { served: Arc::new(ArcSwap::from_pointee(served)), files: files.clone(), protocols, visitors })
    }

    /// Whether clients may prove themselves by a certificate.
    pub fn asks_clients(&self) -> bool {
        self.visitors.is_some()
    }

    /// The certificate that the client of a connection has shown, if any: of an authority that may certify it.
    pub fn shown(&self, stream: &TlsStream<TcpStream>) -> Option<Arc<Shown>> {
        let (_, connection) = stream.get_ref();
        Some(self.visitors.as_ref()?.welcome(connection.peer_certificates()?))
    }

    /// What somebody begins with, or `None` where he has gone without a word. Takes nothing from the stream.
    ///
    /// # Errors
    /// The system's.
    pub async fn opening(stream: &TcpStream) -> io::Result<Option<Opening>> {
        let mut first = [0];
        let heard = match stream.peek(&mut first).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
            peeked => peeked? == 1,
        };
        let opening = if first == [HANDSHAKE] { Opening::Handshake } else { Opening::Plaintext };
        Ok(heard.then_some(opening))
    }

    /// The handshake.
    ///
    /// # Errors
    /// The system's, or the other side's.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.served.load_full()).accept(stream).await
    }

    /// Reads the files again when they change, until the process stops, and looks again at the certificates that clients
    /// have shown.
    pub async fn watch(self, stop: CancellationToken) {
        let mut seen = self.stamps().await;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.stamps().await;
            if now != seen {
                seen = now;
                self.reload().await;
            }
            if let Some(visitors) = &self.visitors {
                visitors.look_again();
            }
        }
    }

    async fn reload(&self) {
        let tls = self.clone();
        let read = tokio::task::spawn_blocking(move || tls.read_again()).await;
        let certificate = self.files.cert.display();
        match read.map_err(anyhow::Error::from).and_then(|read| Ok(read?)) {
            Ok(()) => tracing::info!(%certificate, "the files of TLS changed and were read again"),
            Err(error) => {
                tracing::error!(%certificate, error = format!("{error:#}"), "a changed file of TLS can't be used: the one before stays");
            }
        }
    }

    /// What is about clients and what is served, each by itself: a certificate of ours that is broken holds up no
    /// revocation.
    fn read_again(&self) -> Result<(), TlsError> {
        let judged = self.visitors.as_deref().map_or(Ok(()), Visitors::read_again);
        let served = config(&self.files, self.visitors.as_deref(), &self.protocols);
        judged.and(served.map(|served| self.served.store(Arc::new(served))))
    }

    async fn stamps(&self) -> Vec<Option<Stamp>> {
        let mut paths = vec![self.files.cert.clone(), self.files.key.clone()];
        paths.extend(self.visitors.iter().flat_map(|visitors| visitors.files().paths()));
        let stamps = tokio::task::spawn_blocking(move || paths.iter().map(|path| stamp(path)).collect());
        stamps.await.unwrap_or_default()
    }
}

fn config(
    files: &TlsFiles,
    visitors: Option<&Visitors>,
    protocols: &[Vec<u8>],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
    let builder = match visitors {
        Some(visitors) => builder.with_client_cert_verifier(visitors.judge()),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = read(files)?;
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = protocols.to_vec();
    if visitors.is_some() {
        // A session that is taken up again is not checked again: nothing would notice a certificate that has ended.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// What changes when a file is written or replaced.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// A certificate with those between it and its root, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads a certificate and its key, of a server or of a client. Whether they belong together is not looked at.
///
/// # Errors
/// Where a file can't be read, or is something else.
pub fn read(files: &TlsFiles) -> Result<Identity, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key)?);
    let key = key.map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    Ok((chain, key))
}

/// Reads certificates, at least one.
///
/// # Errors
/// Where the file can't be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_slice_iter(&contents(path)?).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if read.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(read)
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir) -> TlsFiles {
        TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") }
    }

    fn write(files: &TlsFiles, name: &str) {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).expect("generated");
        fs::write(&files.cert, pair.cert.pem()).expect("written");
        fs::write(&files.key, pair.signing_key.serialize_pem()).expect("written");
    }

    #[test]
    fn files_that_fit_are_used_and_others_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(&dir);
        assert!(
            matches!(Tls::load(&files, None, &["h2"]), Err(TlsError::Read { path, .. }) if path == files.cert)
        );
        write(&files, "a.test");
        assert!(Tls::load(&files, None, &["h2"]).is_ok());
        let key = fs::read(&files.key).expect("read");
        write(&files, "b.test");
        fs::write(&files.key, key).expect("written");
        assert!(
            matches!(Tls::load(&files, None, &["h2"]), Err(TlsError::Pair(_))),
            "the key of another certificate"
        );
        fs::write(&files.cert, "").expect("written");
        assert!(matches!(Tls::load(&files, None, &["h2"]), Err(TlsError::NoCertificate(_))));
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_one_before() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(&dir);
        write(&files, "a.test");
        let tls = Tls::load(&files, None, &["h2"]).expect("usable");
        let served = || tls.served.load_full();
        let (first, seen) = (served(), tls.stamps().await);
        fs::write(&files.cert, "broken").expect("written");
        assert_ne!(tls.stamps().await, seen);
        tls.reload().await;
        assert!(Arc::ptr_eq(&served(), &first));
        write(&files, "b.test");
        tls.reload().await;
        assert!(!Arc::ptr_eq(&served(), &first));
    }
}
