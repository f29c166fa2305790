//! One edge of a cluster: what is asked of it, what lies on its disk, and its own life. With others it has an address,
//! a data path, and links of its own, each of which can be broken: one to control, one by which the other edges reach it.
//!
//! Absent: kill -9, which needs a process (see [`crate::program`]). [`EdgeNode::kill`] is as near as one process can
//! come: nobody hears another word of it, and nothing that runs is finished.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ncps_edge::compose::{Edge, compose};
use ncps_edge::config::{ControlUrl, EdgeConfig};
use ncps_nix::{CacheInfo, NarInfo, PublicKey};
use ncps_runtime::telemetry::Telemetry;

use super::process::{Plane, begun, running};
use crate::{Fixture, Link, Outcome, Request, ReservedPort, Response, eventually};

/// An edge. When it is stopped, its parts are those of its last run.
pub struct EdgeNode {
    /// Where Nix clients are served; it stays the same over restarts.
    pub addr: SocketAddr,
    /// The edge's parts, for counters.
    pub edge: Edge,
    /// Breaks and mends its way to control, in split mode.
    pub link: Option<Link>,
    /// Breaks and mends the way of the other edges to it: its `--edge-url`. `None` where it is alone.
    pub front: Option<Link>,
    /// Its metrics, in split mode.
    pub telemetry: Telemetry,
    pub(super) config: EdgeConfig,
    /// Its process. `None` when it is stopped, and in combined mode, where it is control's.
    pub(super) plane: Option<Plane>,
    pub(super) deadline: Duration,
    pub(super) prometheus: bool,
    /// Keeps its address while it is stopped.
    pub(super) port: Option<ReservedPort>,
}

/// What a node begins with.
pub(super) struct Start {
    pub(super) config: EdgeConfig,
    pub(super) link: Link,
    pub(super) front: Option<Link>,
    pub(super) port: Option<ReservedPort>,
    pub(super) deadline: Duration,
    pub(super) prometheus: bool,
}

/// Metrics for Prometheus, or none.
pub(super) fn telemetry(prometheus: bool) -> Telemetry {
    if prometheus { Telemetry::scraped().expect("metrics for Prometheus") } else { Telemetry::off() }
}

impl EdgeNode {
    /// An edge in a process of its own, which is not ready yet.
    pub(super) async fn launched(start: Start) -> EdgeNode {
        let Start { config, link, front, port, deadline, prometheus } = start;
        let telemetry = telemetry(prometheus);
        let (plane, edge) = launch(&config, &link, deadline, &telemetry).await;
        EdgeNode {
            addr: edge.addr,
            edge,
            link: Some(link),
            front,
            telemetry,
            config,
            plane: Some(plane),
            deadline,
            prometheus,
            port,
        }
    }

    /// Its `--edge-name`.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Stops it as SIGTERM does, and checks that nothing is left. Its links stay as they are.
    ///
    /// # Panics
    /// If it does not run, or shares its process with control.
    pub async fn stop(&mut self) {
        self.take_plane().stop().await;
        self.nothing_is_spooled();
    }

    /// Breaks its links, then ends it without a grace: nobody hears of it. See the module.
    ///
    /// # Panics
    /// As [`EdgeNode::stop`].
    pub async fn kill(&mut self) {
        for link in [&self.link, &self.front].into_iter().flatten() {
            link.refuse().await;
        }
        self.take_plane().stop_now().await;
    }

    /// Starts it again on its data, its links whole, and waits until it is ready.
    ///
    /// # Panics
    /// If it runs already, or shares its process with control.
    pub async fn start(&mut self) {
        for link in [&self.link, &self.front].into_iter().flatten() {
            link.mend().await;
        }
        self.launch().await;
        self.ready().await;
    }

    /// Starts it again on its data, its links as they are, without waiting.
    ///
    /// # Panics
    /// As [`EdgeNode::start`].
    pub async fn launch(&mut self) {
        assert!(self.plane.is_none(), "{} runs already", self.name());
        if let Some(port) = &self.port {
            port.is_left().await;
        }
        self.telemetry = telemetry(self.prometheus);
        let link = self.link.as_ref().expect("an edge in a process of its own has a link");
        let (plane, edge) = launch(&self.config, link, self.deadline, &self.telemetry).await;
        assert_eq!(edge.addr, self.addr, "it keeps its address");
        (self.plane, self.edge) = (Some(plane), edge);
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        self.plane.as_ref().expect("it runs in a process of its own").ready().await;
    }

    /// Whether its `/readyz` says so.
    pub fn is_ready(&self) -> bool {
        self.plane.as_ref().is_some_and(|plane| plane.life.is_ready())
    }

    /// Another configuration, from its next start on.
    ///
    /// # Panics
    /// If it runs.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut EdgeConfig)) {
        assert!(self.plane.is_none(), "{} runs", self.name());
        change(&mut self.config);
    }

    /// Removes all that is on its disk, the state too: it comes back as a new instance.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&mut self) {
        assert!(self.plane.is_none(), "{} runs", self.name());
        std::fs::remove_dir_all(&self.config.data_path).expect("removed");
    }

    fn take_plane(&mut self) -> Plane {
        self.plane.take().expect("it runs, in a process of its own")
    }

    /// Where nothing runs any more: a narinfo that is being written passes through the spool, too.
    pub(super) fn nothing_is_spooled(&self) {
        let left = self.edge.store.spool_files().expect("listed");
        assert_eq!(left, 0, "spool files are left at {}", self.name());
    }

    /// A GET whose body is not read yet.
    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path)).await
    }

    /// A HEAD.
    pub async fn head(&self, path: &str) -> Response {
        self.send(Request::head(path)).await
    }

    /// Any request, on a connection of its own.
    pub async fn send(&self, request: Request) -> Response {
        request.send(self.addr).await.expect("the edge answers")
    }

    /// A GET to its end.
    pub async fn fetch(&self, path: &str) -> (u16, Outcome) {
        let mut response = self.get(path).await;
        (response.status, response.outcome().await)
    }

    /// The narinfo that is served for a fixture.
    pub async fn narinfo(&self, fixture: &Fixture) -> NarInfo {
        let mut response = self.get(&fixture.narinfo_path()).await;
        assert_eq!(response.status, 200, "narinfo of {}", fixture.narinfo.store_path);
        NarInfo::parse(&response.whole().await).expect("what we serve parses strictly")
    }

    /// The key that it signs with, as clients learn it.
    pub async fn public_key(&self) -> PublicKey {
        let text = self.get("/pubkey").await.text().await;
        PublicKey::parse(text.trim()).expect("a public key")
    }

    /// What it says of itself.
    pub async fn cache_info(&self) -> CacheInfo {
        CacheInfo::parse(self.get("/nix-cache-info").await.text().await).expect("it parses")
    }

    /// The URL for Nix.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The edge's store directory.
    pub fn store_dir(&self) -> PathBuf {
        self.config.data_path.join("store")
    }

    /// Whether a NAR file lies in the store.
    pub fn stores(&self, nar_path: &str) -> bool {
        self.store_dir().join(nar_path.trim_start_matches('/')).exists()
    }

    /// Files in the store's `nar/`.
    pub fn stored_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store_dir().join("nar")).expect("the store is there");
        let names = entries.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned());
        names.collect()
    }

    /// Waits until no transfer runs at this edge.
    pub async fn quiet(&self) {
        let quiet = async || {
            self.edge.engine.running() + self.edge.lookups.running() + self.edge.objects.running() == 0
        };
        eventually("nothing runs", quiet).await;
    }
}

async fn launch(
    config: &EdgeConfig,
    link: &Link,
    deadline: Duration,
    telemetry: &Telemetry,
) -> (Plane, Edge) {
    let crate::Endpoint::Unix(socket) = link.endpoint() else { unreachable!("control has a socket here") };
    let remote = ncps_edge::remote::connect(&ControlUrl::Unix(socket).into(), deadline).expect("a channel");
    let (life, tasks) = begun();
    let edge = compose(config.clone(), remote, &tasks, telemetry).await.expect("the edge starts");
    (running(life, tasks), edge)
}
