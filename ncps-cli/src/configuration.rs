//! `ncps config check|show`: what `ncps serve` would run with, and where each value came from.

use ncps_runtime::clap::{ArgMatches, Command};
use ncps_runtime::config::{self, Env};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::RUNTIME;

use crate::serve::{self, FIELDS, PROGRAM};

pub(crate) fn command() -> Command {
    Command::new("config")
        .about("Look at the configuration without serving")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command(
            "check",
            "Say whether the configuration can be used: exit 0, or 2 and every problem",
        ))
        .subcommand(serve::command("show", "Print every value and where it came from"))
}

pub(crate) fn run(matches: &ArgMatches, env: Env<'_>) -> Exit {
    match matches.subcommand() {
        Some(("check", matches)) => look(matches, env, false),
        Some(("show", matches)) => look(matches, env, true),
        // clap let nothing else through.
        _ => Exit::Usage,
    }
}

fn look(matches: &ArgMatches, env: Env<'_>, show: bool) -> Exit {
    match PROGRAM.read(matches, env, serve::read) {
        Ok((resolver, ..)) if show => {
            for (field, value, source) in resolver.show() {
                println!("{} = {value}  ({source})", field.flag);
            }
            Exit::Ok
        }
        Ok(_) => {
            println!("the configuration can be used");
            Exit::Ok
        }
        Err(problems) => {
            eprintln!("ncps: {problems}");
            Exit::Usage
        }
    }
}

/// The reference of every field, as Markdown: what `docs/CONFIGURATION.md` holds.
pub fn reference() -> String {
    let groups: Vec<_> =
        [RUNTIME].into_iter().chain(FIELDS.iter().copied()).chain([ncps_edge::config::REMOTE]).collect();
    config::reference(&groups)
}
