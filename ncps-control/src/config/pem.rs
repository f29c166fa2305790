//! Certificates and keys that upstreams are reached with: read and tried at the start, so that what can't be used
//! is a problem of the configuration and not of the first request.
//!
//! Messages name the file and never show its text. Absent: renewal; another certificate is for the next start.

use std::io::{ErrorKind, Read};
use std::path::Path;

use ncps_proto::Secret;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// More than any bundle of authorities has, so that a wrong path is noticed and not read.
const MAX_BYTES: u64 = 16 << 20;

/// A client certificate with its chain, and its key: one text.
pub(super) fn identity(cert: &Path, key: &Path) -> Result<Secret, String> {
    let (certs, keys) = (text(cert)?, text(key)?);
    let chain = certificates(cert, &certs)?;
    let der = PrivateKeyDer::from_pem_slice(keys.as_bytes())
        .map_err(|error| format!("{} holds no private key in PEM: {error}", key.display()))?;
    CertifiedKey::from_der(chain, der, &ring::default_provider()).map_err(|error| {
        format!("{} and {} can't be used together: {error}", cert.display(), key.display())
    })?;
    Ok(Secret::new(format!("{}\n{}", *certs, *keys)))
}

/// Certificate authorities.
pub(super) fn roots(path: &Path) -> Result<String, String> {
    let text = text(path)?;
    let mut store = RootCertStore::empty();
    for certificate in certificates(path, &text)? {
        let added = store.add(certificate);
        added.map_err(|error| format!("{} holds a certificate of no use: {error}", path.display()))?;
    }
    Ok(text.to_string())
}

fn certificates(path: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(format!("{} holds no certificate in PEM", path.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{} is no usable PEM: {error}", path.display())),
    }
}

/// A file of text, wiped when it is dropped.
pub(super) fn text(path: &Path) -> Result<Zeroizing<String>, String> {
    read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("{}: there is no such file", path.display()),
        _ => format!("{}: {error}", path.display()),
    })
}

/// The same with the system's error.
pub(super) fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let file = std::fs::File::open(path)?;
    let length = usize::try_from(file.metadata()?.len().min(MAX_BYTES)).unwrap_or(0);
    // Room for all of it, so that no copy is left behind in memory that grew.
    let mut text = Zeroizing::new(String::with_capacity(length + 1));
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pem_is_told_by_its_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pem");
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (written, expected) in [("hunter2", "holds no certificate"), (hollow, "of no use")] {
            std::fs::write(&path, written).expect("room");
            let error = roots(&path).expect_err("no certificates");
            assert!(error.contains(expected) && error.contains("/pem"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(roots(dir.path()).is_err(), "a folder");
        let error = identity(&dir.path().join("absent"), &path).expect_err("absent");
        assert!(error.contains("absent: there is no such file"), "{error}");
    }
}
