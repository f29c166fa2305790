//! TLS of a server: a certificate that is read again when its files change, so that renewing it needs no restart.
//! Connections that there are keep the one they began with.
//!
//! Absent on purpose: what is spoken inside, client certificates, several certificates by name, fetching certificates
//! (ACME).

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
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::values::absolute_path;
use crate::config::{Field, Resolver};

/// How often it is looked whether the files changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The first byte of every TLS connection: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

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
    acceptor: TlsAcceptor,
    served: Arc<Served>,
    files: TlsFiles,
}

/// The certificate in force.
#[derive(Debug)]
struct Served(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files. `protocols` are those that are spoken inside, best first, as ALPN names them.
    ///
    /// # Errors
    /// Where the files can't be used: at start that is an end, later the ones before stay in force.
    pub fn load(files: &TlsFiles, protocols: &[&str]) -> Result<Tls, TlsError> {
        let served = Arc::new(Served(ArcSwap::from_pointee(read(files)?)));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(served.clone());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), served, files: files.clone() })
    }

    /// Whether somebody begins to speak, and not TLS. Takes nothing from the stream.
    ///
    /// # Errors
    /// The system's.
    pub async fn is_plaintext(&self, stream: &TcpStream) -> io::Result<bool> {
        let mut first = [0];
        Ok(stream.peek(&mut first).await? == 1 && first != [HANDSHAKE])
    }

    /// The handshake.
    ///
    /// # Errors
    /// The system's, or the other side's.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    /// Reads the files again when they change, until the process stops.
    pub async fn watch(self, stop: CancellationToken) {
        let mut seen = self.stamp().await;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.stamp().await;
            if now != seen {
                seen = now;
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || read(&files)).await;
        let certificate = self.files.cert.display();
        match read.map_err(anyhow::Error::from).and_then(|read| Ok(read?)) {
            Ok(pair) => {
                self.served.0.store(Arc::new(pair));
                tracing::info!(%certificate, "a new certificate is served");
            }
            Err(error) => {
                tracing::error!(%certificate, error = format!("{error:#}"), "the new certificate can't be used: the one before stays");
            }
        }
    }

    async fn stamp(&self) -> [Option<Stamp>; 2] {
        let files = self.files.clone();
        let stamps = tokio::task::spawn_blocking(move || [stamp(&files.cert), stamp(&files.key)]);
        stamps.await.unwrap_or_default()
    }
}

/// What changes when a file is written or replaced.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let bad = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_slice_iter(&contents(&files.cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(bad(&files.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key)?).map_err(bad(&files.key))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(TlsError::Pair)
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
        assert!(matches!(Tls::load(&files, &["h2"]), Err(TlsError::Read { path, .. }) if path == files.cert));
        write(&files, "a.test");
        assert!(Tls::load(&files, &["h2"]).is_ok());
        let key = fs::read(&files.key).expect("read");
        write(&files, "b.test");
        fs::write(&files.key, key).expect("written");
        assert!(
            matches!(Tls::load(&files, &["h2"]), Err(TlsError::Pair(_))),
            "the key of another certificate"
        );
        fs::write(&files.cert, "").expect("written");
        assert!(matches!(Tls::load(&files, &["h2"]), Err(TlsError::NoCertificate(_))));
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_one_before() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = files(&dir);
        write(&files, "a.test");
        let tls = Tls::load(&files, &["h2"]).expect("usable");
        let served = || tls.served.0.load().cert[0].clone();
        let (first, seen) = (served(), tls.stamp().await);
        fs::write(&files.cert, "broken").expect("written");
        assert_ne!(tls.stamp().await, seen);
        tls.reload().await;
        assert_eq!(served(), first);
        write(&files, "b.test");
        tls.reload().await;
        assert_ne!(served(), first);
    }
}
