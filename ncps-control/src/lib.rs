//! `ncps-control`: the control plane. It owns the index, the signing key and the turns, and answers edges
//! through [`ncps_proto::ControlPlane`].
//!
//! Pure parts: `publish` (what is served of an upstream's narinfo), `admission` (what of a client's), [`fleet`] (sessions, turns, placements), the plan of
//! `eviction`. Around them:
//! `index` (memory) over [`Db`] (SQLite), `sessions` (the shell of the fleet), `settings` (what edges are configured with),
//! [`Control`] (the use cases), and the
//! process: [`config`], [`compose`], [`serve`], [`http`] with the `dashboard`, [`metrics`], [`run`]; and [`migrate`] and [`import`], which
//! serve nobody.
//!
//! Absent on purpose: HTTP towards clients or upstreams, and any NAR body.

mod admin;
mod admission;
mod announce;
mod arriving;
mod calls;
pub mod compose;
pub mod config;
mod connections;
mod control;
mod dashboard;
mod db;
mod eviction;
pub mod fleet;
mod gate;
mod handshakes;
pub mod http;
mod identity;
pub mod import;
mod index;
mod introspection;
mod jobs;
pub mod journal;
pub mod keys;
mod messages;
pub mod metrics;
pub mod migrate;
mod pins;
mod popular;
mod publish;
mod rate;
mod record;
mod refusals;
mod reply;
mod roster;
pub mod run;
pub mod serve;
mod sessions;
mod settings;
#[cfg(test)]
mod testing;
mod tokens;
mod totals;
mod warrants;

pub use admission::Admission;
pub use control::{Control, Parts, Removed, Scrubbing, Scrubs};
pub use db::{Db, OpenError};
pub use eviction::{EvictionReport, Schedule, Trigger, Zone};
pub use pins::{Extent, Pin};
pub use tokens::Tokens;

/// The pure part of eviction, for its benchmark.
#[doc(hidden)]
pub mod planner {
    pub use crate::eviction::plan::{Access, Candidate, Plan, plan};
}
