//! The command lines of people: `ncps`, which runs both planes in one process, and `ncps-cli`, which asks a running
//! control. It is the only crate that knows both planes, and holds no logic of either.

mod admin;
mod configuration;
pub mod confirm;
mod dbmate;
pub mod failure;
mod import;
mod migrate;
pub mod output;
pub mod progress;
mod serve;

use std::ffi::OsString;

use ncps_control::config::LATER_GLOBAL;
use ncps_edge::config::REMOTE;
use ncps_runtime::clap::Command;
use ncps_runtime::config::{self, CommandLine, Env};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::RUNTIME;
use ncps_runtime::program;

pub use admin::{administer, cli_reference};
pub use configuration::{later_reference, reference};
pub use serve::start;

const ABOUT: &str =
    "A Nix binary cache for one network: fetches each path once, verifies, signs and serves it";

/// Runs `ncps`, or what stands in for dbmate where it was called by that name. Never panics on what it is given.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|called| dbmate::is_meant(called)) {
        return dbmate::run(args, env);
    }
    let fields = [&serve::all_fields()[..], migrate::FIELDS, &[REMOTE, import::OWN]].concat();
    match CommandLine::parse(command(), &fields, args) {
        Ok(line) => dispatch(line, env),
        Err(answer) => program::print("ncps", &answer),
    }
}

fn command() -> Command {
    config::root_command("ncps", ABOUT, &[RUNTIME, LATER_GLOBAL])
        .subcommand(serve::command("serve", "Serve Nix clients").alias("s"))
        .subcommand(configuration::command())
        .subcommand(migrate::command())
        .subcommand(import::command())
}

fn dispatch(line: CommandLine, env: Env<'_>) -> Exit {
    let Some((name, line)) = line.subcommand() else { return Exit::Usage };
    match name.as_str() {
        "serve" => serve::run(&line, env),
        "config" => configuration::run(line, env),
        "migrate" => migrate::run(line, env),
        "import" => import::run(&line, env),
        // clap let nothing else through.
        _ => Exit::Usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_leaves_nothing_out() {
        for program in [command(), dbmate::command(), admin::command()] {
            assert_eq!(config::undescribed(program), Vec::<String>::new());
        }
    }
}
