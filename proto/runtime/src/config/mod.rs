//! Configuration: one definition per field, from which everything else comes.
//!
//! A [`Field`] names a flag, an environment variable and a file key, and says what the field means. From
//! tables of fields come the command line ([`command`]), the reference ([`reference()`]) and, through
//! [`Sources`] and [`Resolver`], typed values with the place each came from.
//!
//! Precedence: flags, over environment, over file, over defaults. (The Go original put the file above the
//! environment; a variable set for one run should win over a file kept for all.) An environment variable
//! that is set and empty counts as not set.
//!
//! The environment is a parameter. Absent: what any field means to the planes; they keep their own tables
//! and do their own cross checks with [`Resolver::problem`].

mod command;
mod command_line;
mod field;
mod file;
mod listen;
mod names;
mod problem;
mod reference;
mod resolver;
mod sources;
pub mod values;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "test-util"))]
pub use command::undescribed;
pub use command::{args, command, config_arg, root_command};
pub use command_line::{Answer, CommandLine};
pub use field::{Alias, Field, Kind};
pub use file::find_file;
pub use names::{all_keys as keys, conflicts};
pub use problem::ConfigErrors;
pub use reference::{names_cells, reference};
pub use resolver::Resolver;
pub use sources::{Source, Sources};
pub use values::ListenAddr;

/// The process environment as a parameter: the value of a variable, or nothing.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
