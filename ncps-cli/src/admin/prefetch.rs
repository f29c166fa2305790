//! `ncps-cli prefetch`: paths that are fetched before anybody asks for them. One that was broken off is begun again by
//! the same command: what is here is not fetched twice.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use futures::StreamExt;
use ncps_nix::StorePathHash;
use ncps_proto::admin::{PrefetchNews, PrefetchRequest};
use ncps_proto::{Outcome, Prefetched};
use serde::Serialize;

use super::Session;
use super::units::{PathArg, Size};
use crate::failure::{Done, Failure};
use crate::output::Shown;
use crate::progress::{Counts, Progress};

/// What went wrong is named, up to this many paths.
const NAMED: usize = 1000;

#[derive(Args)]
pub(super) struct Command {
    /// Store paths: /nix/store/HASH-NAME, HASH-NAME or HASH.
    #[arg(value_name = "PATH", required_unless_present = "from")]
    paths: Vec<PathArg>,
    /// A file with more of them, one a line; - is standard input. Empty lines and those that begin with # are none.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// These paths alone, without all that they refer to.
    #[arg(long)]
    no_closure: bool,
    /// The edge that fetches them. By default the first one.
    #[arg(long, value_name = "NAME")]
    edge: Option<String>,
}

/// What a prefetch did.
#[derive(Default, Serialize)]
struct Report {
    /// Paths that were here already.
    here: u64,
    /// Paths that were fetched, and the bytes of their NAR files.
    fetched: u64,
    fetched_bytes: u64,
    /// Paths that nobody has.
    absent: u64,
    /// Paths that could not be had now.
    failed: u64,
    /// The first of the absent and the failed, and why.
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    hash: String,
    absent: bool,
    why: String,
}

impl Shown for Report {
    fn text(&self) -> String {
        let Report { here, fetched, fetched_bytes, absent, failed, .. } = self;
        let mut text = format!("fetched {fetched} paths ({}), {here} were here\n", Size(*fetched_bytes));
        if absent + failed > 0 {
            text += &format!("{absent} are nowhere, {failed} could not be had\n");
        }
        text
    }
}

impl Report {
    fn add(&mut self, Prefetched { path, outcome }: Prefetched, progress: &Progress) {
        match outcome {
            Outcome::Here(_) => self.here += 1,
            Outcome::Fetched(bytes) => {
                self.fetched += 1;
                self.fetched_bytes += bytes;
            }
            Outcome::Absent(why) => {
                self.absent += 1;
                self.note(path, true, why, progress);
            }
            Outcome::Failed(why) => {
                self.failed += 1;
                self.note(path, false, why, progress);
            }
        }
    }

    fn note(&mut self, path: StorePathHash, absent: bool, why: String, progress: &Progress) {
        if self.problems.len() < NAMED {
            progress.say(&format!("{path}: {why}"));
            self.problems.push(Problem { hash: path.to_string(), absent, why });
        }
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let Command { paths, from, no_closure, edge } = command;
    let paths = wanted(paths, from)?;
    let request = PrefetchRequest { paths, closure: !no_closure, edge };
    let mut news = session.admin().await?.prefetch(request).await?;
    let (mut report, mut progress) = (Report::default(), Progress::begin("prefetch", Counts::Things));
    while let Some(said) = news.next().await {
        match said? {
            PrefetchNews::Progress(at) => progress.at(at.files, Some(at.all_files)),
            PrefetchNews::Path(path) => report.add(path, &progress),
        }
    }
    drop(progress);
    session.output.print(&report)?;
    match report.absent + report.failed {
        0 => Ok(()),
        some => Err(Failure::Failed(format!("{some} paths are not here"))),
    }
}

fn wanted(paths: Vec<PathArg>, from: Option<PathBuf>) -> Result<Vec<StorePathHash>, Failure> {
    let listed = from.map(|from| read(&from)).transpose()?.unwrap_or_default();
    let listed = listed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed =
        listed.map(|line| line.parse().map_err(|error| Failure::Input(format!("{line:?}: {error}"))));
    let listed: Vec<PathArg> = listed.collect::<Result<_, _>>()?;
    Ok(paths.into_iter().chain(listed).map(|PathArg(hash)| hash).collect())
}

fn read(from: &std::path::Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match from.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| text),
        _ => std::fs::read_to_string(from),
    };
    read.map_err(|error| Failure::Input(format!("--from {}: {error}", from.display())))
}
