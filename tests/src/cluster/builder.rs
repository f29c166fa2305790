//! A cluster to be: its upstreams, settings and edges, and how it is put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ncps_control::config::{ControlAddr, ControlConfig, KeySource};
use ncps_control::{Admission, Schedule, Scrubs, Zone};
use ncps_edge::config::EdgeConfig;
use ncps_nix::Sha256Hash;
use ncps_proto::{EdgeSettings, Scope, Token, UpstreamSettings, Writing};
use ncps_runtime::config::ListenAddr;
use ncps_runtime::telemetry::Telemetry;
use tempfile::TempDir;

use super::control_node::Running;
use super::node::{self, EdgeNode, Start};
use super::process::{begun, running};
use super::settings::{an_edge, any_port, default_settings};
use super::{Cluster, Mode};
use crate::zoo::Pen;
use crate::{Link, ReservedPort, Upstream, UpstreamKey};

/// Machines that run tests are slow at times: here control has longer than an edge gives it in real life.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// A change for one edge of many.
type EachEdge = (usize, Box<dyn Fn(&mut EdgeConfig) + Send + Sync>);

/// A cluster to be.
pub struct ClusterBuilder {
    mode: Mode,
    settings: EdgeSettings,
    negative_ttl: Duration,
    eviction_schedule: Option<Schedule>,
    scrubs: Scrubs,
    admission: Admission,
    sign: bool,
    data: Arc<TempDir>,
    deadline: Duration,
    edge: EdgeConfig,
    prometheus: bool,
    edges: usize,
    each: Vec<EachEdge>,
}

impl ClusterBuilder {
    /// A cluster with nothing upstream.
    pub fn new(mode: Mode) -> ClusterBuilder {
        ClusterBuilder {
            mode,
            settings: default_settings(),
            negative_ttl: Duration::from_secs(60),
            eviction_schedule: None,
            scrubs: Scrubs::default(),
            admission: Admission::default(),
            sign: true,
            data: Arc::new(TempDir::new().expect("a temporary directory")),
            deadline: CONTROL_DEADLINE,
            edge: an_edge(),
            prometheus: false,
            edges: 1,
            each: Vec::new(),
        }
    }

    /// One upstream more, after those before.
    #[must_use]
    pub fn upstream(self, upstream: &Upstream) -> Self {
        self.upstream_url(&upstream.url())
    }

    /// The same by URL.
    #[must_use]
    pub fn upstream_url(self, url: &str) -> Self {
        self.upstream_with(url, |_| {})
    }

    /// The same with more to say of it: a login, that it is optional.
    #[must_use]
    pub fn upstream_with(mut self, url: &str, change: impl FnOnce(&mut UpstreamSettings)) -> Self {
        let priority = i32::try_from(self.settings.upstreams.len()).unwrap_or(i32::MAX);
        let mut upstream = UpstreamSettings::plain(url, priority);
        change(&mut upstream);
        self.settings.upstreams.push(upstream);
        self
    }

    /// A cache of some kind, with the login that it wants.
    #[must_use]
    pub fn pen(self, pen: &Pen) -> Self {
        self.upstream_with(&pen.url(), |upstream| upstream.login = pen.login())
    }

    /// One trusted key more.
    #[must_use]
    pub fn trust(mut self, key: &UpstreamKey) -> Self {
        self.settings.trusted_keys.push(key.public());
        self
    }

    /// Any other setting.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut EdgeSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Somebody who knows `secret` may do this, everywhere and always.
    #[must_use]
    pub fn token(mut self, secret: &str, scopes: &[Scope]) -> Self {
        self.settings.tokens.push(Token {
            id: secret.to_owned(),
            hash: Sha256Hash::of(secret.as_bytes()),
            scopes: scopes.to_vec(),
            expires_at: None,
            edges: Vec::new(),
        });
        self
    }

    /// Clients may upload and delete.
    #[must_use]
    pub fn writable(self) -> Self {
        let writing = Writing { put: true, delete: true, require_token: false, max_upload_bytes: 1 << 30 };
        self.settings(|settings| settings.writing = writing)
    }

    /// What of uploads is admitted (default: what a trusted key or a token vouches for).
    #[must_use]
    pub fn admission(mut self, change: impl FnOnce(&mut Admission)) -> Self {
        change(&mut self.admission);
        self
    }

    /// How long an absence is believed (default 60 s).
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self.settings.negative_ttl = ttl;
        self
    }

    /// When eviction runs, also without need; in UTC.
    ///
    /// # Panics
    /// If it is no schedule.
    #[must_use]
    pub fn eviction_schedule(mut self, schedule: &str) -> Self {
        let utc = "UTC".parse::<Zone>().expect("a zone");
        self.eviction_schedule = Some(Schedule::parse(schedule, utc).expect("a schedule"));
        self
    }

    /// When stored files are compared with their names; in UTC, and as fast as it goes.
    ///
    /// # Panics
    /// If it is no schedule.
    #[must_use]
    pub fn scrub_schedule(mut self, schedule: &str) -> Self {
        let utc = "UTC".parse::<Zone>().expect("a zone");
        self.scrubs.schedule = Some(Schedule::parse(schedule, utc).expect("a schedule"));
        self
    }

    /// So many edges, each in a process of its own: only in split mode. With more than one, each is reached by the
    /// others over a link, which is its `--edge-url`.
    #[must_use]
    pub fn edges(mut self, edges: usize) -> Self {
        self.edges = edges;
        self
    }

    /// Any other setting that is the own of one edge of many; after [`ClusterBuilder::edge_config`], which is of all.
    #[must_use]
    pub fn edge_at(mut self, edge: usize, change: impl Fn(&mut EdgeConfig) + Send + Sync + 'static) -> Self {
        self.each.push((edge, Box::new(change)));
        self
    }

    /// Any other setting that is the edge's own.
    #[must_use]
    pub fn edge_config(mut self, change: impl FnOnce(&mut EdgeConfig)) -> Self {
        change(&mut self.edge);
        self
    }

    /// Passes upstream signatures only.
    #[must_use]
    pub fn without_signing(mut self) -> Self {
        self.sign = false;
        self
    }

    /// How long a call to control may take in split mode.
    #[must_use]
    pub fn control_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Serves metrics; each plane's own in split mode.
    #[must_use]
    pub fn prometheus(mut self) -> Self {
        self.prometheus = true;
        self
    }

    /// On the data of a cluster that has ended.
    #[must_use]
    pub fn on(mut self, data: Arc<TempDir>) -> Self {
        self.data = data;
        self
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If anything of it can't be started.
    pub async fn start(self) -> Cluster {
        match self.mode {
            Mode::Combined => self.combined().await,
            Mode::Split => self.split().await,
        }
    }

    async fn combined(self) -> Cluster {
        assert_eq!(self.edges, 1, "many edges need processes of their own");
        let (control, config) = (self.control(&self.data.path().join("data")), self.edge(0));
        let (life, tasks) = begun();
        let telemetry = node::telemetry(self.prometheus);
        let started = ncps_cli::start(control.clone(), config.clone(), &tasks, &telemetry).await;
        let (plane, edge) = started.expect("both planes start");
        let running = Running { control: plane, plane: running(life, tasks) };
        running.plane.ready().await;
        let node = EdgeNode {
            addr: edge.addr,
            edge,
            link: None,
            front: None,
            telemetry: telemetry.clone(),
            config,
            plane: None,
            deadline: self.deadline,
            prometheus: self.prometheus,
            port: None,
        };
        self.cluster(control, running, telemetry, vec![node])
    }

    async fn split(self) -> Cluster {
        let config = self.control(&self.data.path().join("control"));
        let telemetry = node::telemetry(self.prometheus);
        let control = Running::launch(config.clone(), &telemetry).await;
        let mut edges = Vec::new();
        for edge in 0..self.edges {
            edges.push(EdgeNode::launched(self.node(edge).await).await);
        }
        control.plane.ready().await;
        for edge in &edges {
            edge.ready().await;
        }
        self.cluster(config, control, telemetry, edges)
    }

    async fn node(&self, edge: usize) -> Start {
        let mut config = self.edge(edge);
        let port = (config.server_addr == any_port()).then(ReservedPort::new);
        if let Some(port) = &port {
            config.server_addr = ListenAddr::At(port.addr());
        }
        let front = match &port {
            Some(port) if self.edges > 1 => Some(Link::tcp(port.addr()).await),
            _ => None,
        };
        if let Some(front) = &front {
            let scheme = if config.tls.is_some() { "https" } else { "http" };
            config.url = Some(format!("{scheme}://{}", front.addr()));
        }
        let socket = self.data.path().join(named("link", edge, ".sock"));
        let link = Link::unix(&socket, self.socket().as_path()).await;
        Start { config, link, front, port, deadline: self.deadline, prometheus: self.prometheus }
    }

    fn socket(&self) -> PathBuf {
        self.data.path().join("control.sock")
    }

    fn control(&self, data: &Path) -> ControlConfig {
        ControlConfig {
            data_path: data.to_owned(),
            database: data.join("db/db.sqlite"),
            key: if self.sign { KeySource::Default(data.join("secret.key")) } else { KeySource::None },
            negative_ttl: self.negative_ttl,
            addr: ControlAddr::Unix(self.socket()),
            socket: None,
            http_addr: None,
            insecure: false,
            temp_path: None,
            without_effect: Vec::new(),
            warnings: Vec::new(),
            eviction_schedule: self.eviction_schedule.clone(),
            scrubs: self.scrubs.clone(),
            admission: self.admission.clone(),
            settings: self.settings.clone(),
            shown: Vec::new(),
        }
    }

    fn edge(&self, edge: usize) -> EdgeConfig {
        let mut config =
            EdgeConfig { data_path: self.data.path().join(named("data", edge, "")), ..self.edge.clone() };
        if self.edges > 1 {
            config.name = format!("{}-{edge}", config.name);
        }
        let changes = self.each.iter().filter(|(of, _)| *of == edge);
        changes.for_each(|(_, change)| change(&mut config));
        config
    }

    fn cluster(
        self,
        config: ControlConfig,
        control: Running,
        control_telemetry: Telemetry,
        edges: Vec<EdgeNode>,
    ) -> Cluster {
        Cluster {
            edges,
            control_telemetry,
            control: Some(control),
            config,
            prometheus: self.prometheus,
            data: self.data,
            mode: self.mode,
            ended: false,
        }
    }
}

/// The first edge has the plain name.
fn named(what: &str, edge: usize, ending: &str) -> String {
    if edge == 0 { format!("{what}{ending}") } else { format!("{what}-{edge}{ending}") }
}
