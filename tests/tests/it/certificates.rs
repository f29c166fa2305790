//! Certificates of edges and administrators instead of tokens: what each opens, what is refused and shown to
//! administrators, how one is revoked, and that renewed files need no restart. And what edges show each other.

use std::path::PathBuf;

use ncps_nix::Compression;
use ncps_runtime::tls::TlsFiles;
use ncps_tests::{
    Authority, Cli, Cluster, Fixture, Mode, Process, Upstream, UpstreamKey, both_modes, eventually,
    eventually_some,
};

use crate::control_port::{ATTACHED, Fleet, is_kept_out, token_flag};

impl Fleet {
    /// A file with this text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        // Whole or not at all, as tools do it that renew certificates.
        let (new, path) = (self.at(&format!("{name}.new")), self.at(name));
        std::fs::write(&new, text).expect("room");
        std::fs::rename(new, &path).expect("on one disk");
        path
    }

    /// Control that lets in whom the authority has certified and not revoked.
    pub(crate) async fn certified_control(&self) -> Process {
        self.write("revoked.pem", &self.authority.revoked(&[]));
        let flag =
            |name: &str, file: &str| format!("--control-tls-client-{name}={}", self.at(file).display());
        self.secure_control_with(&[flag("ca", "ca.pem"), flag("crl", "revoked.pem")]).await
    }

    pub(crate) fn certified_edge(&self, name: &str, identity: &str, flags: &[String]) -> Process {
        let file = self.write(&format!("identity-{name}.pem"), identity);
        let own = [
            format!("--control-ca-file={}", self.at("ca.pem").display()),
            format!("--control-client-cert={}", file.display()),
            format!("--control-client-key={}", file.display()),
        ];
        self.edge(name, &self.url("https"), &[&own, flags].concat())
    }

    fn certified_cli(&self, identity: &str) -> Cli {
        let file = self.write("identity-cli.pem", identity);
        let flag = |name: &str| format!("--client-{name}={}", file.display());
        self.remote_cli(None).flag(flag("cert")).flag(flag("key"))
    }

    /// The last refusal of this kind.
    pub(crate) async fn refused(&self, says: &str) -> serde_json::Value {
        eventually_some(says, async || {
            let edges = self.cli().json(&["edges"]).await;
            let refused = edges["refused"].as_array().expect("a list").clone();
            refused.into_iter().find(|one| one["why"].as_str().is_some_and(|why| why.contains(says)))
        })
        .await
    }
}

both_modes! {
    async fn a_certificate_lets_an_edge_in_under_its_name_alone(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let identity = fleet.authority.named(&["ncps://edge/e1"], 1);
        let mut edge = fleet.certified_edge("e1", &identity, &[]);
        edge.line_with(ATTACHED).await;
        let other = fleet.certified_edge("e2", &identity, &[]);
        is_kept_out(other, "certificate e1 is not for an edge of the name").await;
        let refused = fleet.refused("certificate e1 is not for").await;
        assert_eq!((&refused["name"], &refused["reason"]), (&"e2".into(), &"certificate".into()));
        let admin = fleet.authority.named(&["ncps://admin/ops"], 2);
        is_kept_out(fleet.certified_edge("e3", &admin, &[]), "certificate ops is one of scope admin").await;
        let none = fleet.edge("e4", &fleet.url("https"), &[format!("--control-ca-file={}", fleet.at("ca.pem").display())]);
        is_kept_out(none, "a token of scope edge, and none was shown").await;
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn a_certificate_of_an_administrator_opens_administration_alone(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let ops = fleet.certified_cli(&fleet.authority.named(&["ncps://admin/ops"], 1));
        ops.ok(&["token", "create", "made-remotely", "--scope=write"]).await;
        control.line_with("\"who\":\"certificate ops\"").await;
        let audit = fleet.cli().ok(&["events", "--audit"]).await;
        assert!(audit.contains("by certificate ops"), "{audit}");
        for (uri, says) in [
            ("ncps://edge/e1", "certificate e1 is one of scope edge, not admin"),
            ("https://admin/ops", "says not who it is for"),
        ] {
            let ran = fleet.certified_cli(&fleet.authority.named(&[uri], 2)).run(&["token", "list"]).await;
            assert!(ran.code == 1 && ran.said.contains(says) && ran.printed.is_empty(), "{ran:?}");
        }
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn a_certificate_that_does_not_count_is_refused_and_shown(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let stranger = Authority::new().named(&["ncps://edge/e1"], 1);
        let expired = fleet.authority.expired("ncps://edge/e1");
        let server = fleet.authority.server_identity("e1.test");
        for (identity, says) in [(stranger, "BadSignature"), (expired, "certificate expired"), (server, "extended key usage")] {
            let mut edge = fleet.certified_edge("e1", &identity, &[]);
            edge.line_with("not attached to control").await;
            let refused = fleet.refused(says).await;
            assert_eq!(refused["reason"], "certificate", "{refused}");
            assert!(!edge.lines().concat().contains(ATTACHED), "{:#?}", edge.lines());
            edge.kill().await;
        }
        let two = fleet.authority.named(&["ncps://edge/e1", "ncps://admin/e1"], 2);
        is_kept_out(fleet.certified_edge("e1", &two, &[]), "the certificate is for more than one").await;
        // A token is enough, whatever the certificate says.
        let token = fleet.token("edge", &["--scope=edge"]).await;
        let mut edge = fleet.certified_edge("e1", &two, &[token_flag(&token)]);
        edge.line_with(ATTACHED).await;
        edge.kill().await;
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn a_revoked_certificate_ends_the_session_and_a_new_one_begins_it_anew(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let mut edge = fleet.certified_edge("e1", &fleet.authority.named(&["ncps://edge/e1"], 7), &[]);
        edge.line_with(ATTACHED).await;
        fleet.write("revoked.pem", "broken");
        control.line_with("can't be used: the one before stays").await;
        fleet.write("revoked.pem", &fleet.authority.revoked(&[7]));
        edge.line_with("certificate e1 was revoked, or has expired").await;
        let refused = fleet.refused("Revoked").await;
        assert_eq!(refused["reason"], "certificate", "{refused}");
        fleet.write("identity-e1.pem", &fleet.authority.named(&["ncps://edge/e1"], 8));
        eventually("it attaches again", async || {
            edge.lines().iter().filter(|line| line.contains(ATTACHED)).count() == 2
        })
        .await;
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn a_broken_certificate_of_control_holds_up_no_revocation(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let identity = fleet.authority.named(&["ncps://edge/e1"], 7);
        let mut edge = fleet.certified_edge("e1", &identity, &[]);
        edge.line_with(ATTACHED).await;
        fleet.write("identity.pem", "broken");
        control.line_with("identity.pem has no certificate").await;
        fleet.write("revoked.pem", &fleet.authority.revoked(&[7]));
        edge.line_with("certificate e1 was revoked, or has expired").await;
        is_kept_out(fleet.certified_edge("e2", &identity, &[]), "certificate e1 counts no more").await;
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn what_can_not_be_used_ends_the_start(mode) {
        let fleet = Fleet::new(mode);
        let broken = fleet.write("broken.pem", "broken").display().to_string();
        for flags in [
            vec![format!("--control-tls-client-ca={broken}")],
            vec![format!("--control-tls-client-ca={}", fleet.at("ca.pem").display()),
                 format!("--control-tls-client-crl={broken}")],
        ] {
            let identity = fleet.at("identity.pem").display().to_string();
            let tls = [format!("--control-tls-cert={identity}"), format!("--control-tls-key={identity}")];
            let addr = ["--control-addr=127.0.0.1:0".to_owned()];
            let mut control = fleet.control(&[&addr, &tls[..], &flags].concat());
            assert_eq!(control.exit().await.code(), Some(2), "{:#?}", control.lines());
            control.line_with("broken.pem").await;
        }
        let mut control = fleet.control(&["--control-addr=127.0.0.1:0".to_owned(),
            format!("--control-tls-client-ca={}", fleet.at("ca.pem").display())]);
        assert_eq!(control.exit().await.code(), Some(2), "{:#?}", control.lines());
        control.line_with("needs TLS").await;
        let mut edge = fleet.certified_edge("e1", "broken", &[]);
        assert_eq!(edge.exit().await.code(), Some(2), "{:#?}", edge.lines());
        edge.line_with("identity-e1.pem").await;
        let half = fleet.remote_cli(None).flag(format!("--client-cert={broken}")).run(&["edges"]).await;
        assert!(half.code == 2 && half.said.contains("given together"), "{half:?}");
    }
}

/// Two edges with certificates of an authority of their own; the second one trusts the authority in this file.
async fn reads_from_its_peer(authority: &Authority, trusted: &Authority) -> usize {
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = tempfile::tempdir().expect("a directory");
    let (identity, ca) = (dir.path().join("identity.pem"), dir.path().join("ca.pem"));
    std::fs::write(&identity, authority.server_identity("127.0.0.1")).expect("room");
    std::fs::write(&ca, trusted.root()).expect("room");
    let key = UpstreamKey::new("upstream-1");
    let fixture = Fixture::new("hello-1.0").size(300_000).compression(Compression::None).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).edges(2);
    let cluster = builder.edge_config(|edge| {
        edge.tls = Some(TlsFiles { cert: identity.clone(), key: identity });
        edge.authorities = Some(ca);
    });
    let cluster = cluster.start().await;
    eventually("all are attached", async || cluster.attached().await.len() == 2).await;
    let root = reqwest::Certificate::from_pem(authority.root().as_bytes()).expect("one");
    let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().expect("a client");
    for edge in 0..2 {
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            let url = format!("https://{}{path}", cluster.at(edge).addr);
            let answer = client.get(url).send().await.expect("answered");
            assert_eq!(answer.status().as_u16(), 200, "{path} at edge {edge}");
            let body = answer.bytes().await.expect("whole");
            assert!(path == fixture.narinfo_path() || body == fixture.file.to_bytes(), "edge {edge}");
        }
        cluster.quiet().await;
    }
    cluster.end().await;
    upstream.count("GET", &fixture.nar_path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_read_from_each_other_by_an_authority_of_their_own() {
    let authority = Authority::new();
    assert_eq!(reads_from_its_peer(&authority, &authority).await, 1, "one download for both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_trusted_is_shown_no_secret() {
    assert_eq!(reads_from_its_peer(&Authority::new(), &Authority::new()).await, 2, "each goes upstream");
}
