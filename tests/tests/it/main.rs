//! The behaviour of ncps, as clients and operators see it. One integration binary; a file per subject.

mod disk_full;
mod eviction;
mod first_light;
mod house;
