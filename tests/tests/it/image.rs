//! The container image, unpacked: what is in it and what is not, and its programs started in it, as root and as user
//! 1000. What the original's containers are started with starts this one. Left out, with a note, where there is no image.

use std::fs::Permissions;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use ncps_nix::PublicKey;
use ncps_tests::{Container, Fixture, Front, Image, Nix, Process, ReservedPort, Upstream, UpstreamKey};
use tempfile::TempDir;

use crate::original::starts::{COMPOSE, DOCKER, KUBERNETES};
use crate::original::upstreams_here;

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
fn it_holds_what_it_should_and_no_shell() {
    let Some(image) = Image::find() else { return };
    let mut programs: Vec<_> =
        std::fs::read_dir(image.file("/bin")).expect("it is there").map(name).collect();
    programs.sort();
    assert_eq!(programs, ["dbmate", "dbmate-ncps", "ncps", "ncps-cli", "ncps-control", "ncps-edge"]);
    for file in ["/etc/passwd", "/etc/group", BUNDLE, "/usr/share/zoneinfo/Europe/Berlin"] {
        let is_file = image.file(file).symlink_metadata().is_ok_and(|file| file.is_file());
        assert!(is_file, "{file} is no file");
    }
    let passwd = std::fs::read_to_string(image.file("/etc/passwd")).expect("text");
    assert!(passwd.contains("root:x:0:0:") && passwd.contains("ncps:x:1000:1000:"), "{passwd}");
    assert_eq!(mode(&image.file("/tmp")), 0o1777);
    let bundle = std::fs::read_to_string(image.file(BUNDLE)).expect("text");
    assert!(bundle.matches("BEGIN CERTIFICATE").count() > 100);
}

fn name(entry: io::Result<std::fs::DirEntry>) -> String {
    entry.expect("it is listed").file_name().to_string_lossy().into_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn the_engine_is_told_what_it_was_told_of_the_original() {
    let Some(image) = Image::find() else { return };
    let config = image.config();
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/ncps"]));
    assert!(config["Volumes"]["/storage"].is_object() && config["ExposedPorts"]["8501/tcp"].is_object());
    assert!(config["User"].is_null() && config["Entrypoint"].is_null(), "{config:#}");
}

#[test]
fn every_program_starts_for_everybody() {
    for image in [Image::find(), Image::find_for_aarch64()].into_iter().flatten() {
        for program in ["ncps", "ncps-edge", "ncps-control", "ncps-cli", "dbmate"] {
            starts(program, &image.container());
            starts(program, &image.container().user(1000).read_only());
        }
    }
}

fn starts(program: &str, container: &Container) {
    let args = [&format!("/bin/{program}"), "--version"];
    let output = container.command(&args).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.starts_with(&format!("{program} ")), "{container:?}: {output:?}");
}

/// `packaging/install` with the programs of the image.
#[test]
fn a_package_has_all_that_belongs_to_the_programs() {
    let Some(image) = Image::find() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut install = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/install"));
    install.arg(dir.path()).arg("/opt/ncps").arg(image.file("/bin"));
    succeeds(install);
    let package = dir.path().join("opt/ncps");
    for file in [
        "bin/ncps",
        "bin/dbmate-ncps",
        "share/man/man1/ncps-serve.1",
        "share/man/man1/ncps-edge.1",
        "share/bash-completion/completions/ncps-control",
        "share/zsh/site-functions/_ncps-cli",
        "share/fish/vendor_completions.d/ncps.fish",
        "share/licenses/ncps/LICENSE",
        "share/doc/ncps/OPERATIONS.md",
    ] {
        assert!(package.join(file).metadata().is_ok_and(|file| file.len() > 0), "{file}");
    }
    let units = std::fs::read_dir(package.join("lib/systemd/system")).expect("it is there");
    for unit in units.map(|unit| unit.expect("it is listed").path()) {
        let text = std::fs::read_to_string(&unit).expect("text");
        let starts = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        for program in starts.filter_map(|line| line.split(' ').next()) {
            assert!(dir.path().join(&program[1..]).exists(), "{program} of {}", unit.display());
        }
    }
}

#[tokio::test]
async fn root_serves_from_an_upstream_by_its_name() {
    let Some(scene) = Scene::new().await else { return };
    scene.serves(&scene.container(), &scene.by_name()).await;
    assert!(scene.dir.path().join("storage/store/nix-cache-info").exists(), "it is kept in the volume");
}

#[tokio::test]
async fn user_1000_serves_from_a_volume_that_its_group_may_write() {
    let Some(scene) = Scene::new().await else { return };
    let storage = scene.dir.path().join("storage");
    // As Kubernetes leaves it with `fsGroup: 1000`.
    chown(&storage, Some(0), Some(1000)).expect("root can give it away");
    std::fs::set_permissions(&storage, Permissions::from_mode(0o2775)).expect("it is ours");
    scene.serves(&scene.container().user(1000), &scene.by_name()).await;
    assert!(storage.join("store/nix-cache-info").exists());
}

#[tokio::test]
async fn a_real_nix_copies_from_the_one_for_aarch64() {
    let (Some(image), Some(nix)) = (Image::find_for_aarch64(), Nix::find()) else { return };
    let scene = Scene::of(image).await;
    let mut process = scene.start(&scene.container(), &scene.by_name());
    process.ready(scene.port.addr()).await;
    let ours = ncps_tests::get(scene.port.addr(), "/pubkey").await.expect("it answers").text().await;
    nix.trust(&[PublicKey::parse(ours.trim()).expect("a key")]);
    nix.copy_from(&format!("http://{}", scene.port.addr()), &[scene.fixture.store_path()]).await.ok();
    nix.verify_own(scene.fixture.store_path()).await.ok();
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn names_are_found_by_dns() {
    let Some(scene) = Scene::new().await else { return };
    let server = UdpSocket::bind((Ipv4Addr::new(127, 53, 0, 1), 53)).expect("nobody else has this address");
    std::thread::spawn(move || answer_names(&server));
    let (dir, upstream) = (scene.dir.path(), scene.upstream_flag("http", "only-in-dns.example"));
    std::fs::write(dir.join("hosts"), "127.0.0.1 localhost\n").expect("room");
    std::fs::write(dir.join("resolv.conf"), "nameserver 127.53.0.1\n").expect("room");
    let container = scene.container().volume(&dir.join("resolv.conf"), "/etc/resolv.conf");
    scene.serves(&container, &[upstream]).await;
}

/// Every name has the address 127.0.0.1 and no other, until the tests end.
fn answer_names(server: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((size, client)) = server.recv_from(&mut query) {
        server.send_to(&answer_to(&query[..size]), client).ok();
    }
}

/// The question comes back, and with it an address where one was asked for (RFC 1035, 4.1).
fn answer_to(query: &[u8]) -> Vec<u8> {
    const A: [u8; 2] = [0, 1];
    let end_of_name = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
    let is_asked_for = query[end_of_name..end_of_name + 2] == A;
    let counts = [0, 1, 0, u8::from(is_asked_for), 0, 0, 0, 0];
    let question = &query[12..end_of_name + 4];
    let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
    let answer = if is_asked_for { &address[..] } else { &[] };
    [&query[..2], &[0x81, 0x80], &counts, question, answer].concat()
}

#[tokio::test]
async fn upstreams_are_certified_by_the_bundle() {
    let Some(scene) = Scene::new().await else { return };
    let front = Front::of(&scene.upstream).named("cache.example").start().await;
    let upstream = format!("--upstream-cache=https://cache.example:{}", front.addr().port());
    let bundle = std::fs::read_to_string(scene.image.file(BUNDLE)).expect("text");
    std::fs::write(scene.dir.path().join("bundle"), bundle + &front.authority().root()).expect("room");
    assert_eq!(scene.status(&scene.container(), std::slice::from_ref(&upstream)).await, 502);
    let container = scene.container().volume(&scene.dir.path().join("bundle"), BUNDLE);
    scene.serves(&container, &[upstream]).await;
}

#[tokio::test]
async fn it_knows_time_zones() {
    let Some(scene) = Scene::new().await else { return };
    let four_in_utc = async |container: &Container, args: &[String]| {
        let mut process = scene.start(container, args);
        let said = process.line_with("scrubs on schedule").await;
        process.terminate().await;
        said.contains("T04:00:00Z")
    };
    let schedule = "--scrub-schedule=0 4 * * *".to_owned();
    let zone = "--cache-lru-schedule-timezone=Europe/Berlin".to_owned();
    let args = [schedule, scene.upstream_flag("http", "cache.example")];
    assert!(four_in_utc(&scene.container(), &args).await, "nothing else is said of the zone");
    assert!(!four_in_utc(&scene.container(), &[&args[..], &[zone]].concat()).await);
    // What is local is in files of the image.
    assert!(!four_in_utc(&scene.container().variable("TZ", "Europe/Berlin"), &args).await);
}

#[tokio::test]
async fn the_originals_containers_start() {
    for script in [DOCKER, COMPOSE, KUBERNETES] {
        let Some(scene) = Scene::new().await else { return };
        scene.runs(script).await;
    }
}

struct Scene {
    image: Image,
    dir: TempDir,
    port: ReservedPort,
    upstream: Upstream,
    key: UpstreamKey,
    fixture: Fixture,
}

impl Scene {
    async fn new() -> Option<Scene> {
        Some(Scene::of(Image::find()?).await)
    }

    async fn of(image: Image) -> Scene {
        let key = UpstreamKey::new("cache.nixos.org-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        for volume in ["storage", "nar-temp-dir"] {
            std::fs::create_dir(dir.path().join(volume)).expect("room");
        }
        let hosts = "127.0.0.1 localhost cache.example\n";
        std::fs::write(dir.path().join("hosts"), hosts).expect("room");
        Scene { image, dir, port: ReservedPort::new(), upstream, key, fixture }
    }

    fn container(&self) -> Container {
        let container = self.image.container().volume(&self.dir.path().join("hosts"), "/etc/hosts");
        let container = container.volume(&self.dir.path().join("storage"), "/storage").read_only();
        let container = container.variable("SERVER_ADDR", &self.port.addr().to_string());
        container.variable("CONTROL_HTTP_ADDR", "127.0.0.1:0")
    }

    fn upstream_flag(&self, scheme: &str, host: &str) -> String {
        format!("--upstream-cache={scheme}://{host}:{}", self.upstream.addr().port())
    }

    fn by_name(&self) -> [String; 1] {
        [self.upstream_flag("http", "cache.example")]
    }

    fn start(&self, container: &Container, args: &[String]) -> Process {
        let key = format!("--upstream-public-key={}", self.key.public());
        let line = [&["/bin/ncps".to_owned(), "serve".to_owned(), key], args].concat();
        Process::spawn_command(container.command(&line))
    }

    async fn serves(&self, container: &Container, args: &[String]) {
        self.is_served_by(self.start(container, args)).await;
    }

    async fn is_served_by(&self, mut process: Process) {
        process.ready(self.port.addr()).await;
        for path in ["/healthz", &self.fixture.narinfo_path(), &self.fixture.nar_path()] {
            let mut response = ncps_tests::get(self.port.addr(), path).await.expect("it answers");
            assert_eq!(response.status, 200, "{path}: {:#?}", process.lines());
            response.whole().await;
        }
        assert_eq!(process.terminate().await.code(), Some(0));
    }

    /// What is said of the narinfo.
    async fn status(&self, container: &Container, args: &[String]) -> u16 {
        let mut process = self.start(container, args);
        process.ready(self.port.addr()).await;
        let response = ncps_tests::get(self.port.addr(), &self.fixture.narinfo_path()).await;
        let status = response.expect("it answers").status;
        process.terminate().await;
        status
    }

    /// A script of the original's, line by line: directories are made by another image's shell, the rest is ours.
    async fn runs(&self, script: &str) {
        let script = upstreams_here(&script.replace("\\\n", ""), &self.upstream.url(), &self.key);
        let container = self.container().volume(&self.dir.path().join("nar-temp-dir"), "/nar-temp-dir");
        let mut lines = script.trim().lines().map(|line| {
            let line = line.strip_prefix("docker run kalbasit/ncps ").unwrap_or(line);
            line.strip_prefix("exec ").unwrap_or(line)
        });
        let serve = lines.next_back().expect("a last line");
        for line in lines {
            if line.starts_with("/bin/dbmate") {
                succeeds(container.command(&words(line)));
            } else {
                self.makes_directories(line);
            }
        }
        self.is_served_by(Process::spawn_command(container.command(&words(serve)))).await;
    }

    fn makes_directories(&self, line: &str) {
        let here = |place: &str| self.dir.path().join(place).display().to_string();
        let line = line.replace("/storage", &here("storage")).replace("/nar-temp-dir", &here("nar-temp-dir"));
        let mut sh = Command::new("sh");
        sh.args(["-ec", &line]);
        succeeds(sh);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn succeeds(mut command: Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
