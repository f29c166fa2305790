//! The behaviour of ncps, as clients and operators see it. One integration binary; a file per subject.

mod absences;
mod asking;
mod command_line;
mod first_light;
mod first_start;
mod foreign_names;
mod house;
mod mixed;
mod nar_ranges;
mod narinfos;
mod nars;
mod nix_client;
mod processes;
mod reading;
mod refusals;
mod refused_narinfos;
mod stopping;
