//! The Compose files: their command lines are understood, and where there is an image they start it as they say.

use std::path::PathBuf;

use ncps_tests::compose::{Service, services};
use ncps_tests::{
    Container, Fixture, Host, Image, Link, Network, Process, Upstream, UpstreamKey, eventually,
};
use tempfile::TempDir;

use crate::original::upstreams_here;
use crate::understood::is_understood;

const FILES: [&str; 2] = ["compose.yaml", "compose.fleet.yaml"];

fn services_of(file: &str) -> Vec<Service> {
    services(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/container").join(file))
}

#[test]
fn their_command_lines_are_understood() {
    for service in FILES.into_iter().flat_map(services_of) {
        is_understood(&service.command, &[("STATE_DIRECTORY", "/storage")]);
        if let Some(health) = service.health() {
            is_understood(health, &[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_starts_and_serves() {
    let Some(mut up) = Up::start("compose.yaml").await else { return };
    up.serves("ncps").await;
    up.is_well("ncps").await;
    up.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_starts_and_fetches_once() {
    let Some(mut up) = Up::start("compose.fleet.yaml").await else { return };
    up.is_well("control").await;
    for edge in ["edge-1", "edge-2"] {
        up.serves(edge).await;
    }
    assert_eq!(up.upstream.count("GET", &up.fixture.nar_path()), 1, "the second one had it of the first");
    up.down().await;
}

/// A file's services, each on a host of its own, as an engine makes them.
struct Up {
    running: Vec<Running>,
    upstream: Upstream,
    fixture: Fixture,
    dir: TempDir,
    _towards_upstream: Link,
    _upstream_host: Host,
}

struct Running {
    service: Service,
    container: Container,
    host: Host,
    /// Reaches its port from here.
    link: Link,
    process: Process,
}

impl Up {
    /// `None`, and a note, where there is no image, or no network for it.
    async fn start(file: &str) -> Option<Up> {
        let (image, network) = (Image::find()?, Network::find()?);
        let key = UpstreamKey::new("cache.nixos.org-1");
        let fixture = Fixture::new("hello-1.0").size(500_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let upstream_host = network.host();
        let towards = Link::tcp_on(&upstream_host, upstream.addr()).await;
        let url = format!("http://{}", towards.addr());
        let dir = tempfile::tempdir().expect("a temporary directory");
        let services: Vec<_> =
            services_of(file).into_iter().map(|service| (service, network.host())).collect();
        let names = services.iter().map(|(service, host)| format!("{} {}\n", host.addr(), service.name));
        let hosts = format!("127.0.0.1 localhost\n{}", names.collect::<String>());
        std::fs::write(dir.path().join("hosts"), hosts).expect("room");
        let mut running = Vec::new();
        for (mut service, host) in services {
            service.command.iter_mut().for_each(|arg| *arg = upstreams_here(arg, &url, &key));
            let container = container(&image, &service, &dir);
            let link = Link::into_host(&host, 8501).await;
            let process = Process::spawn_command(container.command_on(&host, &service.command));
            running.push(Running { service, container, host, link, process });
        }
        Some(Up {
            running,
            upstream,
            fixture,
            dir,
            _towards_upstream: towards,
            _upstream_host: upstream_host,
        })
    }

    fn named(&mut self, name: &str) -> &mut Running {
        self.running.iter_mut().find(|running| running.service.name == name).expect("there is such a service")
    }

    async fn serves(&mut self, name: &str) {
        let paths = [self.fixture.narinfo_path(), self.fixture.nar_path()];
        let running = self.named(name);
        assert!(running.service.ports.iter().all(|port| port.ends_with(":8501")), "{name}");
        running.process.ready(running.link.addr()).await;
        for path in paths {
            let mut response = ncps_tests::get(running.link.addr(), &path).await.expect("it answers");
            assert_eq!(response.status, 200, "{path} of {name}");
            response.whole().await;
        }
    }

    /// Its own test says so.
    async fn is_well(&mut self, name: &str) {
        let Running { service, container, host, .. } = self.named(name);
        let test = service.health().expect("it has a test").to_vec();
        let is_well = async || {
            let output = container.command_on(host, &test).output().expect("it starts");
            output.status.success()
        };
        eventually("it says that it is well", is_well).await;
    }

    async fn down(mut self) {
        for running in self.running.iter_mut().rev() {
            let name = &running.service.name;
            assert_eq!(running.process.terminate().await.code(), Some(0), "{name}");
        }
        let kept = std::fs::read_dir(self.dir.path()).expect("it is there").count();
        assert!(kept > 1, "volumes are kept");
    }
}

/// Each volume is a directory of the same name, whoever has it, and what is in memory one of the service.
fn container(image: &Image, service: &Service, dir: &TempDir) -> Container {
    let mut container = image.container().volume(&dir.path().join("hosts"), "/etc/hosts");
    let volumes = service.volumes.iter().map(|volume| volume.split_once(':').expect("a name and a place"));
    let volumes = volumes.map(|(name, place)| (name.to_owned(), place.to_owned()));
    let own = service
        .tmpfs
        .iter()
        .map(|place| (format!("{}{}", service.name, place.replace('/', "-")), place.clone()));
    for (name, place) in volumes.chain(own) {
        let ours = dir.path().join(name);
        std::fs::create_dir_all(&ours).expect("room");
        container = container.volume(&ours, &place);
    }
    if service.read_only { container.read_only() } else { container }
}
