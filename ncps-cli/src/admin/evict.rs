//! `ncps-cli evict`: room in the stores of edges, now.

use clap::Args;
use futures::StreamExt;
use ncps_proto::admin::{EdgeEviction, EvictStep, EvictionOrder, Goal, Planned};
use ncps_runtime::config::values;
use serde::Serialize;

use super::Session;
use super::units::{Size, Time};
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};
use crate::progress::{Counts, Progress};

/// Evict NAR files: what was read longest ago first, uploads after everything else, nothing that is pinned.
///
/// Without --to and --free: what the configured limits ask for.
#[derive(Args)]
pub(super) struct Command {
    /// Until each store takes this much on the disk at most, such as 50G.
    #[arg(long, value_name = "SIZE", value_parser = values::byte_size, conflicts_with = "free")]
    to: Option<u64>,
    /// Free this much on each edge.
    #[arg(long, value_name = "SIZE", value_parser = values::byte_size)]
    free: Option<u64>,
    /// Only on this edge.
    #[arg(long, value_name = "NAME")]
    edge: Option<String>,
    /// Change nothing: print what would go, in this order.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let Command { to, free, edge, dry_run } = command;
    let goal = to.map(Goal::To).or(free.map(Goal::Free)).unwrap_or_default();
    let order = EvictionOrder { goal, edge, dry_run };
    let edges: Vec<Edge> = hear(session, order).await?.into_iter().map(Edge::from).collect();
    let short = !dry_run && edges.iter().any(|edge| edge.files == 0 && edge.shortfall > 0);
    session.output.print(&Report { dry_run, edges })?;
    if short {
        return Err(Failure::Failed("nothing could be evicted: it is pinned, or in flight".to_owned()));
    }
    Ok(())
}

async fn hear(session: &Session, order: EvictionOrder) -> Result<Vec<EdgeEviction>, Failure> {
    let mut steps = session.admin().await?.evict(order).await?;
    // Where nothing is to go, nothing is to be seen.
    let mut bar = None;
    while let Some(step) = steps.next().await {
        match step? {
            EvictStep::Progress(at) => {
                let bar = bar.get_or_insert_with(|| Progress::begin("evict", Counts::Bytes));
                bar.at(at.bytes, Some(at.all_bytes));
            }
            EvictStep::Result(edges) => return Ok(edges),
        }
    }
    Err(Failure::Failed("the eviction ended without a result; it may go on in the background".to_owned()))
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    /// Those that had something to free.
    edges: Vec<Edge>,
}

/// Sizes are bytes on disk.
#[derive(Serialize)]
struct Edge {
    edge: String,
    /// What had to be freed.
    missing: u64,
    files: u64,
    bytes: u64,
    /// What could not be freed: it is pinned, or in flight.
    shortfall: u64,
    /// What pins keep there.
    pinned: u64,
    /// Of a dry run: the first 10,000 files.
    plan: Vec<File>,
}

#[derive(Serialize)]
struct File {
    nar_file: String,
    bytes: u64,
    last_access: Option<Time>,
    paths: Vec<String>,
    because: String,
}

impl From<EdgeEviction> for Edge {
    fn from(done: EdgeEviction) -> Edge {
        Edge {
            edge: done.edge,
            missing: done.missing,
            files: done.files,
            bytes: done.bytes,
            shortfall: done.shortfall,
            pinned: done.pinned,
            plan: done.plan.into_iter().map(File::from).collect(),
        }
    }
}

impl From<Planned> for File {
    fn from(planned: Planned) -> File {
        File {
            because: because(&planned),
            nar_file: planned.name.file_name(),
            bytes: planned.bytes,
            last_access: planned.last_access.map(Time),
            paths: planned.paths.iter().map(|path| path.absolute()).collect(),
        }
    }
}

fn because(Planned { last_access, uploaded, .. }: &Planned) -> String {
    let read = match last_access {
        Some(at) => format!("not read since {}", Time(*at)),
        None => "never read".to_owned(),
    };
    if *uploaded { format!("an upload, which goes last; {read}") } else { read }
}

impl Shown for Report {
    fn text(&self) -> String {
        if self.edges.is_empty() {
            return "nothing has to be freed\n".to_owned();
        }
        self.edges.iter().map(|edge| edge.text(self.dry_run)).collect()
    }
}

impl Edge {
    fn text(&self, dry_run: bool) -> String {
        let done = if dry_run { "would be evicted" } else { "evicted" };
        let mut text = format!("{}: {} files, {} {done}\n", self.edge, self.files, Size(self.bytes));
        if self.shortfall > 0 {
            let (short, pinned) = (Size(self.shortfall), Size(self.pinned));
            text.push_str(&format!("{}: {short} can't be freed; pins keep {pinned}\n", self.edge));
        }
        if dry_run {
            let mut table = Table::new(["SIZE", "BECAUSE", "NAR FILE", "PATHS"], &[0]);
            for file in &self.plan {
                let (size, because) = (Size(file.bytes).to_string(), file.because.clone());
                table.row([size, because, file.nar_file.clone(), file.paths.join(" ")]);
            }
            text.push_str(&table.text());
        }
        text
    }
}
