//! Control at a port that asks for tokens, with an honest edge before an upstream, and others that flood it. Here stands
//! what has to hold whatever they do: the edge serves on, and control's memory and files are bounded.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ncps_runtime::files::raise_file_limit;
use ncps_tests::scrape::Scrape;
use ncps_tests::{Mode, Process, ReservedPort, Upstream, UpstreamKey, eventually, get, in_time};

use crate::control_port::{ATTACHED, Fleet, token_flag};
use crate::scene::plain;

/// A lookup.
pub(crate) const NARINFO: &str = "/ncps.v1.ControlPlane/Narinfo";
pub(crate) const ATTACH: &str = "/ncps.v1.ControlPlane/Attach";

/// Between two looks at what control takes.
const LOOK: Duration = Duration::from_millis(20);

/// All of it.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) control: Process,
    pub(crate) edge: Process,
    upstream: Upstream,
    key: UpstreamKey,
    clients: ReservedPort,
    metrics: SocketAddr,
    /// Of the honest edge. Whoever has stolen it is let in as well.
    pub(crate) token: PathBuf,
    asked: AtomicU64,
    peak: AtomicU64,
}

impl Scene {
    pub(crate) async fn start() -> Scene {
        Scene::start_through(|direct| direct).await
    }

    /// The edge reaches control through somebody, who is told where control is.
    pub(crate) async fn start_through(through: impl FnOnce(SocketAddr) -> SocketAddr) -> Scene {
        // Whoever floods needs files, too.
        raise_file_limit();
        let (upstream, key, fleet) =
            (Upstream::start().await, UpstreamKey::new("upstream-1"), Fleet::new(Mode::Split));
        let flags = [
            fleet.addr_flag(),
            "--prometheus-enabled".to_owned(),
            format!("--upstream-cache={}", upstream.url()),
            format!("--upstream-public-key={}", key.public()),
        ];
        let mut control = fleet.control(&flags);
        control.line_with("\"ready\"").await;
        let metrics = metrics_addr(&control.line_with("control's HTTP port").await);
        let token = fleet.token("honest", &["--scope=edge"]).await;
        // With one that stays a revoked token opens nothing, also at this port of the loopback.
        fleet.token("stays", &["--scope=edge"]).await;
        let clients = ReservedPort::new();
        let url = format!("http://{}", through(fleet.addr()));
        let mut edge = fleet.edge_at(&clients.addr().to_string(), "honest", &url, &[token_flag(&token)]);
        edge.line_with(ATTACHED).await;
        edge.ready(clients.addr()).await;
        let (asked, peak) = (AtomicU64::new(0), AtomicU64::new(0));
        Scene { fleet, control, edge, upstream, key, clients, metrics, token, asked, peak }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.fleet.addr()
    }

    /// The text of the token.
    pub(crate) fn secret(&self) -> String {
        std::fs::read_to_string(&self.token).expect("there").trim().to_owned()
    }

    /// A path that nobody asked for yet is served by the honest edge, which asks control for it.
    pub(crate) async fn serves(&self) {
        let fixture = plain(10_000).seed(self.asked.fetch_add(1, Ordering::Relaxed)).build(&self.key);
        self.upstream.add(&fixture);
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            let asked = in_time("an answer of the honest edge", get(self.clients.addr(), &path)).await;
            let mut response = asked.expect("answered");
            assert_eq!(response.status, 200, "{path}");
            response.outcome().await.whole();
        }
    }

    /// The same again and again, for as long as somebody does what he does. Control's memory is watched meanwhile.
    pub(crate) async fn serves_during<T>(&self, flood: impl Future<Output = T>) -> T {
        let serves = async {
            loop {
                self.serves().await;
            }
        };
        let watches = async {
            loop {
                self.peak.fetch_max(self.memory(), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            did = flood => did,
            () = serves => unreachable!("it has no end"),
            () = watches => unreachable!("nor has this"),
        }
    }

    /// How many were refused for this reason.
    async fn refused(&self, reason: &str) -> f64 {
        let mut response = get(self.metrics, "/metrics").await.expect("answered");
        let scrape = Scrape::parse(&response.text().await);
        scrape.number("ncps_refused_edges_total", &[("reason", reason)])
    }

    /// Waits until at least so many were.
    pub(crate) async fn counts(&self, reason: &str, times: usize) {
        let what = format!("{times} refusals for the reason {reason}");
        eventually(&what, async || self.refused(reason).await >= times as f64).await;
    }

    /// What control's own memory takes, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.control.anonymous_memory().expect("it runs")
    }

    /// The most that it took beyond what it took `before`, as far as it was watched, in bytes.
    pub(crate) fn grown(&self, before: u64) -> u64 {
        self.peak.load(Ordering::Relaxed).max(self.memory()).saturating_sub(before)
    }

    /// Control's files and sockets.
    pub(crate) fn files(&self) -> usize {
        self.control.open_files().expect("it runs")
    }

    /// After all of it the edge is still there and served, by the same control.
    pub(crate) async fn end(mut self) {
        self.serves().await;
        assert_eq!(self.edge.terminate().await.code(), Some(0));
        assert_eq!(self.control.terminate().await.code(), Some(0));
        let said = self.control.lines().concat();
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// Where it says that it listens.
fn metrics_addr(line: &str) -> SocketAddr {
    let line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let addr = line.pointer("/fields/addr").or_else(|| line.get("addr")).and_then(|addr| addr.as_str());
    addr.and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"))
}
