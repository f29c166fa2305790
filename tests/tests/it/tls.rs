//! HTTPS for Nix clients: both protocol versions, a certificate that is renewed under running connections, and
//! what is not TLS; and what is said of files that can't be used.

use std::path::PathBuf;
use std::time::Duration;

use ncps_nix::Compression;
use ncps_runtime::tls::TlsFiles;
use ncps_tests::{
    Cluster, Connection, Fixture, Installation, Request, Upstream, UpstreamKey, both_modes, eventually,
};
use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client, Version};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

/// A certificate for this machine, in files.
struct Identity {
    dir: TempDir,
}

impl Identity {
    fn new() -> Identity {
        let identity = Identity { dir: TempDir::new().expect("a temporary directory") };
        identity.renew();
        identity
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.cert(), key: self.dir.path().join("key.pem") }
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Another certificate and key in the same files.
    fn renew(&self) {
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("generated");
        std::fs::write(self.files().key, pair.signing_key.serialize_pem()).expect("written");
        std::fs::write(self.cert(), pair.cert.pem()).expect("written");
    }

    /// A client that trusts the certificate as it is now, and nothing else.
    fn client(&self) -> Client {
        rustls::crypto::ring::default_provider().install_default().ok();
        let pem = std::fs::read(self.cert()).expect("written");
        let root = Certificate::from_pem(&pem).expect("a certificate");
        let client = Client::builder().tls_certs_only([root]).tls_info(true).no_proxy();
        client.build().expect("a client")
    }
}

async fn cluster(
    mode: ncps_tests::Mode,
    identity: &Identity,
    upstream: &Upstream,
    key: &UpstreamKey,
) -> Cluster {
    let files = identity.files();
    let builder = Cluster::builder(mode).upstream(upstream).trust(key);
    builder.edge_config(|edge| edge.tls = Some(files)).start().await
}

fn url(cluster: &Cluster, path: &str) -> String {
    format!("https://{}{path}", cluster.addr)
}

/// The command line of the edge with these files.
fn command(ncps: &Installation, files: &TlsFiles) -> Vec<String> {
    let mut command = ncps.edge_command(&ncps.edge_data());
    command.push(format!("--server-tls-cert={}", files.cert.display()));
    command.push(format!("--server-tls-key={}", files.key.display()));
    command
}

both_modes! {
    async fn from_the_command_line(mode) {
        let (key, identity) = (UpstreamKey::new("upstream-1"), Identity::new());
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        ncps.start_control();
        let mut edge = ncps.spawn(&command(&ncps, &identity.files()));
        edge.line_with("\"ready\"").await;
        let url = |path: &str| format!("https://{}{path}", ncps.addr());
        let narinfo = identity.client().get(url(&fixture.narinfo_path())).send().await.expect("trusted");
        assert_eq!(narinfo.status().as_u16(), 200);
        let nar = identity.client().get(url(&fixture.nar_path())).send().await.expect("trusted");
        assert_eq!(nar.bytes().await.expect("whole"), fixture.file.to_bytes());
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 400, "in plaintext nothing is served");
        assert_eq!(edge.terminate().await.code(), Some(0));
    }

    async fn a_key_that_can_not_be_used_ends_the_start(mode) {
        let (broken, absent) = (Identity::new(), Identity::new());
        std::fs::write(broken.files().key, "-----BEGIN PRIVATE KEY-----\nnonsense\n").expect("written");
        std::fs::remove_file(absent.files().key).expect("it was there");
        for files in [broken.files(), absent.files()] {
            let ncps = Installation::new(mode, UNDER_TEST);
            let mut edge = ncps.spawn(&command(&ncps, &files));
            assert_eq!(edge.exit().await.code(), Some(2), "{:#?}", edge.lines());
            let line = edge.line_with("--server-tls-key").await;
            assert!(line.contains(&*files.key.to_string_lossy()), "{line}");
            assert!(!edge.lines().concat().contains("nonsense"), "a part of the key was printed");
        }
    }

    async fn a_key_of_another_certificate_ends_the_start(mode) {
        let (one, other) = (Identity::new(), Identity::new());
        let files = TlsFiles { cert: one.cert(), key: other.files().key };
        let ncps = Installation::new(mode, UNDER_TEST);
        let mut edge = ncps.spawn(&command(&ncps, &files));
        assert_eq!(edge.exit().await.code(), Some(2), "{:#?}", edge.lines());
        let line = edge.line_with("can't be used together").await;
        assert!(line.contains("--server-tls-cert, --server-tls-key"), "{line}");
    }

    async fn both_versions_serve_a_path(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").size(3_000_000).compression(Compression::Xz).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let identity = Identity::new();
        let cluster = cluster(mode, &identity, &upstream, &key).await;
        let narinfo = url(&cluster, &fixture.narinfo_path());
        let h2 = identity.client().get(&narinfo).send().await.expect("trusted");
        assert_eq!((h2.status().as_u16(), h2.version()), (200, Version::HTTP_2), "by ALPN");
        let root = Certificate::from_pem(&std::fs::read(identity.cert()).expect("written")).expect("one");
        let h1 = Client::builder().tls_certs_only([root]).http1_only().no_proxy().build().expect("a client");
        let h1 = h1.get(&narinfo).send().await.expect("trusted");
        assert_eq!((h1.status().as_u16(), h1.version()), (200, Version::HTTP_11));
        let nar = identity.client().get(url(&cluster, &fixture.canonical_nar_path())).send().await;
        let nar = nar.expect("answered").bytes().await.expect("whole");
        assert_eq!(nar, fixture.file.to_bytes());
        cluster.end().await;
    }

    async fn a_renewed_certificate_is_served_and_nobody_is_dropped(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let identity = Identity::new();
        let cluster = cluster(mode, &identity, &upstream, &key).await;
        let url = url(&cluster, "/nix-cache-info");
        let old = identity.client();
        let seen = |response: &reqwest::Response| {
            let info = response.extensions().get::<TlsInfo>().expect("asked for");
            info.peer_certificate().expect("the server has one").to_vec()
        };
        let first = seen(&old.get(&url).send().await.expect("trusted"));

        std::fs::write(identity.cert(), "broken").expect("written");
        // Longer than the time between two looks at the files.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(seen(&old.get(&url).send().await.expect("as before")), first);

        identity.renew();
        let new = async || identity.client().get(&url).send().await.is_ok();
        eventually("the new certificate is served", new).await;
        let still = old.get(&url).send().await.expect("the old connection goes on");
        assert_eq!((still.status().as_u16(), seen(&still)), (200, first));
        cluster.end().await;
    }

    async fn plaintext_is_told_so(mode) {
        let (key, identity) = (UpstreamKey::new("upstream-1"), Identity::new());
        let upstream = Upstream::start().await;
        let cluster = cluster(mode, &identity, &upstream, &key).await;
        let mut response = cluster.send(Request::get("/nix-cache-info")).await;
        assert_eq!(response.status, 400);
        assert!(response.text().await.contains("https://"));
        let https = identity.client().get(url(&cluster, "/nix-cache-info")).send().await;
        assert_eq!(https.expect("others are served").status().as_u16(), 200);
        cluster.end().await;
    }

    async fn a_handshake_that_does_not_come_is_not_waited_for(mode) {
        let identity = Identity::new();
        let files = identity.files();
        let builder = Cluster::builder(mode).edge_config(|edge| {
            edge.tls = Some(files);
            edge.limits.handshake_timeout = Duration::from_millis(200);
        });
        let cluster = builder.start().await;
        let mut silent = Connection::open(cluster.addr).await.expect("accepted");
        assert!(silent.closes().await.expect("in time"));
        let mut half = Connection::open(cluster.addr).await.expect("accepted");
        half.write(&[22, 3, 1]).await.expect("written");
        half.closes().await.expect("in time");
        cluster.end().await;
    }
}
