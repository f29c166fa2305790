//! Purges: paths that somebody wants out of the cache.

use std::time::Duration;

use futures::StreamExt;
use ncps_nix::{StorePath, StorePathHash};

use super::Steps;
use super::client::{RemoteAdmin, ask};
use super::paths::store_path;
use crate::Result;
use crate::convert::{all, required, store_path_hash, store_path_hash_bytes};
use crate::gen_v1 as wire;

/// Paths in one message.
pub const MOST_PURGED: usize = 10_000;

/// What is to go: what fits all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeOrder {
    /// These paths only. Each must be known, or be believed absent, which is forgotten.
    pub paths: Vec<StorePathHash>,
    /// Only names like this pattern, in which `*` stands for any text and `?` for one character.
    pub name: Option<String>,
    /// Only what can be had from this upstream and no other.
    pub upstream: Option<String>,
    /// Only what nobody asked for in this time.
    pub older_than: Option<Duration>,
    /// What is pinned, too.
    pub force: bool,
    /// Only says what would go.
    pub dry_run: bool,
}

/// What is heard of a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeStep {
    /// So many paths have gone, of so many.
    Progress { paths: u64, all: u64 },
    /// Paths that go and that nobody can give back: [`MOST_PURGED`] at most, and as often as there are more.
    Uploads(Vec<StorePath>),
    /// What it did, or would do. Nothing comes after it.
    Report(PurgeReport),
}

/// What a purge did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Paths that went.
    pub count: u64,
    /// They, in the order of their hashes; over the wire the first 10,000.
    pub paths: Vec<PurgedPath>,
    /// Paths that were believed absent, which is forgotten.
    pub absences: u64,
    /// Paths that fit and stay, since they are pinned.
    pub pinned: u64,
    /// NAR files that were removed.
    pub files: u64,
    /// What these took on the edges' disks.
    pub bytes: u64,
    /// Attached edges that did not confirm it. They hear of it when they attach again.
    pub unheard: Vec<String>,
}

/// A path that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedPath {
    pub path: StorePath,
    /// When anybody asked for it or its NAR, in seconds since 1970.
    pub last_use: i64,
    /// Of its NAR file, in bytes, where it is known.
    pub file_size: Option<u64>,
    /// A client brought it, and no upstream is known to have it: nobody can give it back.
    pub uploaded: bool,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::purge`].
    pub async fn purge(&self, order: PurgeOrder) -> Result<Steps<PurgeStep>> {
        let steps = ask!(self.purge(wire::PurgeRequest {
            store_path_hashes: order.paths.into_iter().map(store_path_hash_bytes).collect(),
            name: order.name.unwrap_or_default(),
            upstream: order.upstream.unwrap_or_default(),
            older_than_s: order.older_than.map(|age| age.as_secs()),
            force: order.force,
            dry_run: order.dry_run,
        }));
        Ok(steps.map(|said| said.map_err(crate::grpc::plain).and_then(step)).boxed())
    }
}

pub(super) fn order(wire: wire::PurgeRequest) -> Result<PurgeOrder> {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(PurgeOrder {
        paths: all(wire.store_path_hashes, |hash| store_path_hash(&hash))?,
        name: said(wire.name),
        upstream: said(wire.upstream),
        older_than: wire.older_than_s.map(Duration::from_secs),
        force: wire.force,
        dry_run: wire.dry_run,
    })
}

pub(super) fn step_wire(step: PurgeStep) -> wire::PurgeStep {
    use wire::purge_step::Step;
    let step = match step {
        PurgeStep::Progress { paths, all } => Step::Progress(wire::PurgeProgress { paths, all }),
        PurgeStep::Uploads(paths) => {
            let store_paths = paths.iter().map(ToString::to_string).collect();
            Step::Uploads(wire::PurgedUploads { store_paths })
        }
        PurgeStep::Report(report) => Step::Report(report_wire(report)),
    };
    wire::PurgeStep { step: Some(step) }
}

fn step(wire: wire::PurgeStep) -> Result<PurgeStep> {
    use wire::purge_step::Step;
    Ok(match required(wire.step, "step of a purge")? {
        Step::Progress(wire::PurgeProgress { paths, all }) => PurgeStep::Progress { paths, all },
        Step::Uploads(uploads) => PurgeStep::Uploads(all(uploads.store_paths, |path| store_path(&path))?),
        Step::Report(said) => PurgeStep::Report(report(said)?),
    })
}

fn report_wire(report: PurgeReport) -> wire::PurgeReport {
    let path = |purged: PurgedPath| wire::PurgedPath {
        store_path: purged.path.to_string(),
        last_use: purged.last_use,
        file_size: purged.file_size,
        uploaded: purged.uploaded,
    };
    wire::PurgeReport {
        count: report.count,
        paths: report.paths.into_iter().take(MOST_PURGED).map(path).collect(),
        absences: report.absences,
        pinned: report.pinned,
        files: report.files,
        bytes: report.bytes,
        unheard: report.unheard,
    }
}

fn report(wire: wire::PurgeReport) -> Result<PurgeReport> {
    let path = |purged: wire::PurgedPath| {
        let path = store_path(&purged.store_path)?;
        let wire::PurgedPath { last_use, file_size, uploaded, .. } = purged;
        Ok(PurgedPath { path, last_use, file_size, uploaded })
    };
    Ok(PurgeReport {
        count: wire.count,
        paths: all(wire.paths, path)?,
        absences: wire.absences,
        pinned: wire.pinned,
        files: wire.files,
        bytes: wire.bytes,
        unheard: wire.unheard,
    })
}
