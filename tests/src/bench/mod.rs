//! What benchmarks share: the servers that are measured, load at a fixed rate, and lines of a table.
//!
//! Absent on purpose: what is measured; each benchmark is a program of its own.

mod filled;
mod ncps;
mod nginx;
pub mod paths;
mod rate;
mod row;

pub use filled::{GROWTH, fill};
pub use ncps::{Ncps, Start};
pub use nginx::Nginx;
pub use rate::{Latencies, Load};
pub use row::{Target, median, row};
