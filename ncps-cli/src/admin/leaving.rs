//! `ncps-cli edges drain`, `undrain` and `remove`: edges that leave the fleet.

use std::io::{IsTerminal, stderr, stdin};
use std::time::Duration;

use clap::Subcommand;
use ncps_proto::admin::{EdgeRemoval, EdgeState, RemoteAdmin};
use serde::Serialize;

use super::Session;
use super::units::Size;
use crate::confirm::is_yes;
use crate::failure::{Done, Failure};
use crate::output::Shown;

/// How often it is asked whether an edge has finished.
const LOOK: Duration = Duration::from_millis(500);
/// Paths that are printed for people.
const MOST_SHOWN: usize = 100;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Let an edge finish what runs, and take on nothing more.
    ///
    /// It is not ready from then on, passes uploads on and gets no turns to fetch. When this command says that it is
    /// drained it can be stopped, or removed. A restart changes nothing of it. Interrupted, it goes on.
    Drain {
        /// Its name.
        edge: String,
        /// Don't wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Let an edge take part again.
    Undrain {
        /// Its name.
        edge: String,
    },
    /// Take an edge out of the fleet, that is drained or stopped, with what only it holds.
    ///
    /// Its uploads are copied to another edge whose disk is kept first, if it can still be reached and there is such an
    /// edge. What only it holds after that is absent. To add it again wipe its data path.
    Remove {
        /// Its name.
        edge: String,
        /// Change nothing: print what only it holds.
        #[arg(long)]
        dry_run: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(verb: Verb, session: &Session) -> Done {
    match verb {
        Verb::Drain { edge, no_wait } => drain(edge, no_wait, session).await,
        Verb::Undrain { edge } => {
            session.admin().await?.drain_edge(edge.clone(), true).await?;
            session.output.print(&Drained { edge, state: name_of(EdgeState::Attached) })
        }
        Verb::Remove { edge, dry_run, yes } => remove(edge, dry_run, yes, session).await,
    }
}

async fn drain(edge: String, no_wait: bool, session: &Session) -> Done {
    let admin = session.admin().await?;
    admin.drain_edge(edge.clone(), false).await?;
    let mut state = EdgeState::Draining;
    while !no_wait && state == EdgeState::Draining {
        tokio::time::sleep(LOOK).await;
        state = state_of(&admin, &edge).await?;
    }
    session.output.print(&Drained { edge, state: name_of(state) })
}

/// As it is shown.
pub(super) fn name_of(state: EdgeState) -> &'static str {
    match state {
        EdgeState::Attached => "attached",
        EdgeState::Draining => "draining",
        EdgeState::Drained => "drained",
    }
}

/// One that was stopped meanwhile has left, too.
async fn state_of(admin: &RemoteAdmin, edge: &str) -> Result<EdgeState, Failure> {
    let edges = admin.stats().await?.edges;
    Ok(edges.iter().find(|attached| attached.name == edge).map_or(EdgeState::Drained, |edge| edge.state))
}

#[derive(Serialize)]
struct Drained {
    edge: String,
    state: &'static str,
}

impl Shown for Drained {
    fn text(&self) -> String {
        let Drained { edge, state } = self;
        match *state {
            "drained" => format!("edge {edge} is drained: it can be stopped, or removed\n"),
            "draining" => format!("edge {edge} finishes what runs\n"),
            _ => format!("edge {edge} takes part\n"),
        }
    }
}

async fn remove(edge: String, dry_run: bool, yes: bool, session: &Session) -> Done {
    let may_ask = stdin().is_terminal() && stderr().is_terminal();
    if !dry_run && !yes && !may_ask {
        let what =
            "there is no terminal to ask at: say --yes to remove it, or --dry-run to see what only it holds";
        return Err(Failure::Input(what.to_owned()));
    }
    let admin = session.admin().await?;
    if !dry_run && !yes && !is_wanted(&admin, &edge).await? {
        return Err(Failure::Input("nothing was removed".to_owned()));
    }
    let removal = admin.remove_edge(edge.clone(), dry_run).await?;
    session.output.print(&Removed::of(edge, removal, dry_run))
}

/// Says what would be lost, and asks.
async fn is_wanted(admin: &RemoteAdmin, edge: &str) -> Result<bool, Failure> {
    let removal = admin.remove_edge(edge.to_owned(), true).await?;
    is_yes(&format!("{}Remove it?", Removed::of(edge.to_owned(), removal, true).text()))
}

#[derive(Serialize)]
struct Removed {
    edge: String,
    instance: String,
    dry_run: bool,
    /// That only it holds, and upstreams can give again.
    files: u64,
    /// Of these, on its disk.
    bytes: u64,
    /// Paths whose NARs only it holds, and nobody can give again.
    uploads: Vec<String>,
    /// Uploads that were copied to another edge.
    copied: u64,
}

impl Removed {
    fn of(edge: String, removal: EdgeRemoval, dry_run: bool) -> Removed {
        let EdgeRemoval { instance, files, bytes, uploads, copied } = removal;
        let uploads = uploads.iter().map(|path| path.absolute()).collect();
        Removed { edge, instance, dry_run, files, bytes, uploads, copied }
    }
}

impl Shown for Removed {
    fn text(&self) -> String {
        let Removed { edge, files, copied, uploads, .. } = self;
        let mut text = format!("only edge {edge} holds {files} NAR files of {}", Size(self.bytes));
        text.push_str(", which upstreams can give again\n");
        let fate = if self.dry_run { "would be lost, unless they can be copied" } else { "are lost" };
        if *copied > 0 {
            text.push_str(&format!("{copied} uploads were copied to another edge\n"));
        }
        if !uploads.is_empty() {
            text.push_str(&format!("{} uploads {fate}:\n", uploads.len()));
        }
        uploads.iter().take(MOST_SHOWN).for_each(|path| text.push_str(&format!("  {path}\n")));
        if !self.dry_run {
            text.push_str(&format!("edge {edge} was removed; to add it again wipe its data path\n"));
        }
        text
    }
}
