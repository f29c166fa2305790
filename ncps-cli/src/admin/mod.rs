//! `ncps-cli`: what people ask of control, as commands. Each subject has its own file, with its commands, what they
//! ask and how the answer is shown.
//!
//! Absent on purpose: any decision. Control decides; here is only what was typed, and what is printed.

mod client_config;
mod config;
mod edges;
mod events;
mod evict;
mod generated;
mod index;
mod integrity;
mod key;
mod leaving;
mod new_file;
mod paths;
mod pin;
mod prefetch;
mod purge;
mod session;
mod stats;
mod token;
mod units;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ncps_edge::config::ControlUrl;
use ncps_runtime::config::Env;
use ncps_runtime::exit::Exit;
use ncps_runtime::program;

use crate::failure::{Done, Failure};
use crate::output::Output;
pub use generated::cli_reference;
use session::Session;

/// Looks into a running ncps, and changes what it keeps.
///
/// Exit codes: 0 done; 1 failed, or something bad was found; 2 bad input, nothing was changed; 3 control can't be
/// reached.
#[derive(Parser)]
#[command(name = "ncps-cli", version = ncps_runtime::version::VERSION, max_term_width = 100)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Where control is: unix:PATH, https://HOST:PORT, or http://HOST:PORT on this machine.
    ///
    /// By default $NCPS_CONTROL, else the first socket that answers of control.sock in $RUNTIME_DIRECTORY, /run/ncps
    /// (root), $XDG_RUNTIME_DIR/ncps and the data path.
    #[arg(long, global = true, value_name = "ADDR")]
    control: Option<ControlUrl>,
    /// A file with a token of scope admin, which control asks for over TCP. By default $NCPS_TOKEN_FILE.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authorities in PEM that alone may certify control. By default $NCPS_CA_FILE, else those of the
    /// system.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A certificate in PEM that control is shown instead of a token: one that names ncps://admin/NAME. By default
    /// $NCPS_CLIENT_CERT. Needs --client-key.
    #[arg(long, global = true, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM. By default $NCPS_CLIENT_KEY.
    #[arg(long, global = true, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// How answers are printed: as tables for people, or as JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    output: Output,
}

#[derive(Subcommand)]
enum Command {
    /// The keys that narinfos are signed with.
    #[command(subcommand)]
    Key(key::Command),
    /// The paths of the cache.
    #[command(subcommand)]
    Paths(paths::Command),
    /// What happened, and what happens.
    Events(events::Command),
    /// Fetches store paths, with all that they refer to, before anybody asks for them.
    Prefetch(prefetch::Command),
    /// Who may do what: tokens for clients, edges and administrators.
    #[command(subcommand)]
    Token(token::Command),
    /// Numbers: hit ratios, bytes saved and fetched, sizes, edges and upstreams.
    Stats(stats::Command),
    /// The edges: those that are attached, with what they hold and how full their disks are, those that were within 7
    /// days, and who was refused lately, and why. Edges that leave.
    Edges(edges::Command),
    /// The upstreams, as each edge sees them: whether they are asked, how fast they answer, what failed.
    Upstreams,
    ClientConfig(client_config::Command),
    /// What control runs with, and where each value comes from.
    Config,
    /// Print a script that completes commands in a shell.
    Completions(generated::Completions),
    /// Write man pages.
    Man(generated::Man),
    /// Paths that are not evicted, with all that they need.
    #[command(subcommand)]
    Pin(pin::Command),
    Evict(evict::Command),
    Purge(purge::Command),
    /// Compare what edges store with its names, and fetch again what is wrong.
    ///
    /// What can't be fetched stays in quarantine beside the store, and is answered as missing; then the exit code is 1.
    /// The scrub goes on when this command is interrupted.
    Scrub(integrity::Scrub),
    /// Check one path now: its signatures, and its file on every edge.
    Verify(integrity::Verify),
    /// The index of all that is stored.
    #[command(subcommand)]
    Index(index::Command),
    /// Copy the database into a file, while it is being used.
    Backup(index::Backup),
    /// Check a backup and hand it to control, which uses it from its next start on.
    ///
    /// The database that it replaces is kept beside it. Whatever edges hold and the backup does not know is taken over when
    /// they attach.
    Restore(index::Restore),
}

/// The command line of `ncps-cli`.
#[cfg(test)]
pub(crate) fn command() -> clap::Command {
    <Line as clap::CommandFactory>::command()
}

/// Runs `ncps-cli`. Never panics on what it is given.
pub fn administer(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    let line = match Line::try_parse_from(args) {
        Ok(line) => line,
        Err(answer) => {
            // Where the output is closed there is nobody to tell.
            answer.print().ok();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let done = Session::of(line.global, env)
        .and_then(|session| program::block_on(run(line.command, session)).map_err(Failure::of_any));
    match done {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.say(),
    }
}

async fn run(command: Command, session: Session) -> Done {
    match command {
        Command::Key(command) => key::run(command, &session).await,
        Command::Paths(command) => paths::run(command, &session).await,
        Command::Events(command) => events::run(command, &session).await,
        Command::Prefetch(command) => prefetch::run(command, &session).await,
        Command::Token(command) => token::run(command, &session).await,
        Command::Stats(command) => stats::run(command, &session).await,
        Command::Edges(command) => edges::run(command, &session).await,
        Command::Upstreams => stats::all_upstreams(&session).await,
        Command::ClientConfig(command) => client_config::run(command, &session).await,
        Command::Config => config::run(&session).await,
        Command::Completions(wanted) => generated::completions(wanted),
        Command::Man(wanted) => generated::man(wanted),
        Command::Pin(command) => pin::run(command, &session).await,
        Command::Evict(command) => evict::run(command, &session).await,
        Command::Purge(command) => purge::run(command, &session).await,
        Command::Scrub(command) => integrity::scrub(command, &session).await,
        Command::Verify(command) => integrity::verify(command, &session).await,
        Command::Index(command) => index::run(command, &session).await,
        Command::Backup(command) => index::backup(command, &session).await,
        Command::Restore(command) => index::restore(command, &session).await,
    }
}
