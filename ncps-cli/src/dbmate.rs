//! What answers to the name of dbmate: with it the original's packages make their database before they serve, so
//! containers and units written for them call it.
//!
//! Understands dbmate's options as far as they name the database. Absent on purpose: migrations from a directory;
//! ours are in the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ncps_control::config::database_path;
use ncps_runtime::clap::{Arg, ArgAction, ArgMatches, Command};
use ncps_runtime::config::Env;
use ncps_runtime::exit::Exit;

use crate::migrate::{refuse, up};

/// Whether a program that was called like this is meant.
pub(crate) fn is_meant(called: &OsStr) -> bool {
    let name = Path::new(called).file_name().and_then(OsStr::to_str);
    matches!(name, Some("dbmate" | "dbmate-ncps"))
}

pub(crate) fn run(args: Vec<OsString>, env: Env<'_>) -> Exit {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(answer) => {
            // Where the output is closed there is nobody to tell.
            answer.print().ok();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    match (matches.subcommand(), database(&matches, env)) {
        (Some(("up" | "migrate", _)), Ok(database)) => up("dbmate", &database),
        (Some(("up" | "migrate", _)), Err(reason)) => refuse("dbmate", reason),
        (Some((other, _)), _) => refuse(
            "dbmate",
            format_args!("{other} is not understood: this is ncps, which knows up and migrate alone"),
        ),
        // clap asks for a command.
        (None, _) => Exit::Usage,
    }
}

pub(crate) fn command() -> Command {
    let up = |name| Command::new(name).arg(Arg::new("what").num_args(0..).hide(true));
    Command::new("dbmate")
        .about("Makes or migrates the database of ncps, in the place of dbmate")
        .version(ncps_runtime::version::VERSION)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .allow_external_subcommands(true)
        .arg(option("url").short('u').help("The database: sqlite: and an absolute path"))
        .arg(
            option("env")
                .short('e')
                .help("The variable that says it, where --url does not")
                .default_value("DATABASE_URL"),
        )
        .args(WITHOUT_EFFECT.map(|name| option(name).hide(true)))
        .args(SWITCHES_WITHOUT_EFFECT.map(|name| switch(name).hide(true)))
        .arg(option("migrations-dir").short('d').help("Without effect: migrations are in the program"))
        .subcommand(up("up").about("Make the database and apply what is pending"))
        .subcommand(up("migrate").about("The same"))
}

const WITHOUT_EFFECT: [&str; 5] =
    ["env-file", "migrations-table", "schema-file", "wait-interval", "wait-timeout"];
const SWITCHES_WITHOUT_EFFECT: [&str; 4] = ["no-dump-schema", "strict", "wait", "verbose"];

fn option(name: &'static str) -> Arg {
    Arg::new(name).long(name).global(true).action(ArgAction::Set)
}

fn switch(name: &'static str) -> Arg {
    Arg::new(name).long(name).global(true).action(ArgAction::SetTrue)
}

fn database(matches: &ArgMatches, env: Env<'_>) -> Result<PathBuf, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let variable = text("env").unwrap_or_default();
    let url = text("url").or_else(|| env(&variable)).filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| format!("--url or {variable} has to be given"))?;
    // Another name that dbmate has for it.
    let url = url.strip_prefix("sqlite3:").map_or(url.clone(), |path| format!("sqlite:{path}"));
    database_path(&url)
}
