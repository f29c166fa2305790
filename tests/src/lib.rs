//! The harness of ncps's tests: everything around the system under test, and nothing of it.
//!
//! | module | what it stands for |
//! | --- | --- |
//! | [`fixture`] | store paths: NAR, file, signed narinfo, from bytes to many gigabytes |
//! | [`upstream`], [`script`] | an upstream cache that does what a test says, and remembers |
//! | [`zoo`] | every kind of cache, in its own style |
//! | [`front`] | TLS and HTTP/2 before such an upstream |
//! | [`tunnel`] | a proxy before them, by CONNECT |
//! | [`frames`] | HTTP/2 by hand, as nobody who means well speaks it |
//! | [`client`] | an HTTP client that tells a whole body from a cut one |
//! | [`link`] | a connection that can be broken and mended |
//! | [`nix`] | the real `nix`, kept apart from the machine's own |
//! | [`process`] | our programs as processes: signals, logs, memory |
//! | [`program`] | an installation of them on one host, in either mode |
//! | [`balancer`] | who spreads clients over servers that are ready |
//! | [`fleet`] | control and several edges as processes |
//! | [`manifest`] | what a cluster of Kubernetes is given |
//! | [`mount`] | disks that are full, or that nobody can write on |
//! | [`netns`] | several hosts on one machine |
//! | [`administration`] | `ncps-cli`, asked as by a shell |
//! | [`prometheus`] | the real Prometheus |
//! | [`image`], [`compose`] | the container image, and the files that start it |
//! | [`collector`], [`scrape`] | who is told of metrics, logs and traces |
//! | [`wait`], [`gate`] | conditions in place of sleeps |
//! | [`mod@bench`] | servers, load and lines of benchmarks |
//!
//! Absent on purpose: TLS and HTTP/2 in the raw client of HTTP/1.1.

pub mod administration;
pub mod balancer;
pub mod bench;
mod body;
pub mod client;
pub mod cluster;
mod codec;
pub mod collector;
pub mod compose;
pub mod fixture;
pub mod fleet;
pub mod frames;
pub mod front;
pub mod gate;
pub mod go_ncps;
mod http1;
pub mod image;
pub mod link;
pub mod manifest;
pub mod mount;
mod nar;
pub mod netns;
pub mod nix;
mod noise;
pub mod port;
pub mod process;
pub mod program;
pub mod prometheus;
mod range;
pub mod sandbox;
pub mod scrape;
pub mod script;
pub mod simulation;
pub mod tunnel;
pub mod upstream;
pub mod wait;
pub mod zoo;

pub use administration::{Cli, Ran};
pub use balancer::Balancer;
pub use body::Body;
pub use client::{Connection, Outcome, Request, Response, get, head};
pub use cluster::{Cluster, ClusterBuilder, EdgeNode, Mode};
pub use codec::{decode, encode};
pub use collector::Collector;
pub use fixture::{Fixture, FixtureBuilder, UpstreamKey};
pub use fleet::Fleet;
pub use front::{Authority, Front};
pub use gate::Gate;
pub use go_ncps::{Era, GoEntry, GoNcps};
pub use http1::Headers;
pub use image::{Container, Image};
pub use link::{Endpoint, Link, Loss};
pub use mount::Mount;
pub use netns::{Host, Network};
pub use nix::Nix;
pub use noise::SplitMix;
pub use port::ReservedPort;
pub use process::Process;
pub use program::{FAULT, Installation};
pub use script::{Cut, Framing, Page, Passes, Rule};
pub use tunnel::Tunnel;
pub use upstream::{Seen, Upstream};
pub use wait::{always, eventually, eventually_some, in_time, patience};
