//! `ncps-proto`: what the two planes share. [`ControlPlane`] is the seam in domain words; [`grpc`] are the
//! adapters that carry it over gRPC, and nothing else; [`admin`] is the same for administration, apart from it;
//! [`Code`] is the one table of what may go wrong; [`trace`] is how a trace crosses from hop to hop.
//!
//! Absent on purpose: policy, storage, sockets.

pub mod admin;
pub mod code;
mod convert;
mod errand;
mod error;
#[rustfmt::skip]
#[path = "gen/ncps.v1.rs"]
#[expect(unreachable_pub, clippy::allow_attributes, clippy::large_enum_variant, reason = "generated code")]
mod gen_v1;
/// The services as gRPC describes them, for reflection: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/ncps.v1.bin");
pub mod grpc;
mod hello;
mod jobs;
mod outward;
mod plane;
mod settings;
pub mod tokens;
mod totals;
pub mod trace;
mod types;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod fake;

pub use code::Code;
pub use errand::{Bearer, Errand, Warranted, Warrants};
pub use error::{Error, Result};
pub use hello::{Hello, PROTOCOL, check_capacity, is_name, is_understood};
pub use jobs::{
    Checked, Job, JobKind, JobProgress, JobReport, JobSaid, Outcome, Prefetch, Prefetched, Scrub, Verdict,
};
pub use outward::{Login, NetrcEntry, Outward, Secret, Target, UpstreamSettings};
pub use plane::{ControlPlane, Directives, Reports};
pub use settings::{decode_settings, encode_settings};
pub use tokens::{Expiry, MadeToken, NewToken, Scope, Token, TokenInfo, Writing};
pub use totals::{Counter, Counts, Ratio, Totals, UpstreamState, UpstreamTotals};
pub use types::*;
