//! `ncps-cli purge`: paths out of the cache.

use std::io::{IsTerminal, stderr, stdin};
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use ncps_proto::admin::{PurgeOrder, PurgeReport, PurgeStep, PurgedPath, RemoteAdmin};
use ncps_runtime::config::values;
use serde::Serialize;

use super::Session;
use super::units::{PathArg, Size, Time};
use crate::confirm::is_yes;
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};
use crate::progress::{Counts, Progress};

/// Uploads that are named among other lines.
const NAMED: usize = 5;

/// Take paths out of the cache: their narinfos, NAR files, and what is remembered of their absence.
///
/// What fits everything that is said goes. It is no ban: who asks for such a path again has it fetched anew, but an
/// upload is gone for good. Who reads a file of it reads on. Edges that are away drop it when they are back, within
/// 90 days.
#[derive(Args)]
pub(super) struct Command {
    /// Store paths, their base names, or their hashes.
    #[arg(value_name = "PATH")]
    paths: Vec<PathArg>,
    /// Only names like this (what follows the hash), with * for any text and ? for one character.
    #[arg(long, value_name = "GLOB")]
    name: Option<String>,
    /// Only what can be had from this upstream and no other.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Only what nobody asked for in this time, such as 30d.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    older_than: Option<Duration>,
    /// What is pinned, too. The pins stay, and keep what comes back.
    #[arg(long)]
    force: bool,
    /// Change nothing: print what would go.
    #[arg(long)]
    dry_run: bool,
    /// Don't ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let Command { paths, name, upstream, older_than, force, dry_run, yes } = command;
    let may_ask = stdin().is_terminal() && stderr().is_terminal();
    if !dry_run && !yes && !may_ask {
        let what = "there is no terminal to ask at: say --yes to purge, or --dry-run to see what would go";
        return Err(Failure::Input(what.to_owned()));
    }
    let paths = paths.into_iter().map(|path| path.0).collect();
    let order = PurgeOrder { paths, name, upstream, older_than, force, dry_run };
    let admin = session.admin().await?;
    if !dry_run && !yes && !is_wanted(&admin, &order).await? {
        return Err(Failure::Input("nothing was purged".to_owned()));
    }
    let shown = hear(&admin, order).await?;
    session.output.print(&shown)
}

/// Hears a purge to its end.
async fn hear(admin: &RemoteAdmin, order: PurgeOrder) -> Result<Shows, Failure> {
    let dry_run = order.dry_run;
    let mut steps = admin.purge(order).await?;
    let (mut uploads, mut bar) = (Vec::new(), None);
    while let Some(step) = steps.next().await {
        match step? {
            PurgeStep::Progress { paths, all } => {
                bar.get_or_insert_with(|| Progress::begin("purge", Counts::Things)).at(paths, Some(all));
            }
            PurgeStep::Uploads(more) => uploads.extend(more.iter().map(|path| path.absolute())),
            PurgeStep::Report(report) => return Ok(Shows::of(report, uploads, dry_run)),
        }
    }
    Err(Failure::Failed("the purge ended without a report: the rest of it was called off".to_owned()))
}

/// Says what would go, and asks.
async fn is_wanted(admin: &RemoteAdmin, order: &PurgeOrder) -> Result<bool, Failure> {
    let foreseen = hear(admin, PurgeOrder { dry_run: true, ..order.clone() }).await?;
    is_yes(&format!("{}Purge them?", foreseen.text()))
}

#[derive(Serialize)]
struct Shows {
    dry_run: bool,
    count: u64,
    /// The first 10,000.
    paths: Vec<Path>,
    /// All of them that are uploads which nobody can give back.
    uploads: Vec<String>,
    /// Paths that were believed absent, which is forgotten.
    absences: u64,
    /// Paths that fit and stay, since they are pinned.
    pinned: u64,
    files: u64,
    /// On the edges' disks.
    bytes: u64,
    /// Edges that did not confirm it, and drop it when they are back.
    unheard: Vec<String>,
}

#[derive(Serialize)]
struct Path {
    path: String,
    last_use: Time,
    file_size: Option<u64>,
    /// Nobody can give it back.
    uploaded: bool,
}

impl From<PurgedPath> for Path {
    fn from(purged: PurgedPath) -> Path {
        let path = purged.path.absolute();
        let PurgedPath { last_use, file_size, uploaded, .. } = purged;
        Path { path, last_use: Time(last_use), file_size, uploaded }
    }
}

impl Shows {
    fn of(report: PurgeReport, uploads: Vec<String>, dry_run: bool) -> Shows {
        Shows {
            dry_run,
            count: report.count,
            paths: report.paths.into_iter().map(Path::from).collect(),
            uploads,
            absences: report.absences,
            pinned: report.pinned,
            files: report.files,
            bytes: report.bytes,
            unheard: report.unheard,
        }
    }

    fn uploads(&self) -> String {
        let them = match self.uploads.len() {
            0 => return String::new(),
            1 => "1 of them is an upload".to_owned(),
            many => format!("{many} of them are uploads"),
        };
        let mut text = format!("{them} that nobody can give back:\n");
        for path in self.uploads.iter().take(NAMED) {
            text.push_str(&format!("  {path}\n"));
        }
        if let more @ 1.. = self.uploads.len().saturating_sub(NAMED) {
            text.push_str(&format!("  and {more} more, which --output=json names\n"));
        }
        text
    }

    fn table(&self) -> String {
        let mut table = Table::new(["FILE SIZE", "LAST USE", "PATH"], &[0]);
        for path in &self.paths {
            let size = path.file_size.map_or_else(|| "?".to_owned(), |size| Size(size).to_string());
            table.row([size, path.last_use.to_string(), path.path.clone()]);
        }
        table.text()
    }
}

impl Shown for Shows {
    fn text(&self) -> String {
        let mut text = if self.dry_run { self.table() } else { String::new() };
        let done = if self.dry_run { "would be purged" } else { "purged" };
        text.push_str(&format!("{} paths {done}", self.count));
        if !self.dry_run {
            text.push_str(&format!(", with {} NAR files of {}", self.files, Size(self.bytes)));
        }
        text.push('\n');
        text.push_str(&self.uploads());
        for (count, what) in [(self.absences, "absences forgotten"), (self.pinned, "pinned paths stay")] {
            if count > 0 {
                text.push_str(&format!("{count} {what}\n"));
            }
        }
        for edge in &self.unheard {
            text.push_str(&format!("edge {edge} did not confirm it, and drops them when it is back\n"));
        }
        text
    }
}
