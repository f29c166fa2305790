//! Control at an address and port: TLS, tokens for edges and administrators, and what is said where they don't fit. A
//! second edge attaches over the network to `ncps-control`, or to `ncps serve`, which has an edge of its own.

use std::path::{Path, PathBuf};

use ncps_tests::{
    Authority, Cli, Installation, Mode, Process, Request, ReservedPort, both_modes, eventually,
};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;

/// A control with a port, and what belongs to it.
pub(crate) struct Fleet {
    mode: Mode,
    ncps: Installation,
    dir: TempDir,
    port: ReservedPort,
    pub(crate) authority: Authority,
}

impl Fleet {
    pub(crate) fn new(mode: Mode) -> Fleet {
        let dir = TempDir::new().expect("a directory");
        let fleet = Fleet {
            mode,
            ncps: Installation::new(mode, UNDER_TEST),
            dir,
            port: ReservedPort::new(),
            authority: Authority::new(),
        };
        std::fs::create_dir(fleet.at("run")).expect("room");
        std::fs::write(fleet.at("identity.pem"), fleet.authority.server_identity("127.0.0.1")).expect("room");
        std::fs::write(fleet.at("ca.pem"), fleet.authority.root()).expect("room");
        fleet
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.port.addr())
    }

    /// The program that has control, with these flags and its socket for administrators in `run`.
    pub(crate) fn control(&self, flags: &[String]) -> Process {
        let data = |path: PathBuf| format!("--cache-data-path={}", path.display());
        let mut command: Vec<String> = match self.mode {
            Mode::Split => vec!["ncps-control".to_owned(), data(self.ncps.control_data())],
            Mode::Combined => {
                let addr = format!("--server-addr={}", self.ncps.addr());
                vec!["ncps".to_owned(), "serve".to_owned(), data(self.ncps.edge_data()), addr]
            }
        };
        command
            .extend(["--control-http-addr=127.0.0.1:0".to_owned(), "--cache-hostname=cache.test".to_owned()]);
        command.extend_from_slice(flags);
        let run = self.at("run");
        self.ncps.spawn_with(&command, &[("RUNTIME_DIRECTORY", &run.to_string_lossy())])
    }

    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.port.addr()
    }

    pub(crate) fn addr_flag(&self) -> String {
        format!("--control-addr={}", self.port.addr())
    }

    pub(crate) async fn secure_control(&self) -> Process {
        self.secure_control_with(&[]).await
    }

    pub(crate) async fn secure_control_with(&self, flags: &[String]) -> Process {
        let identity = self.at("identity.pem").display().to_string();
        let tls = [format!("--control-tls-cert={identity}"), format!("--control-tls-key={identity}")];
        let mut control = self.control(&[&[self.addr_flag()], &tls[..], flags].concat());
        control.line_with("\"ready\"").await;
        control
    }

    /// At the socket.
    pub(crate) fn cli(&self) -> Cli {
        Cli::at(UNDER_TEST, &self.at("run/control.sock"))
    }

    /// Over TLS, with this token if any.
    pub(crate) fn remote_cli(&self, token: Option<&Path>) -> Cli {
        let cli = Cli::new(UNDER_TEST)
            .flag(format!("--control={}", self.url("https")))
            .flag(format!("--ca-file={}", self.at("ca.pem").display()));
        match token {
            Some(path) => cli.variable("NCPS_TOKEN_FILE", &path.to_string_lossy()),
            None => cli,
        }
    }

    /// A new token in a file.
    pub(crate) async fn token(&self, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.at(name);
        let to = format!("--to={}", path.display());
        self.cli().ok(&[&["token", "create", name, &to], flags].concat()).await;
        path
    }

    pub(crate) fn edge(&self, name: &str, url: &str, flags: &[String]) -> Process {
        self.edge_at("127.0.0.1:0", name, url, flags)
    }

    /// The same, which listens there.
    pub(crate) fn edge_at(&self, addr: &str, name: &str, url: &str, flags: &[String]) -> Process {
        let command = [
            "ncps-edge".to_owned(),
            format!("--cache-data-path={}", self.at(&format!("data-{name}")).display()),
            format!("--server-addr={addr}"),
            format!("--edge-name={name}"),
            format!("--control-url={url}"),
        ];
        self.ncps.spawn(&[&command, flags].concat())
    }

    /// An edge that trusts the authority and shows this token, if any.
    pub(crate) fn secure_edge(&self, name: &str, token: Option<&Path>) -> Process {
        let mut flags = vec![format!("--control-ca-file={}", self.at("ca.pem").display())];
        flags.extend(token.map(token_flag));
        self.edge(name, &self.url("https"), &flags)
    }
}

pub(crate) fn token_flag(path: &Path) -> String {
    format!("--control-token-file={}", path.display())
}

pub(crate) const ATTACHED: &str = "\"attached to control\"";

/// An edge that is kept out, and says this.
pub(crate) async fn is_kept_out(mut edge: Process, says: &str) {
    let line = edge.line_with(says).await;
    assert!(line.contains("not attached to control"), "{line}");
    assert!(!edge.lines().concat().contains(ATTACHED), "{:#?}", edge.lines());
    edge.kill().await;
}

both_modes! {
    async fn an_edge_attaches_over_tls_with_a_token_of_its_scope_and_name(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.secure_control().await;
        let admin = fleet.token("admin", &["--scope=admin"]).await;
        let right = fleet.token("right", &["--scope=edge", "--edge=e1"]).await;
        let mut edge = fleet.secure_edge("e1", Some(&right));
        edge.line_with(ATTACHED).await;
        let wrong = fleet.at("wrong");
        std::fs::write(&wrong, "ncps_wrong\n").expect("room");
        is_kept_out(fleet.secure_edge("e2", None), "a token of scope edge, and none was shown").await;
        is_kept_out(fleet.secure_edge("e2", Some(&wrong)), "the token is not known to control").await;
        is_kept_out(fleet.secure_edge("e2", Some(&admin)), "admin is no token of scope edge").await;
        is_kept_out(fleet.secure_edge("e2", Some(&right)), "token right is not for an edge of the name").await;
        control.line_with("\"a call was refused\"").await;
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn a_revoked_token_ends_the_session_and_another_one_in_the_file_begins_it_anew(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.secure_control().await;
        let first = fleet.token("first", &["--scope=edge"]).await;
        let mut edge = fleet.secure_edge("e1", Some(&first));
        edge.line_with(ATTACHED).await;
        fleet.cli().ok(&["token", "revoke", "first"]).await;
        edge.line_with("token first was revoked").await;
        let second = fleet.token("second", &["--scope=edge"]).await;
        std::fs::rename(second, &first).expect("on one disk");
        eventually("it attaches again", async || {
            edge.lines().iter().filter(|line| line.contains(ATTACHED)).count() == 2
        })
        .await;
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn who_does_not_trust_control_or_speaks_plaintext_is_told_so(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.secure_control().await;
        let token = fleet.token("edge", &["--scope=edge"]).await;
        let stranger = fleet.at("stranger.pem");
        std::fs::write(&stranger, Authority::new().root()).expect("room");
        let flags = [format!("--control-ca-file={}", stranger.display()), token_flag(&token)];
        is_kept_out(fleet.edge("e1", &fleet.url("https"), &flags), "invalid peer certificate").await;
        control.line_with("a TLS handshake with control failed").await;
        let mut plain = fleet.edge("e1", &fleet.url("http"), &[token_flag(&token)]);
        plain.line_with("not attached to control").await;
        control.line_with("plaintext on a TLS port").await;
        plain.kill().await;
        let strange = Cli::new(UNDER_TEST)
            .flag(format!("--control={}", fleet.url("https")))
            .flag(format!("--ca-file={}", stranger.display()));
        let ran = strange.run(&["token", "list"]).await;
        assert!(ran.code == 3 && ran.said.contains("invalid peer certificate"), "{ran:?}");
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn who_looks_whether_the_port_is_open_is_no_intruder(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.secure_control().await;
        for _ in 0..20 {
            drop(tokio::net::TcpStream::connect(fleet.addr()).await.expect("open"));
        }
        // After them in the same queue.
        fleet.remote_cli(None).run(&["token", "list"]).await;
        let refused = fleet.cli().json(&["edges"]).await["refused"].to_string();
        assert!(refused.contains("none was shown") && !refused.contains("handshake"), "{refused}");
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn commands_over_the_network_need_a_token_of_scope_admin(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.secure_control().await;
        let admin = fleet.token("admin", &["--scope=admin"]).await;
        let edge = fleet.token("edge", &["--scope=edge,read", "--yes"]).await;
        fleet.remote_cli(Some(&admin)).ok(&["token", "create", "made-remotely", "--scope=write"]).await;
        control.line_with("\"who\":\"token admin\"").await;
        let none = "a token of scope admin, and none was shown";
        for (token, says) in [(None, none), (Some(&*edge), "no token of scope admin")] {
            let ran = fleet.remote_cli(token).run(&["token", "create", "x", "--scope=admin"]).await;
            assert!(ran.code == 1 && ran.said.contains(says) && ran.printed.is_empty(), "{ran:?}");
        }
        fleet.cli().ok(&["token", "revoke", "admin"]).await;
        let ran = fleet.remote_cli(Some(&admin)).run(&["token", "list"]).await;
        assert!(ran.code == 1 && ran.said.contains("token admin was revoked"), "{ran:?}");
        let listed = fleet.cli().json(&["token", "list"]).await;
        let names: Vec<_> = listed.as_array().expect("a list").iter().map(|token| token["name"].clone()).collect();
        assert_eq!(names, ["admin", "edge", "made-remotely"]);
        let said = control.lines().concat();
        for path in [&admin, &edge] {
            let secret = std::fs::read_to_string(path).expect("there");
            assert!(!said.contains(secret.trim()), "a secret is in the log");
        }
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn plaintext_beyond_this_machine_is_refused_at_the_start(mode) {
        let fleet = Fleet::new(mode);
        let port = fleet.port.addr().port();
        for addr in [format!("0.0.0.0:{port}"), format!(":{port}"), format!("[::]:{port}")] {
            let mut control = fleet.control(&[format!("--control-addr={addr}")]);
            assert_eq!(control.exit().await.code(), Some(2), "{addr}: {:#?}", control.lines());
            let said = control.lines().concat();
            for name in ["--control-addr", "CONTROL_ADDR", "control.addr", "--control-insecure", "--control-tls-cert"]
            {
                assert!(said.contains(name), "{name}: {said}");
            }
        }
        let insecure = [format!("--control-addr=0.0.0.0:{port}"), "--control-insecure".to_owned()];
        let mut control = fleet.control(&insecure);
        control.line_with("whoever sees the traffic can read the tokens").await;
        control.line_with("\"ready\"").await;
        // On such an address an edge needs a token also while there is none.
        is_kept_out(fleet.edge("e1", &fleet.url("http"), &[]), "a token of scope edge, and none was shown").await;
        let token = fleet.token("edge", &["--scope=edge"]).await;
        let mut edge = fleet.edge("e1", &fleet.url("http"), &[token_flag(&token)]);
        edge.line_with(ATTACHED).await;
        edge.kill().await;
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn on_the_loopback_edges_need_a_token_as_soon_as_there_is_one(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.control(&[fleet.addr_flag()]);
        control.line_with("\"ready\"").await;
        let mut edge = fleet.edge("e1", &fleet.url("http"), &[]);
        edge.line_with(ATTACHED).await;
        let plain_cli = Cli::new(UNDER_TEST).flag(format!("--control={}", fleet.url("http")));
        assert_eq!(plain_cli.run(&["token", "list"]).await.code, 1, "administrators always do");
        fleet.token("edge", &["--scope=edge"]).await;
        edge.line_with("a token of scope edge, and none was shown").await;
        edge.kill().await;
        assert_eq!(control.terminate().await.code(), Some(0));
    }

    async fn files_that_can_not_be_used_end_the_start(mode) {
        let fleet = Fleet::new(mode);
        let absent = fleet.at("absent").display().to_string();
        let tls = [format!("--control-tls-cert={absent}"), format!("--control-tls-key={absent}")];
        let mut control = fleet.control(&[&[fleet.addr_flag()], &tls[..]].concat());
        assert_eq!(control.exit().await.code(), Some(2), "{:#?}", control.lines());
        control.line_with("--control-tls-cert, --control-tls-key").await;
        let mut half = fleet.control(&[fleet.addr_flag(), tls[0].clone()]);
        assert_eq!(half.exit().await.code(), Some(2), "{:#?}", half.lines());
        for flag in [format!("--control-ca-file={absent}"), format!("--control-token-file={absent}")] {
            let mut edge = fleet.edge("e1", &fleet.url("https"), &[flag]);
            assert_eq!(edge.exit().await.code(), Some(2), "{:#?}", edge.lines());
            edge.line_with("absent").await;
        }
        let mut far = fleet.edge("e1", "http://192.0.2.1:8502", &[]);
        assert_eq!(far.exit().await.code(), Some(2), "a token would leave this host in plaintext");
        far.line_with("use https://").await;
    }
}

/// Only an edge of its own process can be left alone.
#[tokio::test]
async fn tokens_count_with_control_away_and_after_a_start_without_it() {
    let mut ncps = Installation::new(Mode::Split, UNDER_TEST).started().await;
    let cli = Cli::at(UNDER_TEST, &ncps.socket());
    let good = cli.ok(&["token", "create", "good", "--scope=read", "--yes"]).await;
    let gone = cli.ok(&["token", "create", "gone", "--scope=read"]).await;
    let short = cli.ok(&["token", "create", "short", "--scope=read", "--expires=4s"]).await;
    let addr = ncps.addr();
    let ask = async |secret: &str| {
        let bearer = format!("Bearer {}", secret.trim_end());
        let request = Request::get("/nix-cache-info").header("Authorization", &bearer);
        request.send(addr).await.map_or(0, |response| response.status)
    };
    eventually("they count", async || ask(&gone).await == 200 && ask(&short).await == 200).await;
    cli.ok(&["token", "revoke", "gone"]).await;
    eventually("it counts no more", async || ask(&gone).await == 401).await;
    ncps.control().kill().await;
    let checked = async || (ask(&good).await, ask(&gone).await, ask("").await) == (200, 401, 401);
    assert!(checked().await, "control is away");
    eventually("one ends meanwhile", async || ask(&short).await == 401).await;
    ncps.edge().kill().await;
    ncps.start_edge();
    eventually("it is ready again", async || ask(&good).await == 200).await;
    assert!(checked().await && ask(&short).await == 401, "it starts without control");
    ncps.edge().terminate().await;
}
