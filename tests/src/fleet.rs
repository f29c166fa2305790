//! A fleet as processes: control and several edges, each with an address and data of its own that it keeps, whatever
//! becomes of its process. Each edge has two links: one to control, one by which the other edges reach it.
//!
//! Knows the flags that place and join the programs, as [`crate::program`] does for one host. The same in one process,
//! with a look at its parts, is [`crate::Cluster`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Cli, Link, Process, Request, ReservedPort, Response, UpstreamKey};

/// What an edge says when it is attached.
const ATTACHED: &str = "\"attached to control\"";

/// Processes that still run are killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    program: PathBuf,
    dir: TempDir,
    control: Option<Process>,
    control_flags: Vec<String>,
    edge_flags: Vec<String>,
    edges: Vec<EdgeProcess>,
}

/// One edge of it.
#[derive(Debug)]
pub struct EdgeProcess {
    name: String,
    data: PathBuf,
    port: ReservedPort,
    /// Its way to control.
    pub link: Link,
    /// The way of the others to it.
    pub front: Link,
    process: Option<Process>,
}

impl Fleet {
    /// Of the test binary `under_test` (see [`crate::Installation`]), with so many edges and one upstream.
    ///
    /// # Panics
    /// If there is no room or no port.
    pub async fn new(under_test: &str, edges: usize, upstream: &str, key: &UpstreamKey) -> Fleet {
        let dir = tempfile::Builder::new().prefix("ncps-fleet-").tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("home")).expect("room for a home");
        let control_flags = vec![
            format!("--cache-data-path={}", dir.path().join("control").display()),
            format!("--control-addr=unix:{}", socket(dir.path()).display()),
            "--control-http-addr=127.0.0.1:0".to_owned(),
            "--cache-hostname=cache.test".to_owned(),
            format!("--upstream-cache={upstream}"),
            format!("--upstream-public-key={}", key.public()),
        ];
        let mut all = Vec::new();
        for edge in 0..edges {
            all.push(EdgeProcess::new(dir.path(), edge).await);
        }
        let program = PathBuf::from(under_test);
        Fleet { program, dir, control: None, control_flags, edge_flags: Vec::new(), edges: all }
    }

    /// One flag more for control.
    #[must_use]
    pub fn control_flag(mut self, flag: impl Into<String>) -> Self {
        self.control_flags.push(flag.into());
        self
    }

    /// One flag more for every edge.
    #[must_use]
    pub fn edge_flag(mut self, flag: impl Into<String>) -> Self {
        self.edge_flags.push(flag.into());
        self
    }

    /// Starts everything and waits until all edges are ready and attached.
    ///
    /// # Panics
    /// If one does not become so.
    #[must_use]
    pub async fn started(mut self) -> Self {
        self.start_control();
        for edge in 0..self.edges.len() {
            self.start_edge(edge);
        }
        for edge in 0..self.edges.len() {
            self.ready(edge).await;
        }
        self
    }

    /// One of its edges.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn at(&self, edge: usize) -> &EdgeProcess {
        &self.edges[edge]
    }

    /// All of them.
    pub fn edges(&self) -> &[EdgeProcess] {
        &self.edges
    }

    /// Starts control, without waiting.
    pub fn start_control(&mut self) {
        self.control = Some(self.spawn("ncps-control", &self.control_flags));
    }

    /// The names of the edges that are attached; none while control does not answer.
    pub async fn attached(&self) -> Vec<String> {
        let cli = Cli::at(&self.program.to_string_lossy(), &socket(self.dir.path()));
        let ran = cli.flag("--output=json").run(&["edges"]).await;
        let said: serde_json::Value = serde_json::from_str(&ran.printed).unwrap_or_default();
        let attached = said["attached"].as_array().into_iter().flatten();
        attached.map(|edge| edge["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// SIGKILL to control.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill_control(&mut self) {
        self.control.take().expect("control runs").kill().await;
    }

    /// SIGTERM to control, which has to end well.
    ///
    /// # Panics
    /// If it does not run, does not end, or not with 0.
    pub async fn terminate_control(&mut self) {
        ends_well(self.control.take().expect("control runs")).await;
    }

    /// Whether control was started and not stopped by us.
    pub const fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// Starts an edge on its data and its address, without waiting.
    pub fn start_edge(&mut self, edge: usize) {
        let EdgeProcess { name, data, port, link, front, .. } = &self.edges[edge];
        let crate::Endpoint::Unix(control) = link.endpoint() else { unreachable!("control has a socket") };
        let own = [
            format!("--cache-data-path={}", data.display()),
            format!("--server-addr={}", port.addr()),
            format!("--control-url=unix:{}", control.display()),
            format!("--edge-name={name}"),
            format!("--edge-url=http://{}", front.addr()),
        ];
        let flags: Vec<_> = own.into_iter().chain(self.edge_flags.iter().cloned()).collect();
        self.edges[edge].process = Some(self.spawn("ncps-edge", &flags));
    }

    /// Waits until an edge is ready and attached.
    ///
    /// # Panics
    /// If it does not become so.
    pub async fn ready(&mut self, edge: usize) {
        let addr = self.edges[edge].addr();
        let process = self.edges[edge].process.as_mut().expect("it runs");
        process.ready(addr).await;
        process.line_with(ATTACHED).await;
    }

    /// SIGKILL to an edge.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill_edge(&mut self, edge: usize) {
        self.take_edge(edge).kill().await;
    }

    /// SIGTERM to an edge, which has to end well.
    ///
    /// # Panics
    /// If it does not run, does not end, or not with 0.
    pub async fn terminate_edge(&mut self, edge: usize) {
        ends_well(self.take_edge(edge)).await;
    }

    /// Stops all that runs, edges first. Each has to end well.
    ///
    /// # Panics
    /// As [`Fleet::terminate_edge`].
    pub async fn end(mut self) {
        for process in self.edges.iter_mut().filter_map(|edge| edge.process.take()).chain(self.control.take())
        {
            ends_well(process).await;
        }
    }

    fn take_edge(&mut self, edge: usize) -> Process {
        self.edges[edge].process.take().expect("the edge runs")
    }

    fn spawn(&self, program: &str, flags: &[String]) -> Process {
        let args: Vec<_> = std::iter::once(program.to_owned()).chain(flags.iter().cloned()).collect();
        let home = self.dir.path().join("home");
        Process::spawn(
            &self.program,
            &args,
            &[("HOME", &home.to_string_lossy()), ("CACHE_RECOMPRESS", "off")],
        )
    }
}

impl EdgeProcess {
    async fn new(dir: &Path, edge: usize) -> EdgeProcess {
        let name = format!("edge-{edge}");
        let (port, way) = (ReservedPort::new(), dir.join(format!("{name}.sock")));
        EdgeProcess {
            data: dir.join(&name),
            link: Link::unix(&way, socket(dir).as_path()).await,
            front: Link::tcp(port.addr()).await,
            port,
            name,
            process: None,
        }
    }

    /// Where Nix clients are served; it stays the same over restarts.
    pub const fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Whether it was started and not stopped by us.
    pub const fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// A GET whose body is not read yet.
    ///
    /// # Panics
    /// If it is not answered.
    pub async fn get(&self, path: &str) -> Response {
        Request::get(path).send(self.addr()).await.expect("the edge answers")
    }

    /// What its process has written.
    pub fn lines(&self) -> Vec<String> {
        self.process.as_ref().map(Process::lines).unwrap_or_default()
    }

    /// Whether a NAR file lies in its store.
    pub fn stores(&self, nar_path: &str) -> bool {
        self.data.join("store").join(nar_path.trim_start_matches('/')).exists()
    }
}

async fn ends_well(mut process: Process) {
    process.signal(Signal::TERM);
    let status = process.exit().await;
    assert_eq!(status.code(), Some(0), "wrote:\n{}", process.lines().join("\n"));
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}
