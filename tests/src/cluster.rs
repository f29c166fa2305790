//! Both planes in the test's process: combined (no socket between them) or split (gRPC over a Unix socket, with
//! a link that can be broken), then with any number of edges. A test runs in both modes; see
//! [`both_modes!`](crate::both_modes). One of a fleet is split only.
//!
//! A cluster is used like its first edge, which is its only one in most tests; the others are [`Cluster::at`].
//! [`Cluster::end`] stops everything and checks that nothing is left: transfers, lookups, spool files, tasks.

mod builder;
mod control_node;
mod node;
mod process;
mod settings;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use ncps_control::Control;
use ncps_control::config::ControlConfig;
use ncps_proto::admin::AdminPlane;
use ncps_runtime::telemetry::Telemetry;
use tempfile::TempDir;

use crate::{Upstream, UpstreamKey};
use control_node::Running;

pub use builder::ClusterBuilder;
pub use node::EdgeNode;

/// How the planes are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In one process, without a socket.
    Combined,
    /// As processes of their own are: gRPC over a Unix socket, a data path each.
    Split,
}

/// A running cluster of control and its edges.
pub struct Cluster {
    /// Each with its own address, data, links and life.
    pub edges: Vec<EdgeNode>,
    /// Control's metrics: in combined mode those of the edge, too.
    pub control_telemetry: Telemetry,
    /// `None` when it was stopped.
    control: Option<Running>,
    config: ControlConfig,
    prometheus: bool,
    data: Arc<TempDir>,
    mode: Mode,
    ended: bool,
}

/// The first edge.
impl Deref for Cluster {
    type Target = EdgeNode;

    fn deref(&self) -> &EdgeNode {
        self.at(0)
    }
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

    /// One of its edges, for requests.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn at(&self, edge: usize) -> &EdgeNode {
        &self.edges[edge]
    }

    /// Control, for what is changed while it runs.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn control(&self) -> &Control {
        &self.control.as_ref().expect("control runs").control
    }

    /// The names of the edges that are attached.
    ///
    /// # Panics
    /// If control was stopped.
    pub async fn attached(&self) -> Vec<String> {
        let stats = self.control().stats().await.expect("control counts");
        stats.edges.into_iter().map(|edge| edge.name).collect()
    }

    /// Control's socket.
    pub fn socket(&self) -> PathBuf {
        self.data.path().join("control.sock")
    }

    /// Waits until no transfer runs at any edge.
    pub async fn quiet(&self) {
        for edge in &self.edges {
            edge.quiet().await;
        }
    }

    /// Stops control as SIGTERM does, in split mode.
    ///
    /// # Panics
    /// If it does not run, or shares its process with the edge.
    pub async fn stop_control(&mut self) {
        self.take_control().stop().await;
    }

    /// Breaks the edges' links to control, then ends it without a grace, in split mode.
    ///
    /// # Panics
    /// As [`Cluster::stop_control`].
    pub async fn kill_control(&mut self) {
        for link in self.edges.iter().filter_map(|edge| edge.link.as_ref()) {
            link.refuse().await;
        }
        self.take_control().stop_now().await;
    }

    /// Starts control again on its data, the links to it whole, and waits until it is ready.
    ///
    /// # Panics
    /// If it runs already.
    pub async fn start_control(&mut self) {
        assert!(self.control.is_none(), "control runs already");
        self.control_telemetry = node::telemetry(self.prometheus);
        let control = Running::launch(self.config.clone(), &self.control_telemetry).await;
        control.plane.ready().await;
        self.control = Some(control);
        for link in self.edges.iter().filter_map(|edge| edge.link.as_ref()) {
            link.mend().await;
        }
    }

    fn take_control(&mut self) -> Running {
        assert_eq!(self.mode, Mode::Split, "control shares its process with the edge");
        self.control.take().expect("control runs")
    }

    /// Stops it and checks that nothing is left. Returns its data, for another cluster.
    pub async fn end(mut self) -> Arc<TempDir> {
        self.ended = true;
        self.quiet().await;
        for edge in &mut self.edges {
            if let Some(plane) = edge.plane.take() {
                plane.stop().await;
            }
        }
        if let Some(control) = self.control.take() {
            control.stop().await;
        }
        self.edges.iter().for_each(EdgeNode::nothing_is_spooled);
        Arc::clone(&self.data)
    }

    /// Ends it and starts it again on its data.
    pub async fn restart(self, builder: ClusterBuilder) -> Cluster {
        assert_eq!(self.mode, builder.mode());
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
