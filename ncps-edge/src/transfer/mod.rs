//! One NAR file on its way into the edge, with any number of readers. No request is the leader: a detached,
//! tracked task fetches, proves and commits, and every request, the first one included, follows its spool.
//!
//! ```text
//! join ─→ Transfer ──── Reader (offset, speed of its own) ──→ response body
//!           ▲ progress
//!         fetch ── plan ── sources ── Download (spool, hash) ── proof ── commit
//! ```
//!
//! Held back are the last 64 KiB until the bytes are proven, so a wrong or short body never looks complete.
//! Where the disk has no room the transfer ends early, and each reader goes on by itself (`pass`), with the same
//! proof. Absent on purpose: HTTP towards clients, SQL, eviction.

mod awaited;
mod commit;
mod decode;
mod describe;
mod distrust;
mod download;
mod encode;
mod encoded;
mod engine;
mod evict;
mod fetch;
mod heal;
mod judge;
mod made;
mod pass;
mod plan;
mod progress;
mod prover;
mod reader;
mod seek;
mod slots;
mod sources;
mod turns;
mod upload;

pub use commit::PendingCommits;
pub(crate) use decode::decoder;
pub(crate) use encode::{Encoding, encoder, library};
pub use encoded::StoredZstd;
pub use engine::{Counters, Engine, Parts};
pub use plan::Wanted;
pub use progress::{Failure, HOLD_BACK};
pub(crate) use prover::prove;
pub use reader::{Head, Reader};
pub(crate) use upload::{Incoming, broken, too_large};
