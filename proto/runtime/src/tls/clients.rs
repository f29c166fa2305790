//! Certificates of clients: who may certify them, which were revoked, and whether one that was shown still counts. A
//! connection lives longer than a certificate may, so those that were shown are judged again: when the files change, and
//! every minute, since they end by themselves.
//!
//! Absent on purpose: what a certificate allows, which is read from its names by whoever lets its owner in.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_util::sync::CancellationToken;

use super::{TlsError, certificates, contents};

/// How often certificates are judged again whose time may be over.
const JUDGED_EVERY: Duration = Duration::from_secs(60);

/// Who certifies clients, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities.
    pub ca: PathBuf,
    /// What they have revoked.
    pub crl: Option<PathBuf>,
}

impl ClientFiles {
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        [Some(self.ca.clone()), self.crl.clone()].into_iter().flatten()
    }

    fn read(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca)? {
            roots.add(root).map_err(|error| unusable(&self.ca, error))?;
        }
        let crls = self.crl.as_deref().map(revoked).transpose()?.unwrap_or_default();
        let provider = Arc::new(ring::default_provider());
        // One authority of several may have revoked nothing, and so have no list.
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(crls)
            .allow_unknown_revocation_status()
            .allow_unauthenticated();
        builder.build().map_err(|error| unusable(self.crl.as_deref().unwrap_or(&self.ca), error))
    }
}

fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = contents(path)?;
    let read = CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if read.is_empty() {
        return Err(unusable(path, anyhow::anyhow!("it has no list of revoked certificates")));
    }
    Ok(read)
}

fn unusable(path: &Path, source: impl Into<anyhow::Error>) -> TlsError {
    TlsError::Clients { path: path.to_owned(), source: source.into() }
}

/// A certificate that the client of a connection has shown.
#[derive(Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// Fires when it counts no more: revoked, expired, or its authority has gone.
    pub over: CancellationToken,
    why: OnceLock<String>,
}

impl Shown {
    /// The URIs that it is for.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn uris(&self) -> anyhow::Result<Vec<String>> {
        let first = self.chain.first().context("there is no certificate")?;
        let read = webpki::EndEntityCert::try_from(first).context("the certificate can't be read")?;
        Ok(read.valid_uri_names().map(str::to_owned).collect())
    }

    /// Why it counts no more; `None` while it does.
    pub fn why_over(&self) -> Option<&str> {
        self.why.get().map(String::as_str)
    }

    fn judge(&self, judge: &dyn ClientCertVerifier) {
        let Some((first, others)) = self.chain.split_first() else { return };
        if let Err(error) = judge.verify_client_cert(first, others, UnixTime::now()) {
            self.why.get_or_init(|| error.to_string());
            self.over.cancel();
        }
    }
}

/// The clients that are there with a certificate.
pub(super) struct Visitors {
    files: ClientFiles,
    judge: ArcSwap<Arc<dyn ClientCertVerifier>>,
    shown: Mutex<Vec<Weak<Shown>>>,
    judged: Mutex<Instant>,
}

impl Visitors {
    pub(super) fn load(files: &ClientFiles) -> Result<Visitors, TlsError> {
        let judge = ArcSwap::from_pointee(files.read()?);
        Ok(Visitors {
            files: files.clone(),
            judge,
            shown: Mutex::default(),
            judged: Mutex::new(Instant::now()),
        })
    }

    pub(super) fn files(&self) -> &ClientFiles {
        &self.files
    }

    pub(super) fn judge(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.judge.load())
    }

    pub(super) fn welcome(&self, chain: &[CertificateDer<'static>]) -> Arc<Shown> {
        let chain = chain.to_vec();
        let shown = Arc::new(Shown { chain, over: CancellationToken::new(), why: OnceLock::new() });
        self.shown.lock().push(Arc::downgrade(&shown));
        // The files may have changed since its handshake began, or since what is served was last made of them.
        shown.judge(&*self.judge());
        shown
    }

    /// What the files say counts from now on, and for those who are there.
    pub(super) fn read_again(&self) -> Result<(), TlsError> {
        self.judge.store(Arc::new(self.files.read()?));
        self.judge_all();
        Ok(())
    }

    /// Those whose time may be over.
    pub(super) fn look_again(&self) {
        if self.judged.lock().elapsed() >= JUDGED_EVERY {
            self.judge_all();
        }
    }

    fn judge_all(&self) {
        *self.judged.lock() = Instant::now();
        let judge = self.judge();
        let there: Vec<_> = {
            let mut shown = self.shown.lock();
            shown.retain(|shown| shown.strong_count() > 0);
            shown.iter().filter_map(Weak::upgrade).collect()
        };
        there.iter().for_each(|shown| shown.judge(&*judge));
    }
}
