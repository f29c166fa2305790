//! The behaviour of ncps, as clients and operators see it. One integration binary; a file per subject.

mod first_light;
mod house;
mod telemetry;
