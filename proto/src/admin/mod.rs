//! The seam of administration, in domain words, and its gRPC adapters: [`server`] turns an [`AdminPlane`] into a
//! tonic service, [`RemoteAdmin`] asks one through a channel. Each subject has a file with its types, their
//! conversions and the calls of the client.
//!
//! Apart from [`crate::ControlPlane`], so that an edge has no way to call it. Absent: who may (see [`Caller`]), and
//! how any of it is shown.

mod caller;
mod client;
mod keys;
mod server;

use async_trait::async_trait;

use crate::Result;
pub use caller::Caller;
pub use client::RemoteAdmin;
pub use keys::Keys;
pub use server::{AdminPlaneService, server};

/// What people ask of control. Whatever changes something is told who asks.
#[async_trait]
pub trait AdminPlane: Send + Sync + 'static {
    /// The keys of this cache, public halves alone.
    async fn keys(&self) -> Result<Keys>;
}
