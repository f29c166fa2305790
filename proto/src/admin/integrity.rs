//! Whether what is stored is right, and the index: scrub, verify, rebuild, backup, restore.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use ncps_nix::{NarFileName, StorePath};

use super::client::{RemoteAdmin, ask};
use crate::convert::{all, malformed, nar_file_name, nar_file_name_wire, non_empty, required};
use crate::gen_v1 as wire;
use crate::jobs::{checked, checked_wire, progress, progress_wire};
use crate::{Checked, Code, Error, JobProgress, Result};

/// What comes piece by piece, to an end or an error.
pub type Steps<T> = BoxStream<'static, Result<T>>;

/// What a scrub is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubOrder {
    /// The edges of this name; `None`: all.
    pub edge: Option<String>,
    /// Bytes per second of each edge, 0 for as many as its disk gives; `None`: as configured.
    pub rate: Option<u64>,
    /// Decodes files, too.
    pub deep: bool,
}

/// What is heard of a scrub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// The sum over all edges.
    Progress(JobProgress),
    /// The last: what it did on each.
    Result(Vec<EdgeScrub>),
}

/// What a scrub did on one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeScrub {
    /// Its name.
    pub edge: String,
    pub instance: String,
    /// What was read.
    pub progress: JobProgress,
    /// Files that were wrong or could not be read.
    pub wrong: u64,
    /// Of these, and of those from scrubs before: how many are right again,
    pub healed: u64,
    /// which no source has,
    pub lost: u64,
    /// and which can't be had now.
    pub unhealed: u64,
    /// The first of them, as they were found and as they ended.
    pub files: Vec<Checked>,
    /// Why it ended early, where it did.
    pub failure: Option<String>,
}

impl EdgeScrub {
    /// Whether everything was looked at, and is right now.
    pub fn is_sound(&self) -> bool {
        self.failure.is_none() && self.lost + self.unhealed == 0
    }
}

/// What was found of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    pub store_path: StorePath,
    /// The file that its narinfo names.
    pub nar: NarFileName,
    /// Trusted keys whose signatures fit.
    pub signed_by: Vec<String>,
    /// References of which the index knows nothing. No problem: they are asked for when they are needed.
    pub unknown_references: Vec<String>,
    /// What each attached edge has of the NAR: its name, and the file.
    pub files: Vec<(String, Checked)>,
    /// What is wrong, for people. None: all is right.
    pub problems: Vec<String>,
}

/// How far a rebuild is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub edges: Vec<AdoptedEdge>,
    /// Nothing more comes.
    pub done: bool,
}

/// What was taken over from one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdoptedEdge {
    /// Its name.
    pub edge: String,
    pub instance: String,
    /// Narinfo files that were looked at,
    pub narinfos: u64,
    /// taken into the index,
    pub adopted: u64,
    /// known there already,
    pub known: u64,
    /// and not believed.
    pub refused: u64,
    /// Why, for the first of them.
    pub refusals: Vec<String>,
    /// Why it ended early, where it did.
    pub failure: Option<String>,
}

/// A piece of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPiece {
    /// Bytes of the whole; said with the first piece.
    pub bytes: u64,
    pub piece: Bytes,
}

/// What a backup holds that is to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    pub index_id: String,
    pub narinfos: u64,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::scrub`].
    pub async fn scrub(&self, order: ScrubOrder) -> Result<Steps<ScrubStep>> {
        let ScrubOrder { edge, rate, deep } = order;
        let edge = edge.unwrap_or_default();
        let steps = ask!(self.scrub(wire::ScrubRequest { edge, bytes_per_second: rate, deep }));
        Ok(steps.map(|step| step.map_err(crate::grpc::plain).and_then(scrub_step)).boxed())
    }

    /// See [`super::AdminPlane::verify`].
    pub async fn verify(&self, path: &str) -> Result<Verification> {
        verification(ask!(self.verify_path(wire::VerifyPathRequest { path: path.to_owned() })))
    }

    /// See [`super::AdminPlane::rebuild_index`].
    pub async fn rebuild_index(&self) -> Result<Steps<Rebuilt>> {
        let steps = ask!(self.rebuild_index(wire::RebuildIndexRequest {}));
        Ok(steps.map(|step| step.map(rebuilt).map_err(crate::grpc::plain)).boxed())
    }

    /// See [`super::AdminPlane::backup`].
    pub async fn backup(&self) -> Result<Steps<BackupPiece>> {
        let pieces = ask!(self.backup(wire::BackupRequest {}));
        let piece = |wire: wire::BackupReply| BackupPiece { bytes: wire.bytes, piece: wire.piece.into() };
        Ok(pieces.map_ok(piece).map_err(crate::grpc::plain).boxed())
    }

    /// See [`super::AdminPlane::restore`].
    pub async fn restore(&self, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Result<Staged> {
        let pieces = pieces.map(|piece| wire::RestoreRequest { piece: piece.into() });
        let wire::RestoreReply { index_id, narinfos } = ask!(self.restore(pieces));
        Ok(Staged { index_id, narinfos })
    }
}

pub(super) fn scrub_order(wire: wire::ScrubRequest) -> ScrubOrder {
    ScrubOrder { edge: non_empty(wire.edge), rate: wire.bytes_per_second, deep: wire.deep }
}

pub(super) fn scrub_step_wire(step: ScrubStep) -> wire::ScrubReply {
    use wire::scrub_reply::Step;
    let step = match step {
        ScrubStep::Progress(progress) => Step::Progress(progress_wire(progress)),
        ScrubStep::Result(edges) => {
            Step::Result(wire::ScrubResult { edges: edges.into_iter().map(edge_scrub_wire).collect() })
        }
    };
    wire::ScrubReply { step: Some(step) }
}

fn scrub_step(wire: wire::ScrubReply) -> Result<ScrubStep> {
    use wire::scrub_reply::Step;
    Ok(match required(wire.step, "step of a scrub")? {
        Step::Progress(wire) => ScrubStep::Progress(progress(wire)),
        Step::Result(result) => ScrubStep::Result(all(result.edges, edge_scrub)?),
    })
}

fn edge_scrub_wire(scrub: EdgeScrub) -> wire::EdgeScrub {
    let EdgeScrub { edge, instance, progress, wrong, healed, lost, unhealed, files, failure } = scrub;
    wire::EdgeScrub {
        edge,
        instance,
        progress: Some(progress_wire(progress)),
        wrong,
        healed,
        lost,
        unhealed,
        files: files.into_iter().map(checked_wire).collect(),
        failure: failure.unwrap_or_default(),
    }
}

fn edge_scrub(wire: wire::EdgeScrub) -> Result<EdgeScrub> {
    let wire::EdgeScrub { edge, instance, wrong, healed, lost, unhealed, files, failure, .. } = wire;
    Ok(EdgeScrub {
        edge,
        instance,
        progress: wire.progress.map(progress).unwrap_or_default(),
        wrong,
        healed,
        lost,
        unhealed,
        files: all(files, checked)?,
        failure: non_empty(failure),
    })
}

pub(super) fn verification_wire(found: Verification) -> wire::VerifyPathReply {
    let file = |(edge, file)| wire::VerifiedFile { edge, file: Some(checked_wire(file)) };
    wire::VerifyPathReply {
        store_path: found.store_path.to_string(),
        nar: Some(nar_file_name_wire(found.nar)),
        signed_by: found.signed_by,
        unknown_references: found.unknown_references,
        files: found.files.into_iter().map(file).collect(),
        problems: found.problems,
    }
}

fn verification(wire: wire::VerifyPathReply) -> Result<Verification> {
    let file = |wire: wire::VerifiedFile| Ok((wire.edge, checked(required(wire.file, "file")?)?));
    Ok(Verification {
        store_path: StorePath::parse(&wire.store_path).map_err(|e| malformed("store path").because(e))?,
        nar: nar_file_name(wire.nar)?,
        signed_by: wire.signed_by,
        unknown_references: wire.unknown_references,
        files: all(wire.files, file)?,
        problems: wire.problems,
    })
}

pub(super) fn rebuilt_wire(rebuilt: Rebuilt) -> wire::RebuildIndexReply {
    let edge = |edge: AdoptedEdge| wire::AdoptedEdge {
        edge: edge.edge,
        instance: edge.instance,
        narinfos: edge.narinfos,
        adopted: edge.adopted,
        known: edge.known,
        refused: edge.refused,
        refusals: edge.refusals,
        failure: edge.failure.unwrap_or_default(),
    };
    wire::RebuildIndexReply { edges: rebuilt.edges.into_iter().map(edge).collect(), done: rebuilt.done }
}

fn rebuilt(wire: wire::RebuildIndexReply) -> Rebuilt {
    let edge = |edge: wire::AdoptedEdge| AdoptedEdge {
        edge: edge.edge,
        instance: edge.instance,
        narinfos: edge.narinfos,
        adopted: edge.adopted,
        known: edge.known,
        refused: edge.refused,
        refusals: edge.refusals,
        failure: non_empty(edge.failure),
    };
    Rebuilt { edges: wire.edges.into_iter().map(edge).collect(), done: wire.done }
}

pub(super) fn backup_wire(piece: BackupPiece) -> wire::BackupReply {
    wire::BackupReply { bytes: piece.bytes, piece: piece.piece.into() }
}

/// Pieces that arrive. One that does not is an error in their midst.
pub(super) fn pieces(stream: tonic::Streaming<wire::RestoreRequest>) -> Steps<Bytes> {
    let broken = |status: tonic::Status| {
        Error::new(Code::Unavailable, format!("the backup did not arrive: {}", status.message()))
    };
    stream.map_ok(|request| Bytes::from(request.piece)).map_err(broken).boxed()
}

pub(super) fn staged_wire(staged: Staged) -> wire::RestoreReply {
    wire::RestoreReply { index_id: staged.index_id, narinfos: staged.narinfos }
}
