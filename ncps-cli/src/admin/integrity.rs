//! `ncps-cli scrub` and `verify`: whether what is stored is right.

use clap::Args;
use futures::StreamExt;
use ncps_proto::admin::{EdgeScrub, ScrubOrder, ScrubStep, Verification};
use ncps_proto::{Checked, Verdict};
use ncps_runtime::config::values::byte_size;
use serde::Serialize;

use super::Session;
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};
use crate::progress::{Counts, Progress};

#[derive(Args)]
pub(super) struct Scrub {
    /// Only the edges of this name.
    #[arg(long, value_name = "NAME")]
    edge: Option<String>,
    /// Bytes that each edge reads per second, such as 50M; 0: as fast as its disk is. By default --scrub-rate.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
    /// Decode every file, too, and compare it with its narinfos.
    #[arg(long)]
    deep: bool,
}

#[derive(Args)]
pub(super) struct Verify {
    /// A store path, its base name, or its hash.
    #[arg(value_name = "PATH|HASH")]
    path: String,
}

fn rate(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { byte_size(text) }
}

#[derive(Serialize)]
struct Scrubbed {
    edges: Vec<ScrubbedEdge>,
}

#[derive(Serialize)]
struct ScrubbedEdge {
    edge: String,
    files: u64,
    bytes: u64,
    wrong: u64,
    healed: u64,
    lost: u64,
    unhealed: u64,
    failure: Option<String>,
    found: Vec<File>,
}

#[derive(Serialize)]
struct File {
    nar: String,
    verdict: &'static str,
    reason: String,
}

impl From<Checked> for File {
    fn from(checked: Checked) -> Self {
        File { nar: checked.name.file_name(), verdict: word(checked.verdict), reason: checked.reason }
    }
}

impl From<EdgeScrub> for ScrubbedEdge {
    fn from(scrub: EdgeScrub) -> Self {
        ScrubbedEdge {
            edge: scrub.edge,
            files: scrub.progress.files,
            bytes: scrub.progress.bytes,
            wrong: scrub.wrong,
            healed: scrub.healed,
            lost: scrub.lost,
            unhealed: scrub.unhealed,
            failure: scrub.failure,
            found: scrub.files.into_iter().map(File::from).collect(),
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Right => "right",
        Verdict::Wrong => "wrong",
        Verdict::Unreadable => "unreadable",
        Verdict::Missing => "missing",
        Verdict::Healed => "healed",
        Verdict::Lost => "lost",
        Verdict::Unhealed => "unhealed",
    }
}

impl Shown for Scrubbed {
    fn text(&self) -> String {
        let heads = ["EDGE", "FILES", "BYTES", "WRONG", "HEALED", "LOST", "UNHEALED"];
        let mut table = Table::new(heads, &[1, 2, 3, 4, 5, 6]);
        let mut found = String::new();
        for edge in &self.edges {
            let numbers = [edge.files, edge.bytes, edge.wrong, edge.healed, edge.lost, edge.unhealed];
            let [files, bytes, wrong, healed, lost, unhealed] = numbers.map(|number| number.to_string());
            table.row([edge.edge.clone(), files, bytes, wrong, healed, lost, unhealed]);
            for File { nar, verdict, reason } in &edge.found {
                found.push_str(format!("{}: {nar}: {verdict} {reason}", edge.edge).trim_end());
                found.push('\n');
            }
            if let Some(failure) = &edge.failure {
                found.push_str(&format!("{}: ended early: {failure}\n", edge.edge));
            }
        }
        table.text() + &found
    }
}

pub(super) async fn scrub(command: Scrub, session: &Session) -> Done {
    let order = ScrubOrder { edge: command.edge, rate: command.rate, deep: command.deep };
    let mut steps = session.admin().await?.scrub(order).await?;
    let mut bar = Progress::begin("scrub", Counts::Bytes);
    while let Some(step) = steps.next().await {
        match step? {
            ScrubStep::Progress(progress) => bar.at(progress.bytes, Some(progress.all_bytes)),
            ScrubStep::Result(edges) => {
                drop(bar);
                let sound = edges.iter().all(EdgeScrub::is_sound);
                session.output.print(&Scrubbed { edges: edges.into_iter().map(From::from).collect() })?;
                return if sound { Ok(()) } else { Err(unsound()) };
            }
        }
    }
    Err(Failure::Failed("the scrub ended without a result; it may go on in the background".to_owned()))
}

fn unsound() -> Failure {
    Failure::Failed("not everything could be looked at, or is right now".to_owned())
}

#[derive(Serialize)]
struct Verified {
    path: String,
    nar: String,
    signed_by: Vec<String>,
    unknown_references: Vec<String>,
    files: Vec<VerifiedFile>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct VerifiedFile {
    edge: String,
    #[serde(flatten)]
    file: File,
}

impl Shown for Verified {
    fn text(&self) -> String {
        let mut table = Table::pairs();
        let mut row = |name: &str, what: String| table.row([name.to_owned(), what]);
        row("path", self.path.clone());
        row("file", self.nar.clone());
        row("signed by", self.signed_by.join(", "));
        for file in &self.files {
            row(&file.edge, format!("{} {} {}", file.file.nar, file.file.verdict, file.file.reason));
        }
        if self.files.is_empty() {
            row("stored", "nowhere: it is fetched when it is asked for".to_owned());
        }
        for reference in &self.unknown_references {
            row("not in the index", reference.clone());
        }
        for problem in &self.problems {
            row("problem", problem.clone());
        }
        table.text()
    }
}

pub(super) async fn verify(command: Verify, session: &Session) -> Done {
    let found: Verification = session.admin().await?.verify(&command.path).await?;
    let problems = found.problems.len();
    let file = |(edge, file): (String, Checked)| VerifiedFile { edge, file: file.into() };
    session.output.print(&Verified {
        path: found.store_path.to_string(),
        nar: found.nar.file_name(),
        signed_by: found.signed_by,
        unknown_references: found.unknown_references,
        files: found.files.into_iter().map(file).collect(),
        problems: found.problems,
    })?;
    match problems {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} problems"))),
    }
}
