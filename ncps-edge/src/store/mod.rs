//! The edge's disk: NAR files and the narinfos that name them, as a plain Nix binary cache directory
//! (`nix copy --from file://<data>/store` works without us), and the spool from which NAR files are committed.
//!
//! Knows: names, bytes, durability. The disk is the truth: whether a file is here is answered by opening it.
//! Absent on purpose: hashing and proof (the transfer's), eviction policy (control's), any index.

mod ledger;
mod local;
mod objects;
mod quarantine;
mod spool;
mod unhurried;

use std::io;

pub use local::{Committed, LocalStore, Space, StoredNar};
pub use objects::{From as ObjectFrom, Kept, ObjectStore, StoredObject};
pub use quarantine::Fault;
pub use spool::Spool;
pub(crate) use spool::read_at;
pub(crate) use unhurried::Unhurried;

/// Does blocking work on a thread for that. A panic there is an error here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
