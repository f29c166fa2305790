//! `ncps config check|show`: what `ncps serve` would run with, and where each value came from.

use ncps_runtime::clap::Command;
use ncps_runtime::config::{self, CommandLine, Env};
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

pub(crate) fn run(line: CommandLine, env: Env<'_>) -> Exit {
    // clap lets nothing through but these two.
    let Some((name, line)) = line.subcommand() else { return Exit::Usage };
    look(&line, env, name == "show")
}

fn look(line: &CommandLine, env: Env<'_>, show: bool) -> Exit {
    match PROGRAM.read(line, env, serve::read) {
        Ok((resolver, ..)) if show => {
            // What is accepted for the sake of others counts as nothing until it is given.
            let shown =
                resolver.show().into_iter().filter(|(field, ..)| !field.hidden || resolver.given(field));
            for (field, value, source) in shown {
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

/// The same of the original's names that have no meaning here.
pub fn later_reference() -> String {
    ncps_control::config::later_reference()
}
