//! Both planes in the test's process: combined (no socket between them) or split (gRPC over a Unix socket, with
//! a link that can be broken). A test runs in both modes; see [`both_modes!`](crate::both_modes).
//!
//! [`Cluster::end`] stops everything and checks that nothing is left: transfers, lookups, spool files, tasks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ncps_control::compose::Composed;
use ncps_control::config::{ControlAddr, ControlConfig, KeySource};
use ncps_control::serve::ControlListener;
use ncps_control::{Admission, Control, Schedule, Scrubs, Zone};
use ncps_edge::compose::Edge;
use ncps_edge::config::{ControlUrl, EdgeConfig, Limits};
use ncps_nix::{CacheInfo, NarInfo, PublicKey, Sha256Hash};
use ncps_proto::{EdgeSettings, MinFree, Outward, Scope, Token, UpstreamSettings, Writing};
use ncps_runtime::clock::SystemClock;
use ncps_runtime::config::ListenAddr;
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{LifeHandle, Lifecycle, Timing};
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::zoo::Pen;
use crate::{Fixture, Link, Outcome, Request, Response, Upstream, UpstreamKey, eventually};

/// Machines that run tests are slow at times: here control has longer than an edge gives it in real life.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(20);

/// How the planes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In one process, without a socket.
    Combined,
    /// As two processes are: gRPC over a Unix socket, a data path each.
    Split,
}

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
}

/// A running cluster of control and one edge.
pub struct Cluster {
    /// Where Nix clients are served.
    pub addr: SocketAddr,
    /// Control, as its own process sees it. `None` when it was stopped.
    control: Option<Arc<Control>>,
    /// The edge's parts, for counters.
    pub edge: Edge,
    /// Breaks and mends the way from the edge to control, in split mode.
    pub link: Option<Link>,
    /// Control's metrics: in combined mode those of the edge, too.
    pub control_telemetry: Telemetry,
    planes: Vec<Plane>,
    data: Arc<TempDir>,
    mode: Mode,
    ended: bool,
}

/// One process' worth of a cluster.
struct Plane {
    life: LifeHandle,
    tasks: Tasks,
    stopped: JoinHandle<Exit>,
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

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Cluster {
        let cluster = match self.mode {
            Mode::Combined => self.combined().await,
            Mode::Split => self.split().await,
        };
        let ready = async || cluster.planes.iter().all(|plane| plane.life.is_ready());
        eventually("the cluster is ready", ready).await;
        cluster
    }

    async fn combined(self) -> Cluster {
        let (control, edge) = (self.control(&self.data.path().join("data")), self.edge());
        let (life, tasks) = a_process();
        let telemetry = self.telemetry();
        let started = ncps_cli::start(control, edge, &tasks, &telemetry).await;
        let (control, edge) = started.expect("both planes start");
        self.cluster(control, edge, vec![running(life, tasks)], None, telemetry)
    }

    async fn split(self) -> Cluster {
        let control = self.control(&self.data.path().join("control"));
        let ControlAddr::Unix(socket) = control.addr.clone() else { unreachable!("set below") };
        let telemetry = self.telemetry();
        let (control_plane, control) = self.start_control(control, &telemetry).await;
        let link = Link::unix(&self.data.path().join("link.sock"), socket.as_path()).await;
        let url = ControlUrl::Unix(self.data.path().join("link.sock"));
        let remote = ncps_edge::remote::connect(&url.into(), self.deadline).expect("a channel");
        let (life, tasks) = a_process();
        let edge = ncps_edge::compose::compose(self.edge(), remote, &tasks, &self.telemetry()).await;
        let edge = edge.expect("the edge starts");
        self.cluster(control, edge, vec![running(life, tasks), control_plane], Some(link), telemetry)
    }

    async fn start_control(&self, config: ControlConfig, telemetry: &Telemetry) -> (Plane, Arc<Control>) {
        let (life, tasks) = a_process();
        let listener = ControlListener::bind(&config.addr).await.expect("control's socket");
        let composed = ncps_control::compose::compose(config, &tasks, Arc::new(SystemClock), telemetry).await;
        let Composed { control } = composed.expect("control starts");
        ncps_control::serve::serve(listener, control.clone(), &tasks);
        (running(life, tasks), control)
    }

    fn control(&self, data: &Path) -> ControlConfig {
        ControlConfig {
            data_path: data.to_owned(),
            database: data.join("db/db.sqlite"),
            key: if self.sign { KeySource::Default(data.join("secret.key")) } else { KeySource::None },
            negative_ttl: self.negative_ttl,
            addr: ControlAddr::Unix(self.data.path().join("control.sock")),
            socket: None,
            http_addr: None,
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

    fn telemetry(&self) -> Telemetry {
        if self.prometheus { Telemetry::scraped().expect("metrics for Prometheus") } else { Telemetry::off() }
    }

    fn edge(&self) -> EdgeConfig {
        EdgeConfig { data_path: self.data.path().join("data"), ..self.edge.clone() }
    }

    fn cluster(
        self,
        control: Arc<Control>,
        edge: Edge,
        planes: Vec<Plane>,
        link: Option<Link>,
        control_telemetry: Telemetry,
    ) -> Cluster {
        Cluster {
            addr: edge.addr,
            control: Some(control),
            edge,
            link,
            control_telemetry,
            planes,
            data: self.data,
            mode: self.mode,
            ended: false,
        }
    }
}

/// Its data path is known when it starts.
fn an_edge() -> EdgeConfig {
    EdgeConfig {
        data_path: PathBuf::new(),
        server_addr: "127.0.0.1:0".parse::<ListenAddr>().expect("an address"),
        name: "edge".to_owned(),
        url: None,
        tls: None,
        limits: Limits::default(),
    }
}

/// Timeouts that let a test of failures end soon.
fn default_settings() -> EdgeSettings {
    EdgeSettings {
        index_id: String::new(),
        hostname: "cache.test".to_owned(),
        public_keys: Vec::new(),
        upstreams: Vec::new(),
        outward: Outward::default(),
        give_up_after: None,
        trusted_keys: Vec::new(),
        tokens: Vec::new(),
        writing: Writing::default(),
        priority: 10,
        connect_timeout: Duration::from_secs(2),
        header_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3),
        transfer_timeout: Duration::from_secs(120),
        hedge_delay: Duration::from_millis(400),
        max_downloads: 32,
        max_waiting_downloads: 1024,
        max_decoders: 2,
        max_spool_bytes: 16 << 30,
        near_cache_bytes: 16 << 20,
        absent_on_upstream_failure: false,
        negative_ttl: Duration::from_secs(60),
        object_ttl: Duration::from_secs(3600),
        max_objects_bytes: 1 << 30,
        max_narinfo_requests: 256,
        max_size: None,
        min_free: MinFree::NOTHING,
    }
}

fn a_process() -> (Lifecycle, Tasks) {
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: GRACE });
    let tasks = life.tasks();
    (life, tasks)
}

fn running(life: Lifecycle, tasks: Tasks) -> Plane {
    let handle = life.handle();
    let stopped = tokio::spawn(life.run_until_stopped(tasks.clone()));
    Plane { life: handle, tasks, stopped }
}

impl Cluster {
    /// A cluster with nothing upstream.
    pub fn builder(mode: Mode) -> ClusterBuilder {
        ClusterBuilder::new(mode)
    }

    /// Of one upstream whose key is trusted.
    pub async fn of(mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> Cluster {
        Cluster::builder(mode).upstream(upstream).trust(key).start().await
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

    /// Control, for what is changed while it runs.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn control(&self) -> &Control {
        self.control.as_ref().expect("control runs")
    }

    /// The URL for Nix.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Control's socket.
    pub fn socket(&self) -> PathBuf {
        self.data.path().join("control.sock")
    }

    /// The edge's store directory.
    pub fn store_dir(&self) -> PathBuf {
        self.data.path().join("data/store")
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

    /// Waits until no transfer runs.
    pub async fn quiet(&self) {
        let quiet = async || {
            self.edge.engine.running() + self.edge.lookups.running() + self.edge.objects.running() == 0
        };
        eventually("nothing runs", quiet).await;
    }

    /// Asks the planes to stop, as a first SIGTERM does, without waiting.
    pub fn stop(&self) {
        self.planes.iter().for_each(|plane| plane.life.stop());
    }

    /// Stops it and checks that nothing is left. Returns its data, for another cluster.
    pub async fn end(mut self) -> Arc<TempDir> {
        self.ended = true;
        self.quiet().await;
        self.control = None;
        for plane in std::mem::take(&mut self.planes) {
            plane.life.stop();
            let exit = plane.stopped.await.expect("the life of a process ends");
            assert_eq!(exit, Exit::Ok, "still running: {:?}", plane.tasks.live());
            assert_eq!(plane.tasks.panics(), 0, "a task panicked");
        }
        // Not before: a narinfo that is being written passes through the spool, too.
        assert_eq!(self.edge.store.spool_files().expect("listed"), 0, "spool files are left");
        Arc::clone(&self.data)
    }

    /// Ends it and starts it again on its data.
    pub async fn restart(self, builder: ClusterBuilder) -> Cluster {
        assert_eq!(self.mode, builder.mode);
        let data = self.end().await;
        builder.on(data).start().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let forgotten = !self.ended && !std::thread::panicking();
        assert!(!forgotten, "a test ends its cluster with .end().await, which checks that nothing is left");
    }
}

/// Defines a test that runs in both modes: `name::combined` and `name::split`.
#[macro_export]
macro_rules! both_modes {
    ($($(#[$meta:meta])* async fn $name:ident($mode:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn scenario($mode: $crate::cluster::Mode) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn combined() {
                scenario($crate::cluster::Mode::Combined).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn split() {
                scenario($crate::cluster::Mode::Split).await;
            }
        }
    )*};
}
