//! The behaviour of ncps, as clients and operators see it. One integration binary; a file per subject.

mod absences;
mod asking;
mod away;
mod cold;
mod command_line;
mod doubt;
mod failures;
mod first_light;
mod first_start;
mod foreign_names;
mod house;
mod many;
mod mixed;
mod nar_ranges;
mod narinfos;
mod nars;
mod nix_client;
mod processes;
mod reading;
mod redirects;
mod refusals;
mod refused_narinfos;
mod scene;
mod stopping;
mod upstreams;
mod wrong_bytes;
