//! A scripted upstream: an HTTP/1.1 binary cache on 127.0.0.1 that serves well until a test says
//! otherwise ([`Rule`]), and remembers every request.
//!
//! It serves the fixtures and texts it was given, and after them a directory; a good answer has
//! an ETag, `Accept-Ranges` and knows ranges, `If-Range` and `If-None-Match`. A client that
//! closes its sending side counts as gone. Absent on purpose: TLS and HTTP/2 ([`crate::front`]), uploads (405).

mod answer;
mod content;
mod encoding;
mod log;
mod manners;
mod observe;
mod send;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Body, Fixture, ReservedPort, Rule};

use content::Content;
use log::Log;
pub use log::{End, Seen};

/// What all connections share.
#[derive(Debug)]
struct Shared {
    content: Mutex<Content>,
    rules: Mutex<Vec<(u64, Rule)>>,
    log: Mutex<Log>,
    blackhole: watch::Sender<bool>,
}

/// A running listener and its connections.
#[derive(Debug)]
struct Listening {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// An upstream cache under the test's control. Dropped, it cuts all its connections.
#[derive(Debug)]
pub struct Upstream {
    port: ReservedPort,
    shared: Arc<Shared>,
    listening: Mutex<Option<Listening>>,
}

impl Upstream {
    /// Starts one that has only a `nix-cache-info`.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if there is no port.
    pub async fn start() -> Self {
        let upstream = Self::start_down();
        upstream.up().await;
        upstream
    }

    /// One whose port refuses connections until [`Upstream::up`].
    pub fn start_down() -> Self {
        let shared = Shared {
            content: Mutex::new(Content::new()),
            rules: Mutex::default(),
            log: Mutex::default(),
            blackhole: watch::Sender::new(false),
        };
        Self { port: ReservedPort::new(), shared: Arc::new(shared), listening: Mutex::default() }
    }

    /// Starts one that has these fixtures.
    ///
    /// # Panics
    /// As [`Upstream::start`].
    pub async fn with(fixtures: &[&Fixture]) -> Self {
        let upstream = Self::start().await;
        for fixture in fixtures {
            upstream.add(fixture);
        }
        upstream
    }

    /// Its address, the same for life.
    pub const fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Serves a fixture's narinfo, and its file at the narinfo's URL unless that is absolute.
    pub fn add(&self, fixture: &Fixture) {
        self.shared.content.lock().add(fixture);
    }

    /// Serves the narinfo alone.
    pub fn add_narinfo(&self, fixture: &Fixture) {
        self.put(&fixture.narinfo_path(), fixture.narinfo_text());
    }

    /// Serves a body at a path, e.g. `/log/x.drv`. A query in it is remembered for
    /// [`Upstream::require_queries`].
    pub fn put(&self, target: &str, body: impl Into<Body>) {
        self.shared.content.lock().put(target, body.into());
    }

    /// No longer has what is at this path.
    pub fn remove(&self, path: &str) {
        self.shared.content.lock().remove(path);
    }

    /// No longer has a fixture, neither narinfo nor file.
    pub fn remove_fixture(&self, fixture: &Fixture) {
        self.remove(&fixture.narinfo_path());
        self.remove(&fixture.nar_path());
    }

    /// Serves the files under a directory too, e.g. a `file://` cache that Nix wrote.
    pub fn serve_dir(&self, dir: &Path) {
        self.shared.content.lock().serve_dir(dir);
    }
}

/// Misbehaviour.
impl Upstream {
    /// Adds a rule, which applies to requests from now on.
    pub fn script(&self, rule: Rule) -> RuleHandle {
        let mut rules = self.shared.rules.lock();
        let id = rules.last().map_or(0, |(id, _)| id + 1);
        rules.push((id, rule));
        RuleHandle { shared: Arc::clone(&self.shared), id }
    }

    /// Forgets all rules: a good upstream from now on.
    pub fn behave(&self) {
        self.shared.rules.lock().clear();
    }

    /// Refuses connections, and cuts those that there are.
    pub async fn down(&self) {
        let listening = self.listening.lock().take();
        if let Some(Listening { stop, tasks }) = listening {
            stop.cancel();
            tasks.wait().await;
            self.port.is_left().await;
        }
    }

    /// Listens (again), and answers (again), on the same port.
    ///
    /// # Panics
    /// If somebody else has taken the port.
    pub async fn up(&self) {
        self.shared.blackhole.send_replace(false);
        let mut listening = self.listening.lock();
        if listening.is_none() {
            let listener = self.port.listen().expect("the port is ours");
            *listening = Some(serve::listen(listener, Arc::clone(&self.shared)));
        }
    }

    /// Accepts connections and requests, and answers nothing until [`Upstream::up`]; bodies that
    /// are on their way stop.
    pub fn blackhole(&self) {
        self.shared.blackhole.send_replace(true);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.get_mut() {
            listening.stop.cancel();
        }
    }
}

/// A rule that was added. Dropping it leaves the rule in place.
#[derive(Debug)]
pub struct RuleHandle {
    shared: Arc<Shared>,
    id: u64,
}

impl RuleHandle {
    /// To how many requests the rule was applied; 0 once it is removed.
    pub fn hits(&self) -> u64 {
        let rules = self.shared.rules.lock();
        rules.iter().find(|(id, _)| *id == self.id).map_or(0, |(_, rule)| rule.hits)
    }

    /// Ends the rule for requests to come.
    pub fn remove(self) {
        self.shared.rules.lock().retain(|(id, _)| *id != self.id);
    }
}
