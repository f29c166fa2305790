//! `ncps-cli paths`: which paths are known, all of one, and why it is here or not.

use clap::{Args, Subcommand};
use ncps_nix::StorePathHash;
use ncps_proto::admin::{EventKind, PathDetails, PathRow, PathsWanted, PinRow, RemoteAdmin};
use serde::Serialize;

use super::units::{PathArg, Size, Time};
use super::{Session, events};
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the paths that the index knows, in the order of their hashes.
    List(List),
    /// Show all that is known of one path.
    Show(One),
    /// Say why a path is here, or why it is not.
    Why(One),
}

#[derive(Args)]
pub(super) struct List {
    /// Only paths whose name (what follows the hash) is like this, with * for any text and ? for one character.
    #[arg(value_name = "GLOB")]
    name: Option<String>,
    /// Only what clients uploaded and no upstream is known to have.
    #[arg(long)]
    uploaded: bool,
    /// Only what a pin keeps: the pinned paths, and all that they need.
    #[arg(long)]
    pinned: bool,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Begin after this path: the last one of the list before.
    #[arg(long, value_name = "PATH")]
    after: Option<PathArg>,
}

#[derive(Args)]
pub(super) struct One {
    /// A store path, its base name, or its hash.
    #[arg(value_name = "PATH")]
    path: PathArg,
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::List(wanted) => list(wanted, session).await,
        Command::Show(One { path }) => show(path.0, session).await,
        Command::Why(One { path }) => why(path.0, session).await,
    }
}

/// A path in a list.
#[derive(Serialize)]
struct Row {
    path: String,
    nar_size: u64,
    /// The name of its NAR file below `nar/`.
    nar_file: String,
    file_size: Option<u64>,
    published_at: Time,
    last_read: Time,
    /// Edges that hold its NAR.
    copies: u32,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

impl Shown for Rows {
    fn text(&self) -> String {
        let mut table = Table::new(["NAR SIZE", "FILE SIZE", "COPIES", "LAST READ", "PATH"], &[0, 1, 2]);
        for row in &self.0 {
            let file_size = row.file_size.map_or_else(|| "?".to_owned(), |size| Size(size).to_string());
            table.row([
                Size(row.nar_size).to_string(),
                file_size,
                row.copies.to_string(),
                row.last_read.to_string(),
                row.path.clone(),
            ]);
        }
        table.text()
    }
}

impl From<PathRow> for Row {
    fn from(row: PathRow) -> Row {
        Row {
            path: row.path.absolute(),
            nar_size: row.nar_size,
            nar_file: row.nar.file_name(),
            file_size: row.file_size,
            published_at: Time(row.published_at),
            last_read: Time(row.last_read),
            copies: row.copies,
        }
    }
}

async fn list(List { name, uploaded, pinned, limit, after }: List, session: &Session) -> Done {
    if limit == 0 {
        return Err(Failure::Input("--limit: expected a number from 1 on".to_owned()));
    }
    let after = after.map(|after| after.0);
    let wanted = PathsWanted { after, limit, name: name.clone(), uploaded, pinned };
    let rows = gather(&session.admin().await?, wanted).await?;
    if let Some(name) = name.filter(|_| rows.is_empty() && !uploaded && !pinned) {
        return Err(Failure::Input(format!(
            "no path has a name like {name:?}; names begin after the hash, such as 'hello-*'"
        )));
    }
    session.output.print(&Rows(rows))
}

/// Page after page, since one may have few or none.
async fn gather(admin: &RemoteAdmin, mut wanted: PathsWanted) -> Result<Vec<Row>, Failure> {
    let limit = wanted.limit as usize;
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < limit {
        wanted.limit = u32::try_from(limit - rows.len()).unwrap_or(wanted.limit);
        let page = admin.paths(wanted.clone()).await?;
        rows.extend(page.paths.into_iter().map(Row::from));
        wanted.after = page.next;
        if wanted.after.is_none() {
            break;
        }
    }
    Ok(rows)
}

/// All that is known of a path.
#[derive(Serialize)]
struct Details {
    path: String,
    /// As it is served.
    narinfo: String,
    published_at: Time,
    last_read: Time,
    /// Where its NAR can be fetched, best first.
    origins: Vec<String>,
    /// Files of the same NAR that were proven.
    representations: Vec<String>,
    /// The attached edges that hold its NAR.
    held_by: Vec<String>,
}

impl Shown for Details {
    fn text(&self) -> String {
        let mut table = Table::pairs();
        table.row(["Published:".to_owned(), self.published_at.to_string()]);
        table.row(["LastRead:".to_owned(), self.last_read.to_string()]);
        table.row(["HeldBy:".to_owned(), or_nobody(&self.held_by)]);
        for origin in &self.origins {
            table.row(["Origin:".to_owned(), origin.clone()]);
        }
        for file in &self.representations {
            table.row(["Proven:".to_owned(), file.clone()]);
        }
        format!("{}\n{}", self.narinfo, table.text())
    }
}

fn or_nobody(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

async fn show(hash: StorePathHash, session: &Session) -> Done {
    let details = session.admin().await?.path(hash).await?;
    let origins = origins(&details);
    let Some(narinfo) = details.narinfo else {
        return Err(Failure::Input(format!("{}; see ncps-cli paths why {hash}", not_known(hash, &details))));
    };
    session.output.print(&Details {
        path: narinfo.store_path.absolute(),
        narinfo: narinfo.render(),
        published_at: Time(details.published_at),
        last_read: Time(details.last_read),
        origins,
        representations: details.representations.iter().map(|name| name.file_name()).collect(),
        held_by: details.holders,
    })
}

fn not_known(hash: StorePathHash, details: &PathDetails) -> String {
    match details.absent {
        Some(_) => format!("{hash} is absent: its upstreams don't have it"),
        None => format!("{hash} is not in the index"),
    }
}

fn origins(details: &PathDetails) -> Vec<String> {
    let whole = |upstream: &str, url: &str| {
        if url.contains("://") { url.to_owned() } else { format!("{}/{url}", upstream.trim_end_matches('/')) }
    };
    details.origins.iter().map(|origin| whole(&origin.upstream, &origin.url)).collect()
}

/// Where a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Its NAR lies on an attached edge.
    Stored,
    /// Its narinfo is known; the NAR is fetched when somebody asks for it.
    Known,
    /// Its upstreams don't have it, which is believed for a while.
    Absent,
    /// It was known once.
    Gone,
}

/// Why a path is here, or not.
#[derive(Serialize)]
struct Why {
    /// The path, or its hash where no more is known.
    path: String,
    state: State,
    /// In words.
    because: String,
    /// The pins that keep it from eviction.
    pinned_by: Vec<Keeper>,
    /// By a client, and no upstream is known to have it.
    uploaded: bool,
    /// What happened to it, oldest first.
    history: Vec<events::Shows>,
}

/// A pin.
#[derive(Serialize)]
struct Keeper {
    path: String,
    label: Option<String>,
    made_by: String,
}

impl From<PinRow> for Keeper {
    fn from(pin: PinRow) -> Keeper {
        Keeper { path: pin.path.absolute(), label: pin.label, made_by: pin.made_by }
    }
}

impl Shown for Why {
    fn text(&self) -> String {
        let history: String = self.history.iter().map(Shown::text).collect();
        let state = format!("{:?}", self.state).to_lowercase();
        let mut text = format!("{}\n{state}: {}\n", self.path, self.because);
        for Keeper { path, label, made_by } in &self.pinned_by {
            let label = label.as_ref().map(|label| format!(", label {label}")).unwrap_or_default();
            text.push_str(&format!("pinned by {made_by}: {path}{label}\n"));
        }
        if self.uploaded {
            text.push_str("uploaded by a client: no upstream is known that could give it again\n");
        }
        text + &history
    }
}

async fn why(hash: StorePathHash, session: &Session) -> Done {
    let details = session.admin().await?.path(hash).await?;
    let Some((state, because)) = reason(&details) else {
        return Err(Failure::Input(format!(
            "nothing is known of {hash}: no client asked for it lately, and nobody put it here"
        )));
    };
    let path = details.narinfo.as_ref().map_or(hash.to_string(), |narinfo| narinfo.store_path.absolute());
    session.output.print(&Why {
        path,
        state,
        because,
        pinned_by: details.pins.into_iter().map(Keeper::from).collect(),
        uploaded: details.uploaded,
        history: details.history.into_iter().map(events::Shows::from).collect(),
    })
}

/// `None` where nothing is known.
fn reason(details: &PathDetails) -> Option<(State, String)> {
    if details.narinfo.is_some() {
        return Some(match details.holders.as_slice() {
            [] => (State::Known, not_stored(details)),
            holders => (State::Stored, format!("its NAR is held by {}", holders.join(", "))),
        });
    }
    if let Some(left) = details.absent {
        let seconds = left.as_secs() + 1;
        return Some((State::Absent, format!("no upstream has it, which is believed for {seconds} s more")));
    }
    let last = details.history.last()?;
    Some((State::Gone, format!("{}: {}", last.kind, last.detail)))
}

fn not_stored(details: &PathDetails) -> String {
    let evicted = details.history.iter().rev().find(|event| event.kind == EventKind::Evicted);
    let before = match evicted {
        Some(event) => format!("its NAR was evicted at {}", Time(event.at)),
        None => "its NAR is not stored".to_owned(),
    };
    match details.origins.first() {
        Some(origin) => format!("{before}; it is fetched from {} when asked for", origin.upstream),
        None => format!("{before}, and no place is known to fetch it from"),
    }
}
