//! A certificate authority made for one test, and what it has signed.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Who vouches for a server, and for the clients that it lets in.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(super) struct Pair {
    pub(super) cert: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pem: String,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    /// If no key can be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// Its own certificate in PEM: what a client must trust.
    pub fn root(&self) -> String {
        self.0.pem()
    }

    /// A client's certificate and key in PEM, one after the other.
    pub fn client_identity(&self) -> String {
        self.sign("client.test", ExtendedKeyUsagePurpose::ClientAuth).pem
    }

    /// The certificate and key in PEM, one after the other, of the server at `host`.
    pub fn server_identity(&self, host: &str) -> String {
        self.server(host).pem
    }

    /// A certificate and key in PEM, one after the other, of a client with these URIs among its names. `serial` is what
    /// it is revoked by.
    pub fn named(&self, uris: &[&str], serial: u64) -> String {
        self.of_uris(uris, serial, |_| {})
    }

    /// The same of one whose time is over.
    pub fn expired(&self, uri: &str) -> String {
        self.of_uris(&[uri], 1, |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    fn of_uris(&self, uris: &[&str], serial: u64, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI"));
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        self.signed(&params).pem
    }

    /// The list in PEM of what it has revoked.
    pub fn revoked(&self, serials: &[u64]) -> String {
        let now = date_time_ymd(2020, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).and_then(|list| list.pem()).expect("signed")
    }

    pub(super) fn server(&self, host: &str) -> Pair {
        self.sign(host, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("it is an authority");
        Arc::new(roots)
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![usage];
        self.signed(&params)
    }

    fn signed(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        let pem = cert.pem() + &key.serialize_pem();
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Pair { cert: cert.der().clone(), key: der, pem }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}
