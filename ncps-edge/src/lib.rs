//! `ncps-edge`: the data plane. HTTP in, bytes through.
//!
//! ```text
//! http ──→ lookup ──→ near cache, control, upstreams      (narinfos)
//!      ├─→ ahead ──→ lookup, transfer                     (what clients will ask for next)
//!      ├─→ store, transfer ──→ upstreams, spool, proof    (NARs)
//!      └─→ objects ──→ store, upstreams                   (logs, listings, debug info, realisations)
//! attach ─→ control: configuration and invalidations in; inventory, commits, accesses out
//! ```
//!
//! Absent on purpose: SQL, the secret key, eviction policy, and control's crate: the edge holds an
//! `Arc<dyn ControlPlane>` and can't tell where it lives.

pub mod access;
pub mod ahead;
mod alone;
pub mod attach;
mod complaints;
pub mod compose;
pub mod config;
pub mod drain;
mod flights;
pub mod http;
pub mod import;
pub mod jobs;
mod listener;
pub mod live;
pub mod lookup;
pub mod metrics;
pub mod near;
pub mod objects;
mod relay;
pub mod remote;
pub mod room;
mod run;
pub mod state;
pub mod store;
mod store_read;
mod totals;
mod transcode;
pub mod transfer;
pub mod uploads;
pub mod upstream;
pub mod via;

pub use run::{command, run};
