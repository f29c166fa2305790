//! `ncps config check|show`: what `ncps serve` would run with.

use ncps_runtime::clap::Command;
use ncps_runtime::config::{self, CommandLine, Env};
use ncps_runtime::configuration;
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::RUNTIME;

use crate::serve::{self, FIELDS, PROGRAM};

pub(crate) fn command() -> Command {
    configuration::command(|command| command.args(config::args(FIELDS)))
}

pub(crate) fn run(line: CommandLine, env: Env<'_>) -> Exit {
    // clap lets nothing through but these two.
    let Some((name, line)) = line.subcommand() else { return Exit::Usage };
    let read = PROGRAM.read(&line, env, serve::read).map(|(resolver, ..)| resolver);
    configuration::answer(PROGRAM.name, &name, read)
}

/// The reference of every field, as Markdown: what `docs/CONFIGURATION.md` holds.
pub fn reference() -> String {
    let groups: Vec<_> =
        [RUNTIME].into_iter().chain(FIELDS.iter().copied()).chain([ncps_edge::config::REMOTE]).collect();
    config::reference(&groups)
}

/// The same of the original's names that have no meaning here.
pub fn later_reference() -> String {
    ncps_control::config::later_reference()
}
