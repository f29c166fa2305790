//! What the flags of upstreams do, from the command line to the wire, in both ways to run ncps: logins, certificates,
//! who may be unsigned and who may be away. How upstreams are asked is told in `asked_well.rs` and `sleepers.rs`,
//! and those behind a proxy are in `proxies.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ncps_nix::NarInfo;
use ncps_tests::{Fixture, Installation, Mode, Upstream, UpstreamKey, both_modes, eventually};
use rcgen::{CertifiedKey, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::processes::UNDER_TEST;

/// `me:p@ss` as HTTP Basic says it.
const BASIC: &str = "Basic bWU6cEBzcw==";

async fn private() -> (Upstream, Fixture, UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let fixture = Fixture::new("hello-1.0").build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    upstream.require_authorization(Some(BASIC));
    (upstream, fixture, key)
}

/// Of one upstream, with the key of its maker.
pub(crate) fn installation(mode: Mode, upstream: &str, key: &UpstreamKey) -> Installation {
    let ncps = Installation::new(mode, UNDER_TEST);
    let ncps = ncps.control_flag(format!("--upstream-cache={upstream}"));
    ncps.control_flag(format!("--upstream-public-key={}", key.public()))
}

/// Both are served, as the upstream has them.
pub(crate) async fn serves(ncps: &Installation, fixture: &Fixture) {
    let (status, narinfo) = ncps.fetch(&fixture.narinfo_path()).await;
    assert_eq!(status, 200);
    let narinfo = NarInfo::parse(&narinfo.whole()).expect("what we serve parses");
    assert_eq!(narinfo.nar_hash, fixture.narinfo.nar_hash);
    let (status, nar) = ncps.fetch(&fixture.nar_path()).await;
    assert!(status == 200 && nar.whole() == fixture.file.to_bytes());
}

/// Neither in what it says nor in any file that others may read.
fn keeps_secret(ncps: &mut Installation, secrets: &[&str]) {
    let mut lines = ncps.edge().lines();
    lines.extend(ncps.control().lines());
    let said = lines.join("\n");
    assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
    let narinfos = ncps.files("store").into_iter().filter(|name| name.ends_with(".narinfo"));
    for narinfo in narinfos {
        let text = std::fs::read_to_string(ncps.stored(&narinfo)).expect("it is there");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
    }
}

both_modes! {
    async fn a_login_in_a_url_is_used_and_told_nobody(mode) {
        let (upstream, fixture, key) = private().await;
        let url = upstream.url().replace("http://", "http://me:p%40ss@");
        let ncps = installation(mode, &url, &key).flag("--log-level=debug");
        let mut ncps = ncps.started().await;
        serves(&ncps, &fixture).await;
        ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
        ncps.terminate().await;
        keeps_secret(&mut ncps, &["p@ss", "p%40ss", "bWU6cEBzcw"]);
    }

    async fn a_netrc_file_is_for_the_edge_wherever_that_is(mode) {
        let (upstream, fixture, key) = private().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("netrc");
        std::fs::write(&path, "machine 127.0.0.1 login me password p@ss").expect("room");
        let ncps = installation(mode, &upstream.url(), &key).flag("--log-level=debug");
        let ncps = ncps.control_flag(format!("--netrc-file={}", path.display()));
        let mut ncps = ncps.started().await;
        serves(&ncps, &fixture).await;
        ncps.terminate().await;
        keeps_secret(&mut ncps, &["p@ss", "bWU6cEBzcw"]);
    }

    async fn who_may_be_unsigned_is_passed_on_unsigned(mode) {
        let (trusted, key) = (UpstreamKey::new("upstream-1"), UpstreamKey::new("unknown-1"));
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = installation(mode, &upstream.url(), &trusted).started().await;
        assert_eq!(ncps.fetch(&fixture.narinfo_path()).await.0, 502, "nobody vouches for it");
        ncps.terminate().await;
        let ncps = installation(mode, &upstream.url(), &trusted);
        let mut ncps = ncps.control_flag(format!("--allow-unsigned-upstream={}/", upstream.url())).started().await;
        ncps.control().line_with("narinfos without a trusted signature are passed on").await;
        serves(&ncps, &fixture).await;
        let text = ncps.get(&fixture.narinfo_path()).await.text().await;
        assert!(!text.contains("Sig: cache.test:"), "{text}");
        ncps.terminate().await;
    }

    async fn who_may_be_away_is_said_in_the_url(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (upstream, sleeper) = (Upstream::start().await, Upstream::start_down());
        let absent = Fixture::new("absent-1.0").build(&key);
        let with = |sleeper: String| {
            installation(mode, &upstream.url(), &key).control_flag(format!("--upstream-cache={sleeper}"))
        };
        for (ncps, status) in [
            (with(sleeper.url()), 502),
            (with(format!("{}?optional=1", sleeper.url())), 404),
            (with(sleeper.url()).control_flag("--upstream-give-up-after=never"), 502),
            (with(sleeper.url()).control_flag("--upstream-give-up-after=1s"), 404),
        ] {
            let mut ncps = ncps.started().await;
            let answer = async || ncps.fetch(&absent.narinfo_path()).await.0 == status;
            eventually("it has a say, or none", answer).await;
            ncps.terminate().await;
        }
    }

    async fn an_upstream_that_no_key_fits_is_reported_loudly(mode) {
        let (trusted, key) = (UpstreamKey::new("upstream-1"), UpstreamKey::new("unknown-1"));
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = installation(mode, &upstream.url(), &trusted).started().await;
        assert_eq!(ncps.fetch(&fixture.narinfo_path()).await.0, 502);
        let line = ncps.edge().line_with("nothing of this upstream is signed by a trusted key").await;
        for part in ["ERROR", &upstream.url(), "unknown-1", "--upstream-public-key", "--allow-unsigned-upstream"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        ncps.terminate().await;
    }

    async fn certificates_open_an_upstream_that_asks_for_them(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let (door, client) = (Identity::new("127.0.0.1"), Identity::new("ncps"));
        let tls = TlsDoor::before(upstream.addr(), &door, &client).await;
        let ca_file = format!("--upstream-ca-file={}", door.cert().display());
        let parameters = format!(
            "tls-certificate={}&tls-private-key={}", client.cert().display(), client.key().display()
        );
        let closed = [
            (installation(mode, &tls.url(), &key).control_flag(&ca_file), "it wants a certificate"),
            (installation(mode, &format!("{}?{parameters}", tls.url()), &key), "nobody vouches for it"),
        ];
        for (ncps, why) in closed {
            let mut ncps = ncps.started().await;
            assert_eq!(ncps.fetch(&fixture.narinfo_path()).await.0, 502, "{why}");
            ncps.terminate().await;
        }
        let ncps = installation(mode, &format!("{}?{parameters}", tls.url()), &key);
        let mut ncps = ncps.control_flag(ca_file).flag("--log-level=debug").started().await;
        serves(&ncps, &fixture).await;
        ncps.terminate().await;
        keeps_secret(&mut ncps, &["PRIVATE KEY"]);
    }
}

/// A self-signed certificate, in files.
struct Identity {
    dir: TempDir,
    pair: CertifiedKey<KeyPair>,
}

impl Identity {
    fn new(name: &str) -> Identity {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).expect("generated");
        let identity = Identity { dir, pair };
        std::fs::write(identity.cert(), identity.pair.cert.pem()).expect("room");
        std::fs::write(identity.key(), identity.pair.signing_key.serialize_pem()).expect("room");
        identity
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }
}

/// TLS before an upstream, for one client alone.
struct TlsDoor {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsDoor {
    async fn before(upstream: SocketAddr, own: &Identity, client: &Identity) -> TlsDoor {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let acceptor = acceptor(own, client);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(pass(acceptor.clone(), socket, upstream));
            }
        });
        TlsDoor { addr, task }
    }

    fn url(&self) -> String {
        format!("https://{}", self.addr)
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(acceptor: TlsAcceptor, socket: TcpStream, upstream: SocketAddr) {
    // Who is refused, or goes away, is what the tests look at from the other side.
    let Ok(mut inner) = acceptor.accept(socket).await else { return };
    let Ok(mut outer) = TcpStream::connect(upstream).await else { return };
    tokio::io::copy_bidirectional(&mut inner, &mut outer).await.ok();
}

fn acceptor(own: &Identity, client: &Identity) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client.pair.cert.der().clone()).expect("a certificate");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("they are known");
    let builder = builder.with_client_cert_verifier(verifier.expect("there is a root"));
    let key = own.pair.signing_key.serialize_der().try_into().expect("a key");
    let config = builder.with_single_cert(vec![own.pair.cert.der().clone()], key).expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}
