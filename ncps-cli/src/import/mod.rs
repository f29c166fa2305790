//! `ncps import`: what another cache holds becomes ours, offline. From a data directory of the Go original's, beside
//! ours or in place, or from any plain Nix binary cache directory.
//!
//! The only command that knows both planes' disks: bytes are proven and committed by the edge's store, then adopted by
//! control's index, path by path, so that one that was stopped goes on where it was. Here are its flags, and what is
//! wrong with them.

mod go;
mod in_place;
mod path;
mod plain;
mod report;
mod source;
mod work;

use std::path::PathBuf;

use ncps_control::config::{CONTROL, ControlConfig, LATER, LATER_GLOBAL, database_path};
use ncps_edge::config::EDGE;
use ncps_edge::import::Take;
use ncps_runtime::clap::Command;
use ncps_runtime::config::{self, CommandLine, Env, Field, Resolver};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::{DATA, LOG_LEVEL, RuntimeConfig};
use ncps_runtime::keys::EDGE_KEYS;
use ncps_runtime::logs::LogFilter;
use ncps_runtime::program::Program;

use crate::migrate::refuse;

const FROM: Field = Field::value(
    "from",
    "",
    "",
    "Directory to import: a data path of the Go ncps, or a Nix binary cache (what file:// URLs name). It is only read.",
)
.value_name("PATH");

const DATABASE: Field = Field::value(
    "database",
    "",
    "",
    "The Go ncps' database (sqlite:PATH), where it is not found below the directory.",
)
.value_name("URL");

const IN_PLACE: Field = Field::switch(
    "in-place",
    "",
    "",
    "The data path is the Go ncps' own and becomes ours: files are renamed, what is left over goes to go-ncps/ in it.",
);

const LINK: Field = Field::switch(
    "link",
    "",
    "",
    "Take NARs by hard link or not at all. By default: linked where possible, else copied.",
);
const COPY: Field = Field::switch("copy", "", "", "Take NARs by copy.");
const DRY_RUN: Field =
    Field::switch("dry-run", "", "", "Count what there is, without verifying NARs, and change nothing.");

/// The command's own fields.
pub(crate) const OWN: &[Field] = &[FROM, DATABASE, IN_PLACE, LINK, COPY, DRY_RUN];

/// After the command's name: what `serve` takes is taken, so that one line or file can be for both.
const FIELDS: &[&[Field]] = &[OWN, DATA, CONTROL, EDGE, LATER];

const PROGRAM: Program<'_> = Program {
    name: "ncps",
    about: "",
    fields: &[OWN, DATA, CONTROL, EDGE, LATER, LATER_GLOBAL],
    known: EDGE_KEYS,
};

/// Those of `serve` that matter here.
const SHOWN: [&str; 8] = [
    "cache-data-path",
    "cache-database-url",
    "cache-hostname",
    "cache-secret-key-path",
    "cache-sign-narinfo",
    "upstream-cache",
    "upstream-public-key",
    "max-objects-size",
];

pub(crate) fn command() -> Command {
    let is_own = |flag: &str| OWN.iter().any(|field| field.flag == flag);
    let args = config::args(FIELDS).into_iter().map(|arg| {
        let flag = arg.get_id().as_str();
        let hide = arg.is_hide_set() || !(is_own(flag) || SHOWN.contains(&flag));
        arg.hide(hide)
    });
    Command::new("import")
        .about("Take over what a Go ncps or any Nix binary cache directory holds, verified; the server is stopped")
        .args(args)
}

/// What is to be done.
struct Order {
    control: ControlConfig,
    from: PathBuf,
    database: Option<PathBuf>,
    in_place: bool,
    take: Take,
    dry_run: bool,
}

pub(crate) fn run(line: &CommandLine, env: Env<'_>) -> Exit {
    match PROGRAM.read(line, env, read) {
        Ok((_, runtime, (order, quiet))) => work::run(order, with_logs(runtime, quiet)),
        Err(problems) => refuse("ncps", problems),
    }
}

/// What a server says of its start is of no interest here.
fn with_logs(mut runtime: RuntimeConfig, quiet: bool) -> RuntimeConfig {
    if let (true, Ok(filter)) = (quiet, LogFilter::parse("warn")) {
        runtime.logs.filter = filter;
    }
    runtime
}

fn read(r: &mut Resolver, env: Env<'_>) -> Option<(Order, bool)> {
    let quiet = !r.given(&LOG_LEVEL);
    let from = r.get(&FROM, directory);
    let database = r.get(&DATABASE, database_path);
    let (in_place, dry_run) = (r.flag(&IN_PLACE), r.flag(&DRY_RUN));
    let take = read_take(r, in_place);
    let control = ControlConfig::read(r, env)?;
    let from = read_from(r, from, in_place, &control)?;
    Some((Order { control, from, database, in_place, take, dry_run }, quiet))
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = std::fs::canonicalize(text).map_err(|error| format!("{text}: {error}"))?;
    if path.is_dir() { Ok(path) } else { Err(format!("{text} is no directory")) }
}

fn read_take(r: &mut Resolver, in_place: bool) -> Take {
    match (r.flag(&LINK), r.flag(&COPY)) {
        (true, true) => r.problem(&COPY, "can't be given with --link"),
        (_, true) if in_place => r.problem(&COPY, "can't be given with --in-place, which copies nothing"),
        (_, true) => return Take::Copy,
        (false, false) if !in_place => return Take::Either,
        _ => {}
    }
    Take::Link
}

/// The directory that is meant; `None` where a problem was noted.
fn read_from(
    r: &mut Resolver,
    from: Option<PathBuf>,
    in_place: bool,
    control: &ControlConfig,
) -> Option<PathBuf> {
    let data = std::fs::canonicalize(&control.data_path).unwrap_or_else(|_| control.data_path.clone());
    match (from, in_place) {
        (Some(from), true) if from != data => {
            r.problem(&IN_PLACE, format_args!("takes over the data path, {}, and no other", data.display()));
        }
        (_, true) => return Some(data),
        (Some(from), false) if from == data || from == data.join("store") => {
            r.problem(&FROM, format_args!("{} is the data path itself: see --in-place", from.display()));
        }
        (Some(from), false) => return Some(from),
        // What can't be used was said already.
        (None, false) if r.given(&FROM) => {}
        (None, false) => r.problem(&FROM, "has to name the directory to import, unless --in-place is given"),
    }
    None
}
