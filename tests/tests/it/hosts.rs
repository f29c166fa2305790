//! A fleet on several hosts: control, three edges, two upstreams and real Nix clients, each in a network namespace of its
//! own, over TLS and with a token. Cables are pulled out, routes are lost, links are narrow and lose things, and every client
//! that can reach its edge gets what it asks for. Left out, with a note, where namespaces or Nix are not to be had.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use ncps_nix::StorePath;
use ncps_tests::{
    Authority, Cli, Fixture, Gate, Host, Link, Loss, Network, Nix, Process, Rule, Upstream, UpstreamKey,
    eventually,
};
use tempfile::TempDir;

use crate::processes::UNDER_TEST;
use crate::scene::plain;

const EDGES: usize = 3;
const LARGE: u64 = 4 << 20;
/// Half of a round trip.
const TO_UPSTREAM: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_three_edges_share_what_was_fetched_once() {
    let Some(site) = Site::start().await else { return };
    let [first, second] = [0, 1].map(|upstream| {
        let fixture = plain(LARGE).seed(upstream).build(&site.key);
        site.sources[upstream as usize].upstream.add(&fixture);
        fixture
    });
    let clients: Vec<_> = (0..EDGES).map(|edge| site.client(edge)).collect();
    let paths = [first.store_path(), second.store_path()];
    let copies = clients.iter().enumerate().map(|(edge, nix)| site.copies(nix, edge, &paths));
    join_all(copies).await;
    assert_eq!((site.fetches(&first), site.fetches(&second)), (1, 1));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_whose_cable_is_pulled_out_while_it_fetches_costs_one_fetch_more() {
    let Some(site) = Site::start().await else { return };
    let fixture = plain(LARGE).build(&site.key);
    let (gate, source) = (Gate::new(), &site.sources[0].upstream);
    source.add(&fixture);
    source.script(Rule::on(&fixture.nar_path()).pause_at(LARGE * 3 / 10, &gate));
    let clients: Vec<_> = (0..EDGES).map(|edge| site.client(edge)).collect();
    let path = [fixture.store_path()];
    {
        let cut_off = site.copies(&clients[0], 0, &path);
        tokio::pin!(cut_off);
        tokio::select! {
            () = &mut cut_off => panic!("it came to its end"),
            () = gate.reached() => {}
        }
        let others = join_all([1, 2].map(|edge| site.copies(&clients[edge], edge, &path)));
        let strike = async {
            eventually("they follow", async || [1, 2].iter().all(|edge| site.spools(*edge))).await;
            site.edges[0].host.unplug();
            gate.open();
        };
        tokio::select! {
            // Nobody tells it that its edge is out of reach.
            () = &mut cut_off => panic!("its edge can't be reached"),
            _ = async { tokio::join!(others, strike) } => {}
        }
    }
    assert_eq!(site.fetches(&fixture), 2, "one of the others went on");
    site.edges[0].host.plug();
    site.all_attached().await;
    site.copies(&clients[0], 0, &path).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_served_without_control_and_past_lost_routes() {
    let Some(site) = Site::start().await else { return };
    let [alone, elsewhere] = [0, 1].map(|seed| plain(LARGE).seed(seed).build(&site.key));
    site.sources.iter().for_each(|source| source.upstream.add(&alone));
    site.sources.iter().for_each(|source| source.upstream.add(&elsewhere));

    site.control_host.unplug();
    let nix = site.client(1);
    site.copies(&nix, 1, &[alone.store_path()]).await;
    site.control_host.plug();
    site.all_attached().await;

    site.edges[2].host.loses(&site.sources[0].host);
    let nix = site.client(2);
    site.copies(&nix, 2, &[elsewhere.store_path()]).await;
    assert_eq!(site.sources[0].upstream.count("GET", &elsewhere.nar_path()), 0);
    // One that has no way to the only edge that holds it.
    site.edges[1].host.loses(&site.edges[2].host);
    let nix = site.client(1);
    site.copies(&nix, 1, &[elsewhere.store_path()]).await;
    site.edges[1].host.finds(&site.edges[2].host);
    site.edges[2].host.finds(&site.sources[0].host);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_copy_closures_over_links_that_are_narrow_and_lose_things() {
    const NARROW: u64 = 8 << 20;
    const LOSS: Loss = Loss { late: 30, breaks: 6, silent: 2 };
    let Some(site) = Site::start_over_links().await else { return };
    let seed = seed();
    let last = plain(LARGE / 2).seed(1).build(&site.key);
    let references = [last.store_path().clone()];
    let first = plain(LARGE / 2).seed(2).references(&references).build(&site.key);
    for (source, fixture) in site.sources.iter().zip([&first, &last]) {
        source.upstream.add(fixture);
    }
    for (link, n) in site.links().zip(0..) {
        link.throttle(NARROW);
        link.lose(LOSS, seed + n);
    }
    let clients: Vec<_> = (0..2 * EDGES).map(|n| (n % EDGES, site.client(n % EDGES))).collect();
    // Its reference comes with it.
    let paths = [first.store_path()];
    let copies = clients.iter().map(|(edge, nix)| site.copies(nix, *edge, &paths));
    join_all(copies).await;
    for (_, nix) in &clients {
        nix.verify_own(last.store_path()).await.ok();
    }
    // What was lost costs a fetch at most, and where control is not heard each edge may go by itself.
    let lost: usize = site.links().map(Link::lost).sum();
    let fetches = site.fetches(&first) + site.fetches(&last);
    println!("{fetches} fetches of 2 files, {lost} connections were lost");
    assert!(fetches <= 2 * EDGES + lost, "{fetches} fetches, and {lost} connections were lost");
    for link in site.links() {
        link.mend().await;
        link.cut();
    }
    site.all_attached().await;
    site.end().await;
}

/// Another order each time; `NCPS_SEED` repeats one.
fn seed() -> u64 {
    let given = std::env::var("NCPS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) << 8);
    println!("repeated by NCPS_SEED={seed}");
    seed
}

/// All of it. Processes end before their hosts are gone.
struct Site {
    control: Process,
    edges: Vec<Edge>,
    sources: Vec<Source>,
    /// The ways to control and to the edges, where there are others than cables.
    links: Vec<Link>,
    control_host: Host,
    network: Network,
    key: UpstreamKey,
    dir: TempDir,
}

struct Edge {
    process: Process,
    host: Host,
    data: PathBuf,
}

/// An upstream that is reached at its host alone.
struct Source {
    upstream: Upstream,
    link: Link,
    host: Host,
}

impl Site {
    /// `None` where it can't be.
    async fn start() -> Option<Site> {
        Site::start_with(false).await
    }

    /// With a link before control and before each edge, for the others.
    async fn start_over_links() -> Option<Site> {
        Site::start_with(true).await
    }

    async fn start_with(over_links: bool) -> Option<Site> {
        let (network, _) = (Network::find()?, Nix::find()?);
        let (dir, key) = (TempDir::new().expect("a directory"), UpstreamKey::new("upstream-1"));
        for part in ["run", "home"] {
            std::fs::create_dir(dir.path().join(part)).expect("room");
        }
        let sources = join_all((0..2).map(|_| Source::start(network.host()))).await;
        let control_host = network.host();
        let control = start_control(&control_host, &sources, &key, &dir).await;
        let mut links = Vec::new();
        let to_control = way_to(&control_host, 8502, over_links, &mut links).await;
        let mut edges = Vec::new();
        for edge in 0..EDGES {
            let host = network.host();
            let front = way_to(&host, 8501, over_links, &mut links).await;
            edges.push(Edge::start(edge, host, front, to_control, &dir));
        }
        let mut site = Site { control, edges, sources, links, control_host, network, key, dir };
        for edge in &mut site.edges {
            edge.process.line_with("\"ready\"").await;
        }
        site.all_attached().await;
        Some(site)
    }

    async fn all_attached(&self) {
        let cli = Cli::at(UNDER_TEST, &self.dir.path().join("run/control.sock")).flag("--output=json");
        let attached = async || {
            let said: serde_json::Value =
                serde_json::from_str(&cli.run(&["edges"]).await.printed).unwrap_or_default();
            said["attached"].as_array().map_or(0, Vec::len)
        };
        eventually("all are attached", async || attached().await == EDGES).await;
    }

    /// All that there are.
    fn links(&self) -> impl Iterator<Item = &Link> {
        self.sources.iter().map(|source| &source.link).chain(&self.links)
    }

    /// A machine on a host of its own, which trusts the upstreams: while control is away there is no other signature.
    fn client(&self, edge: usize) -> Nix {
        let nix = Nix::find().expect("there was one a moment ago").on(self.network.host());
        nix.trust(&[self.key.public()]);
        nix.substituters(&[self.edges[edge].url()]);
        nix
    }

    async fn copies(&self, nix: &Nix, edge: usize, paths: &[&StorePath]) {
        nix.copy_from(&self.edges[edge].url(), paths).await.ok();
        for path in paths {
            nix.verify_own(path).await.ok();
        }
    }

    fn fetches(&self, fixture: &Fixture) -> usize {
        self.sources.iter().map(|source| source.upstream.count("GET", &fixture.nar_path())).sum()
    }

    /// Whether it is taking a file in.
    fn spools(&self, edge: usize) -> bool {
        std::fs::read_dir(self.edges[edge].data.join("spool")).is_ok_and(|mut files| files.next().is_some())
    }

    async fn end(mut self) {
        for edge in &mut self.edges {
            assert_eq!(edge.process.terminate().await.code(), Some(0));
        }
        assert_eq!(self.control.terminate().await.code(), Some(0));
    }
}

impl Source {
    async fn start(host: Host) -> Source {
        let upstream = Upstream::start().await;
        let link = Link::tcp_on(&host, upstream.addr()).await;
        link.delay(TO_UPSTREAM);
        Source { upstream, link, host }
    }
}

/// Where others find what listens at a port of a host.
async fn way_to(host: &Host, port: u16, over_link: bool, links: &mut Vec<Link>) -> SocketAddr {
    if !over_link {
        return (host.addr(), port).into();
    }
    let link = Link::before(host, port).await;
    let addr = link.addr();
    links.push(link);
    addr
}

async fn start_control(host: &Host, sources: &[Source], key: &UpstreamKey, dir: &TempDir) -> Process {
    let at = |name: &str| dir.path().join(name).display().to_string();
    let authority = Authority::new();
    std::fs::write(at("ca.pem"), authority.root()).expect("room");
    std::fs::write(at("identity.pem"), authority.server_identity(&host.addr().to_string())).expect("room");
    let mut command = host.command(UNDER_TEST);
    command.arg("ncps-control").env("HOME", at("home")).env("RUNTIME_DIRECTORY", at("run"));
    command.arg(format!("--cache-data-path={}", at("control")));
    command.arg(format!("--control-addr={}:8502", host.addr()));
    command.arg(format!("--control-tls-cert={}", at("identity.pem")));
    command.arg(format!("--control-tls-key={}", at("identity.pem")));
    command.args([
        "--control-http-addr=127.0.0.1:0",
        "--cache-hostname=cache.test",
        "--upstream-idle-timeout=4s",
    ]);
    command.args(sources.iter().map(|source| format!("--upstream-cache=http://{}", source.link.addr())));
    command.arg(format!("--upstream-public-key={}", key.public()));
    let mut control = Process::spawn_command(command);
    control.line_with("\"ready\"").await;
    let cli = Cli::at(UNDER_TEST, &dir.path().join("run/control.sock"));
    cli.ok(&["token", "create", "edges", "--scope=edge", &format!("--to={}", at("token"))]).await;
    control
}

impl Edge {
    fn start(edge: usize, host: Host, front: SocketAddr, control: SocketAddr, dir: &TempDir) -> Edge {
        let at = |name: &str| dir.path().join(name).display().to_string();
        let data = dir.path().join(format!("edge-{edge}"));
        let mut command = host.command(UNDER_TEST);
        command.arg("ncps-edge").env("HOME", at("home"));
        command.arg(format!("--cache-data-path={}", data.display()));
        command.arg(format!("--server-addr={}:8501", host.addr()));
        command.arg(format!("--edge-url=http://{front}"));
        command.arg(format!("--edge-name=edge-{edge}"));
        command.arg(format!("--control-url=https://{control}"));
        command.arg(format!("--control-ca-file={}", at("ca.pem")));
        command.arg(format!("--control-token-file={}", at("token")));
        Edge { process: Process::spawn_command(command), host, data }
    }

    fn url(&self) -> String {
        format!("http://{}:8501", self.host.addr())
    }
}
