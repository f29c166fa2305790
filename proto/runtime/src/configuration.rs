//! `config check|show`: what a program would run with, and where each value came from, without running it.

use std::io::{self, ErrorKind, Write, stdout};

use clap::Command;

use crate::config::{ConfigErrors, Resolver};
use crate::exit::Exit;

const CHECK: &str = "check";
const SHOW: &str = "show";

/// The sub-command `config`, whose two commands are given what they take.
#[must_use]
pub fn command(fields: impl Fn(Command) -> Command) -> Command {
    let check = "Say whether the configuration can be used: exit 0, or 2 and every problem";
    Command::new("config")
        .about("Look at the configuration without serving")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(fields(Command::new(CHECK).about(check)))
        .subcommand(fields(Command::new(SHOW).about("Print every value and where it came from")))
}

/// Answers the one of them that was asked for.
pub fn answer(program: &str, asked: &str, read: Result<Resolver, ConfigErrors>) -> Exit {
    let said = match read {
        Ok(resolver) if asked == SHOW => show(&resolver),
        Ok(_) => writeln!(stdout(), "the configuration can be used"),
        Err(problems) => {
            eprintln!("{program}: {problems}");
            return Exit::Usage;
        }
    };
    match said {
        // Who reads has seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("{program}: print the configuration: {error}");
            Exit::Failure
        }
        _ => Exit::Ok,
    }
}

/// What is accepted for the sake of others counts as nothing until it is given.
fn show(resolver: &Resolver) -> io::Result<()> {
    let mut out = stdout().lock();
    let shown = resolver.show().into_iter().filter(|(field, ..)| !field.hidden || resolver.given(field));
    for (field, value, source) in shown {
        writeln!(out, "{} = {value}  ({source})", field.flag)?;
    }
    Ok(())
}
