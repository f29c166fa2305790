//! The behaviour of ncps, as clients and operators see it. One integration binary; a file per subject.

mod admission;
mod first_light;
mod house;
mod objects;
mod socket_activation;
mod tls;
