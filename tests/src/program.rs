//! An installation of ncps on one host, as processes: `ncps serve`, or `ncps-control` and `ncps-edge` joined by a
//! Unix socket. It keeps its port and its data, whatever becomes of the processes.
//!
//! Knows the flags that place and join the programs. Absent: what they mean; a test adds the flags it tests.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use ncps_nix::PublicKey;
use ncps_runtime::fault::Point;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Mode, Outcome, Process, Request, ReservedPort, Response, Upstream, UpstreamKey, eventually};

/// Variable that names the point at which a program under test kills itself: one of [`ncps_runtime::fault::Point`].
pub const FAULT: &str = "NCPS_TEST_FAULT";

/// What an edge says when it is attached.
const ATTACHED: &str = "\"attached to control\"";

/// Programs, their data and their address. Processes that still run are killed when it is dropped.
#[derive(Debug)]
pub struct Installation {
    mode: Mode,
    program: PathBuf,
    dir: TempDir,
    port: ReservedPort,
    /// For every program.
    flags: Vec<String>,
    /// For the program that has control.
    control_flags: Vec<String>,
    /// For every program.
    variables: Vec<(String, String)>,
    /// What every program is started by; empty: it is started as it is.
    launcher: Vec<String>,
    /// In combined mode the one that is both.
    edge: Option<Process>,
    control: Option<Process>,
}

/// What it is made of.
impl Installation {
    /// Of the test binary `under_test`, which cargo names to integration tests as `CARGO_BIN_EXE_under_test`.
    ///
    /// # Panics
    /// If there is no room or no port.
    pub fn new(mode: Mode, under_test: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("ncps-").tempdir().expect("a temporary directory");
        Self {
            mode,
            program: PathBuf::from(under_test),
            dir,
            port: ReservedPort::new(),
            flags: Vec::new(),
            variables: Vec::new(),
            launcher: Vec::new(),
            // Any free port for control's HTTP: the usual one can be only one installation's.
            control_flags: vec![
                "--cache-hostname=cache.test".to_owned(),
                "--control-http-addr=127.0.0.1:0".to_owned(),
            ],
            edge: None,
            control: None,
        }
    }

    /// Of one upstream whose key is trusted.
    pub fn of(mode: Mode, under_test: &str, upstream: &Upstream, key: &UpstreamKey) -> Self {
        Self::new(mode, under_test)
            .control_flag(format!("--upstream-cache={}", upstream.url()))
            .control_flag(format!("--upstream-public-key={}", key.public()))
    }

    /// One flag more for every program.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// One flag more for the program that has control.
    #[must_use]
    pub fn control_flag(mut self, flag: impl Into<String>) -> Self {
        self.control_flags.push(flag.into());
        self
    }

    /// One environment variable more for every program.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every program is started by this command, which is given its path and its arguments.
    #[must_use]
    pub fn started_by(mut self, launcher: Vec<String>) -> Self {
        self.launcher = launcher;
        self
    }

    /// From its next start on it kills itself at `point`; `None`: no more.
    pub fn dies_at(&mut self, point: Option<Point>) {
        self.variables.retain(|(name, _)| name != FAULT);
        self.variables.extend(point.map(|point| (FAULT.to_owned(), point.name())));
    }

    /// Waits until one of its processes has killed itself, and kills the others.
    ///
    /// # Panics
    /// If all live on, or one ended in another way.
    pub async fn dead(&mut self) {
        eventually("the end at the point", async || self.running().any(|p| p.try_exit().is_some())).await;
        for process in self.running() {
            let ended = process.try_exit().map(|status| status.signal());
            assert!(matches!(ended, None | Some(Some(9))), "ended by itself: {ended:?}");
        }
        self.kill().await;
    }

    /// Where Nix clients are served.
    pub const fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The same for Nix.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The data path of the program that has the edge.
    pub fn edge_data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The data path of the program that has control: in combined mode the same one.
    pub fn control_data(&self) -> PathBuf {
        match self.mode {
            Mode::Combined => self.edge_data(),
            Mode::Split => self.dir.path().join("control"),
        }
    }

    /// A file of the edge's store, which may be absent.
    pub fn stored(&self, path: &str) -> PathBuf {
        self.edge_data().join("store").join(path.trim_start_matches('/'))
    }

    /// Names of the files in a directory below the edge's data path.
    ///
    /// # Panics
    /// If there is no such directory.
    pub fn files(&self, below_data: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.edge_data().join(below_data)).expect("it is there");
        entries.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned()).collect()
    }

    /// The process that has the edge.
    ///
    /// # Panics
    /// If it was not started.
    pub const fn edge(&mut self) -> &mut Process {
        self.edge.as_mut().expect("the edge was started")
    }

    /// The process that has control: in combined mode the same one.
    ///
    /// # Panics
    /// If it was not started.
    pub const fn control(&mut self) -> &mut Process {
        match self.mode {
            Mode::Combined => self.edge(),
            Mode::Split => self.control.as_mut().expect("control was started"),
        }
    }
}

/// Its life.
impl Installation {
    /// Starts everything and waits until it is ready, and the edge attached: one that was configured before is
    /// ready without control.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub async fn started(mut self) -> Self {
        self.start().await;
        self
    }

    /// As [`Installation::started`], again.
    ///
    /// # Panics
    /// As [`Installation::started`].
    pub async fn start(&mut self) {
        self.start_control();
        self.start_edge();
        self.ready().await;
        self.edge().line_with(ATTACHED).await;
    }

    /// Starts control alone. Nothing to do in combined mode.
    pub fn start_control(&mut self) {
        if self.mode == Mode::Split {
            self.control = Some(self.spawn(&self.control_command(&self.control_data())));
        }
    }

    /// Starts control again under an edge that ran on, and waits until that edge is attached to it.
    ///
    /// # Panics
    /// If the edge does not attach within the usual patience.
    pub async fn control_back(&mut self) {
        let attachments = |edge: &Process| edge.lines().iter().filter(|l| l.contains(ATTACHED)).count();
        let before = attachments(self.edge());
        self.start_control();
        let edge = self.edge();
        eventually("the edge is attached again", async || attachments(edge) > before).await;
    }

    /// Starts the edge: in combined mode with control.
    pub fn start_edge(&mut self) {
        self.edge = Some(self.spawn(&self.edge_command(&self.edge_data())));
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn ready(&mut self) {
        let addr = self.addr();
        self.edge().ready(addr).await;
    }

    /// SIGKILL to all.
    ///
    /// # Panics
    /// If one does not end.
    pub async fn kill(&mut self) {
        for process in self.running() {
            process.kill().await;
        }
    }

    /// SIGTERM to one after the other, edge first. Each has to end well.
    ///
    /// # Panics
    /// If one does not end, or not with 0.
    pub async fn terminate(&mut self) {
        for process in self.running() {
            let status = process.terminate().await;
            assert_eq!(status.code(), Some(0), "wrote:\n{}", process.lines().join("\n"));
        }
    }

    /// Stops in order and starts again on the same data.
    ///
    /// # Panics
    /// As [`Installation::terminate`] and [`Installation::started`].
    pub async fn restart(&mut self) {
        self.terminate().await;
        self.start().await;
    }

    /// A signal to the process that has the edge.
    pub fn signal(&mut self, signal: Signal) {
        self.edge().signal(signal);
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Process> {
        self.edge.iter_mut().chain(self.control.iter_mut())
    }
}

/// Its command lines, also for a second process beside it.
impl Installation {
    /// Runs the program that has the edge, on some other data path if a test wants that.
    pub fn edge_command(&self, data: &Path) -> Vec<String> {
        let places = [data_flag(data), format!("--server-addr={}", self.addr())];
        match self.mode {
            Mode::Combined => {
                let control = [self.control_flag_of_socket()];
                args(&["ncps", "serve"], [&places[..], &control, &self.control_flags, &self.flags])
            }
            Mode::Split => {
                let control = format!("--control-url=unix:{}", self.socket().display());
                // As that of one process, its disk is kept.
                let own = [control, "--edge-durable=true".to_owned()];
                args(&["ncps-edge"], [&places[..], &own, &self.flags])
            }
        }
    }

    /// Runs the program that has control.
    pub fn control_command(&self, data: &Path) -> Vec<String> {
        if self.mode == Mode::Combined {
            return self.edge_command(data);
        }
        let places = [data_flag(data), self.control_flag_of_socket()];
        args(&["ncps-control"], [&places[..], &self.control_flags, &self.flags])
    }

    /// A process beside it, with an environment that holds nothing but a home, its variables, and that files stay as they
    /// come: what they become is nothing that most tests are about.
    pub fn spawn(&self, command: &[String]) -> Process {
        self.spawn_with(command, &[])
    }

    /// The same with more variables.
    pub fn spawn_with(&self, command: &[String], env: &[(&str, &str)]) -> Process {
        let home = self.dir.path().join("home");
        std::fs::create_dir_all(&home).expect("room for a home");
        let home = home.to_string_lossy();
        let own = self.variables.iter().map(|(name, value)| (&**name, &**value));
        let env: Vec<_> = [("HOME", &*home), ("CACHE_RECOMPRESS", "off")]
            .into_iter()
            .chain(own)
            .chain(env.iter().copied())
            .collect();
        let program = [self.program.to_string_lossy().into_owned()];
        let words: Vec<_> = self.launcher.iter().chain(&program).chain(command).collect();
        Process::spawn(Path::new(words[0]), &words[1..], &env)
    }

    /// Control's.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn control_flag_of_socket(&self) -> String {
        format!("--control-addr=unix:{}", self.socket().display())
    }
}

fn data_flag(data: &Path) -> String {
    format!("--cache-data-path={}", data.display())
}

fn args<const N: usize>(program: &[&str], flags: [&[String]; N]) -> Vec<String> {
    program.iter().map(ToString::to_string).chain(flags.concat()).collect()
}

/// As its clients.
impl Installation {
    /// A GET whose body is not read yet.
    ///
    /// # Panics
    /// If it is not answered.
    pub async fn get(&self, path: &str) -> Response {
        Request::get(path).send(self.addr()).await.expect("it answers")
    }

    /// A GET to its end.
    ///
    /// # Panics
    /// As [`Installation::get`].
    pub async fn fetch(&self, path: &str) -> (u16, Outcome) {
        let mut response = self.get(path).await;
        (response.status, response.outcome().await)
    }

    /// The key that it signs with.
    ///
    /// # Panics
    /// If it says none.
    pub async fn public_key(&self) -> PublicKey {
        let text = self.get("/pubkey").await.text().await;
        PublicKey::parse(text.trim()).expect("a public key")
    }

    /// Waits until a NAR is in the store together with a narinfo: then control knows of it, too.
    ///
    /// # Panics
    /// If it never is.
    pub async fn stores(&self, narinfo_path: &str, nar_path: &str) {
        let both = [self.stored(narinfo_path), self.stored(nar_path)];
        eventually("a stored NAR with its narinfo", async || both.iter().all(|file| file.exists())).await;
    }
}
