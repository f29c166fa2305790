//! Eviction: NAR files leave an edge's store when it passes its size limit or its disk runs out of free space.
//! Planned here, done by edges. [`plan`] is the pure part, [`schedule`] says when it runs without need and
//! [`alarm`] waits for it, [`job`] carries plans out.

pub(crate) mod alarm;
pub(crate) mod job;
pub(crate) mod plan;
pub(crate) mod schedule;

pub use job::{EvictionReport, Trigger};
pub use schedule::{Schedule, Zone};
