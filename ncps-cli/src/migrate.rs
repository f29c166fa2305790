//! `ncps migrate up|down`: the database made and migrated without serving.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use ncps_control::config::{DATABASE, LATER_GLOBAL, read_database};
use ncps_control::migrate::{self, Pending};
use ncps_runtime::clap::Command;
use ncps_runtime::config::{self, CommandLine, Env, Field, Resolver};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::DATA;
use ncps_runtime::keys::{CONTROL_KEYS, EDGE_KEYS};
use ncps_runtime::program::{self, Program};

const DRY_RUN: Field = Field::switch("dry-run", "", "", "Print what is pending and do nothing.");

/// After the command's name.
pub(crate) const FIELDS: &[&[Field]] = &[DATA, DATABASE, &[DRY_RUN]];

pub(crate) fn command() -> Command {
    let args = config::args(FIELDS);
    Command::new("migrate")
        .about("Make or migrate the database, which serve does at its start, too")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("up").about("Apply what is pending").args(args.clone()))
        .subcommand(Command::new("down").about("Refused: migrations go forward only").args(args))
}

pub(crate) fn run(line: CommandLine, env: Env<'_>) -> Exit {
    // clap lets nothing through but these two.
    let Some((name, line)) = line.subcommand() else { return Exit::Usage };
    if name == "down" {
        return refuse("ncps", "migrations go forward only: restore a backup of the database instead");
    }
    // The same file can be for serving.
    let known = [CONTROL_KEYS, EDGE_KEYS].concat();
    let fields = &[DATA, DATABASE, &[DRY_RUN], LATER_GLOBAL];
    let program = Program { name: "ncps", about: "", fields, known: &known };
    match program.read(&line, env, read) {
        Ok((.., (database, true))) => dry_run(&database),
        Ok((.., (database, false))) => up("ncps", &database),
        Err(problems) => refuse("ncps", problems),
    }
}

fn read(r: &mut Resolver, env: Env<'_>) -> Option<(PathBuf, bool)> {
    let dry_run = r.flag(&DRY_RUN);
    Some((read_database(r, env)?, dry_run))
}

fn dry_run(database: &Path) -> Exit {
    match program::block_on(migrate::pending(database)) {
        Ok(pending) => print(database, &pending, "would be made", "pending"),
        Err(error) => refuse("ncps", format_args!("{error:#}")),
    }
}

/// Makes and migrates it, and prints what was done.
pub(crate) fn up(program: &str, database: &Path) -> Exit {
    match program::block_on(migrate::up(database)) {
        Ok(done) => print(database, &done, "made", "applied"),
        Err(error) => refuse(program, format_args!("{error:#}")),
    }
}

fn print(database: &Path, pending: &Pending, new: &str, each: &str) -> Exit {
    let database = database.display();
    if pending.is_new {
        println!("{database}: {new}");
    }
    for (version, about) in &pending.migrations {
        println!("{database}: {each}: {version} ({about})");
    }
    if pending.migrations.is_empty() {
        println!("{database}: nothing is pending");
    }
    Exit::Ok
}

pub(crate) fn refuse(program: &str, reason: impl Display) -> Exit {
    eprintln!("{program}: {reason}");
    Exit::Usage
}
