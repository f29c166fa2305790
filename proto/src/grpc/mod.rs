//! The seam over gRPC: two adapters around [`crate::ControlPlane`], and nothing else. [`server`] turns an
//! implementation into a tonic service, [`RemoteControl`] turns any tonic transport into an implementation.
//!
//! [`in_process`] puts one over the other without a socket, so that a single process runs the same codec and
//! mappings as two do. [`Admission`] and [`Overhearing`] are what a layer below them leaves with a call. No retries, no deadlines, no reconnection: who calls decides these.

mod admission;
mod client;
mod server;
mod status;
mod trace;

use std::sync::Arc;

use crate::ControlPlane;
pub use admission::{Admission, Attached, Overhearing, Overhears};
pub use client::RemoteControl;
pub use server::{ControlPlaneService, server};
pub(crate) use status::plain;
pub use status::{is_undecodable, to_status};

/// Messages of either direction are at most this long: an inventory page, a narinfo of 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// An implementation seen through codec and mappings, without a socket.
pub fn in_process(plane: Arc<dyn ControlPlane>) -> Arc<dyn ControlPlane> {
    Arc::new(RemoteControl::new(server(plane)))
}
