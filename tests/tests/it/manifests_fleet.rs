//! The fleet of `k8s/`, started: its command lines as they are rendered, with the Secrets that docs/KUBERNETES.md makes,
//! as processes on this host. Only places are others: data, ports, and where control is.

use std::path::{Path, PathBuf};

use ncps_nix::Compression;
use ncps_tests::manifest::{Manifest, Pod};
use ncps_tests::{
    Authority, Body, Cli, Fixture, Process, Request, ReservedPort, Upstream, UpstreamKey, eventually,
};

use crate::processes::UNDER_TEST;

/// A rendered fleet, and the places of its processes.
struct Deployed {
    manifest: Manifest,
    dir: tempfile::TempDir,
    grpc: ReservedPort,
}

/// A process of it, and where it answers HTTP.
struct Running {
    process: Process,
    http: ReservedPort,
}

impl Deployed {
    /// With what has to be there before control starts.
    async fn new() -> Deployed {
        let manifest = Manifest::all().into_iter().find(|manifest| manifest.name == "fleet").expect("there");
        let dir = tempfile::Builder::new().prefix("ncps-k8s-").tempdir().expect("a temporary directory");
        let deployed = Deployed { manifest, dir, grpc: ReservedPort::new() };
        let authority = Authority::new();
        let identity = authority.server_identity("localhost");
        for (file, text) in [
            ("tls/tls.crt", identity.as_str()),
            ("tls/tls.key", &identity),
            ("ca/ca.crt", &authority.root()),
            ("config/config.yaml", deployed.manifest.config(&deployed.pod("ncps-control"))),
        ] {
            deployed.mount(file, text);
        }
        deployed.mount("key/.keep", "");
        let key = deployed.etc().join("key/secret.key").display().to_string();
        Cli::new(UNDER_TEST).ok(&["key", "generate", "cache.example.org", "--to", &key]).await;
        deployed
    }

    fn pod(&self, name: &str) -> Pod {
        self.manifest.pods().into_iter().find(|pod| pod.name == name).expect("its pods")
    }

    fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    fn data(&self, pod: &str) -> PathBuf {
        self.dir.path().join(pod)
    }

    fn mount(&self, file: &str, text: &str) {
        let file = self.etc().join(file);
        std::fs::create_dir_all(file.parent().expect("below")).expect("room");
        std::fs::write(file, text).expect("room");
    }

    /// A pod as a process, at this port and with these flags more: the last one counts.
    fn start(&self, name: &str, http: ReservedPort, flags: &[String]) -> Running {
        let pod = self.pod(name);
        let run = self.data(name).join("run");
        std::fs::create_dir_all(&run).expect("room");
        let etc = self.etc().display().to_string();
        let mut command: Vec<_> = pod.command().iter().map(|word| word.replace("/etc/ncps", &etc)).collect();
        command.push(format!("--cache-data-path={}", self.data(name).display()));
        let place = if name == "ncps-control" { "control-http-addr" } else { "server-addr" };
        command.push(format!("--{place}={}", http.addr()));
        command.extend_from_slice(flags);
        let env = pod.env().into_iter().map(|(name, value)| (name, value.replace("/run/ncps", &path(&run))));
        let env: Vec<_> = env.collect();
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Running { process: Process::spawn(Path::new(UNDER_TEST), &command, &env), http }
    }

    async fn control(&self, upstream: &Upstream, key: &UpstreamKey) -> Running {
        let flags = [
            format!("--control-addr={}", self.grpc.addr()),
            format!("--upstream-cache={}", upstream.url()),
            format!("--upstream-public-key={}", key.public()),
        ];
        let mut control = self.start("ncps-control", ReservedPort::new(), &flags);
        control.process.ready(control.http.addr()).await;
        control
    }

    async fn edge(&self, name: &str) -> Running {
        let http = ReservedPort::new();
        let flags = [
            format!("--control-url=https://localhost:{}", self.grpc.addr().port()),
            format!("--edge-url=http://{}", http.addr()),
        ];
        let mut edge = self.start(name, http, &flags);
        edge.process.ready(edge.http.addr()).await;
        edge.process.line_with("\"attached to control\"").await;
        edge
    }

    /// A token by `ncps-cli` in control's pod.
    async fn token(&self, args: &[&str]) -> String {
        let run = path(&self.data("ncps-control").join("run"));
        let cli = Cli::new(UNDER_TEST).variable("RUNTIME_DIRECTORY", &run);
        cli.ok(&[&["token", "create"], args].concat()).await
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

async fn put(edge: &Running, path: &str, body: Body, token: Option<&str>) -> u16 {
    let request = Request::put(path, body);
    let request = match token {
        Some(token) => request.header("Authorization", &format!("Bearer {}", token.trim())),
        None => request,
    };
    let mut response = request.send(edge.http.addr()).await.expect("answered");
    response.whole().await;
    response.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_starts_and_keeps_what_is_uploaded() {
    let key = UpstreamKey::new("upstream-1");
    let cached = Fixture::new("cached-1.0").size(100_000).build(&key);
    let own = Fixture::new("own-1.0").size(100_000).compression(Compression::Zstd).build_unsigned();
    let upstream = Upstream::with(&[&cached]).await;
    let fleet = Deployed::new().await;
    let _control = fleet.control(&upstream, &key).await;
    fleet.mount("token/token", &fleet.token(&["edges", "--scope", "edge"]).await);
    let bound = ["ncps-keep-0", "--scope", "edge,durable", "--edge", "ncps-keep-0"];
    fleet.mount("token/ncps-keep-0", &fleet.token(&bound).await);
    let (edge, keep) = (fleet.edge("ncps-edge").await, fleet.edge("ncps-keep").await);

    let mut narinfo = Request::get(&cached.narinfo_path()).send(edge.http.addr()).await.expect("answered");
    assert_eq!(narinfo.status, 200);
    let narinfo = narinfo.text().await;
    assert!(narinfo.contains("Sig: cache.example.org:"), "{narinfo}");

    let nar = async |token| put(&edge, &own.nar_path(), own.file.clone(), token).await;
    assert_eq!(nar(None).await, 401, "the fleet takes nothing from strangers");
    let token = fleet.token(&["ci", "--scope", "write,sign"]).await;
    eventually("the token is known", async || nar(Some(&token)).await == 204).await;
    assert_eq!(put(&edge, &own.narinfo_path(), own.narinfo_text().into(), Some(&token)).await, 204);
    let stored = |pod: &str| fleet.data(pod).join("store").join(own.nar_path().trim_start_matches('/'));
    assert!(stored("ncps-keep").exists() && !stored("ncps-edge").exists());
    let mut read = Request::get(&own.nar_path()).send(keep.http.addr()).await.expect("answered");
    assert_eq!((read.status, read.whole().await), (200, own.file.to_bytes()));
}
