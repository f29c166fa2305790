//! `ncps-cli index rebuild`, `backup` and `restore`: the index when it is lost, and so that it is not.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::StreamExt;
use ncps_proto::admin::{AdoptedEdge, BackupPiece, Staged, Steps};
use serde::Serialize;

use super::Session;
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};
use crate::progress::{Counts, Progress};

/// Bytes of a backup that are sent at once.
const PIECE: usize = 256 << 10;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Take into the index what attached edges hold, after the database was lost or an old one was restored.
    ///
    /// Narinfos, files and sizes come back as far as they prove themselves. Tokens, pins, the audit log, times of
    /// access, origins (asked anew when needed) and purges do not. The edges belong to this index from then on.
    Rebuild,
}

#[derive(Args)]
pub(super) struct Backup {
    /// Where the copy of the database goes. It is no secret key: keep that apart.
    file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(super) struct Restore {
    /// What backup wrote.
    file: PathBuf,
}

#[derive(Serialize)]
struct Rebuilt {
    edges: Vec<Edge>,
}

#[derive(Serialize)]
struct Edge {
    edge: String,
    narinfos: u64,
    adopted: u64,
    known: u64,
    refused: u64,
    refusals: Vec<String>,
    failure: Option<String>,
}

impl From<AdoptedEdge> for Edge {
    fn from(edge: AdoptedEdge) -> Self {
        let AdoptedEdge { edge, narinfos, adopted, known, refused, refusals, failure, .. } = edge;
        Edge { edge, narinfos, adopted, known, refused, refusals, failure }
    }
}

impl Shown for Rebuilt {
    fn text(&self) -> String {
        let mut table = Table::new(["EDGE", "NARINFOS", "ADOPTED", "KNOWN", "REFUSED"], &[1, 2, 3, 4]);
        let mut more = String::new();
        for edge in &self.edges {
            let numbers = [edge.narinfos, edge.adopted, edge.known, edge.refused];
            let [narinfos, adopted, known, refused] = numbers.map(|number| number.to_string());
            table.row([edge.edge.clone(), narinfos, adopted, known, refused]);
            for line in edge.refusals.iter().chain(&edge.failure) {
                more.push_str(&format!("{}: {line}\n", edge.edge));
            }
        }
        table.text() + &more
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::Rebuild => rebuild(session).await,
    }
}

async fn rebuild(session: &Session) -> Done {
    let mut steps = session.admin().await?.rebuild_index().await?;
    let mut bar = Progress::begin("index rebuild", Counts::Things);
    while let Some(step) = steps.next().await {
        let rebuilt = step?;
        bar.at(rebuilt.edges.iter().map(|edge| edge.narinfos).sum(), None);
        if rebuilt.done {
            drop(bar);
            let edges: Vec<Edge> = rebuilt.edges.into_iter().map(Edge::from).collect();
            let failed = edges.is_empty() || edges.iter().any(|edge| edge.failure.is_some());
            session.output.print(&Rebuilt { edges })?;
            let why = "not every edge could be asked; is one attached?".to_owned();
            return if failed { Err(Failure::Failed(why)) } else { Ok(()) };
        }
    }
    Err(Failure::Failed("the rebuild ended without a result".to_owned()))
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
}

impl Shown for Written {
    fn text(&self) -> String {
        format!("{} bytes are in {}\n", self.bytes, self.file.display())
    }
}

pub(super) async fn backup(command: Backup, session: &Session) -> Done {
    let Backup { file, force } = command;
    if !force && file.symlink_metadata().is_ok() {
        return Err(Failure::Input(format!("{} is there already: --force replaces it", file.display())));
    }
    let pieces = session.admin().await?.backup().await?;
    let partial = partial(&file);
    let written = write(pieces, &partial).await.and_then(|bytes| {
        put(&partial, &file, force).map_err(|error| on_disk(&file, &error))?;
        Ok(bytes)
    });
    if written.is_err() {
        // Half a copy is of no use. That it is not there is no trouble.
        fs::remove_file(&partial).ok();
    }
    session.output.print(&Written { bytes: written?, file })
}

fn partial(file: &Path) -> PathBuf {
    file.with_added_extension("part")
}

async fn write(mut pieces: Steps<BackupPiece>, partial: &Path) -> Result<u64, Failure> {
    let create = File::options().write(true).create(true).truncate(true).mode(0o600).open(partial);
    let mut file = create.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            Failure::Input(format!("{}: {error}", partial.display()))
        }
        _ => on_disk(partial, &error),
    })?;
    let mut bar = Progress::begin("backup", Counts::Bytes);
    let (mut bytes, mut all) = (0, 0);
    while let Some(piece) = pieces.next().await {
        let BackupPiece { bytes: of, piece } = piece?;
        file.write_all(&piece).map_err(|error| on_disk(partial, &error))?;
        (bytes, all) = (bytes + piece.len() as u64, of);
        bar.at(bytes, Some(all));
    }
    if bytes != all || bytes == 0 {
        return Err(Failure::Failed(format!("{bytes} of {all} bytes came")));
    }
    file.sync_all().map_err(|error| on_disk(partial, &error))?;
    Ok(bytes)
}

/// Gives the whole copy its name; without `force` only where nobody took it meanwhile.
fn put(partial: &Path, file: &Path, force: bool) -> io::Result<()> {
    if force {
        return fs::rename(partial, file);
    }
    fs::hard_link(partial, file)?;
    fs::remove_file(partial)
}

fn on_disk(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

#[derive(Serialize)]
struct Restored {
    index_id: String,
    narinfos: u64,
}

impl Shown for Restored {
    fn text(&self) -> String {
        format!(
            "A backup of index {} with {} narinfos is staged: it takes effect when control starts anew.\n",
            self.index_id, self.narinfos
        )
    }
}

pub(super) async fn restore(command: Restore, session: &Session) -> Done {
    let unreadable = |error: io::Error| Failure::Input(format!("{}: {error}", command.file.display()));
    let file = File::open(&command.file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::Input(format!("{} is no file", command.file.display())));
    }
    let admin = session.admin().await?;
    let Staged { index_id, narinfos } = admin.restore(pieces(file, metadata.len())).await?;
    session.output.print(&Restored { index_id, narinfos })
}

/// The file piece by piece, as control takes it. One that can't be read on ends early, and then is no backup.
fn pieces(mut file: File, all: u64) -> impl futures::Stream<Item = Bytes> + Send + 'static {
    let (mut bar, mut sent) = (Progress::begin("restore", Counts::Bytes), 0);
    futures::stream::iter(std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE);
        match (&mut file).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(n) if n > 0 => {
                sent += n as u64;
                bar.at(sent, Some(all));
                Some(Bytes::from(piece))
            }
            Ok(_) => None,
            Err(error) => {
                bar.say(&format!("ncps-cli: the file can't be read to its end: {error}"));
                None
            }
        }
    }))
}
