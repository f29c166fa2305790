//! What is made from the definitions of the commands: shell completions, man pages, and the reference.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::Line;
use crate::failure::{Done, Failure};

#[derive(Args)]
pub(super) struct Completions {
    /// The shell that is to complete.
    shell: Shell,
    /// The program whose commands are completed.
    #[arg(long = "for", value_enum, default_value_t)]
    program: Program,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Program {
    Ncps,
    #[default]
    NcpsCli,
    NcpsEdge,
    NcpsControl,
}

impl Program {
    fn command(self) -> Command {
        match self {
            Program::Ncps => crate::command(),
            Program::NcpsCli => Line::command(),
            Program::NcpsEdge => ncps_edge::command(),
            Program::NcpsControl => ncps_control::run::command(),
        }
    }
}

#[derive(Args)]
pub(super) struct Man {
    /// Where a page for each program, and for each command of one, is written.
    dir: PathBuf,
}

pub(super) fn completions(Completions { shell, program }: Completions) -> Done {
    let mut command = program.command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    crate::output::write(&String::from_utf8_lossy(&script))
}

pub(super) fn man(Man { dir }: Man) -> Done {
    pages(&dir).map_err(|error| Failure::Failed(format!("write man pages into {}: {error}", dir.display())))
}

fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    Program::value_variants().iter().try_for_each(|program| clap_mangen::generate_to(program.command(), dir))
}

/// The reference of `ncps-cli` as Markdown: what `docs/CLI.md` holds after its head.
pub fn cli_reference() -> String {
    let mut text = String::new();
    let mut root = Line::command().term_width(100);
    root.build();
    chapter(&root, &mut text);
    text
}

/// A command's help, then that of those below it.
fn chapter(command: &Command, text: &mut String) {
    let mut shown = command.clone();
    let name = command.get_bin_name().unwrap_or(command.get_name());
    // A String takes everything.
    write!(text, "## {name}\n\n```text\n{}\n```\n\n", shown.render_long_help().to_string().trim_end()).ok();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set())
    {
        chapter(below, text);
    }
}
