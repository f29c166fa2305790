//! Evictions that somebody asks for.

use ncps_nix::{NarFileName, StorePath};

use futures::StreamExt;

use super::Steps;
use super::client::{RemoteAdmin, ask};
use super::paths::store_path;
use crate::convert::{all, nar_file_name, nar_file_name_wire};
use crate::gen_v1 as wire;
use crate::gen_v1::evict_request::Goal as WireGoal;
use crate::jobs::{progress, progress_wire};
use crate::{JobProgress, Result};

/// Planned files in one answer.
const MOST_PLANNED: usize = 10_000;

/// How much is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// What the limits ask for.
    #[default]
    Limits,
    /// The store takes so many bytes on the disk at most.
    To(u64),
    /// So many bytes on the disk are freed.
    Free(u64),
}

/// An eviction that somebody asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvictionOrder {
    pub goal: Goal,
    /// The name of an edge; `None`: every attached one.
    pub edge: Option<String>,
    /// Only says what would go.
    pub dry_run: bool,
}

/// What is heard of an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvictStep {
    /// Of all edges: what is gone, and how much is to go.
    Progress(JobProgress),
    /// The last: what it did on each edge that had something to free.
    Result(Vec<EdgeEviction>),
}

/// What an eviction did on one edge, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeEviction {
    /// The edge's name.
    pub edge: String,
    pub instance: String,
    /// Bytes that had to be freed.
    pub missing: u64,
    /// NAR files that were removed.
    pub files: u64,
    /// What they took on the disk.
    pub bytes: u64,
    /// Bytes that could not be planned for: all that is left is pinned or in flight. 0 where the goal was met.
    pub shortfall: u64,
    /// Bytes that pins keep there.
    pub pinned: u64,
    /// Of a dry run: what would go, in this order; over the wire the first 10,000.
    pub plan: Vec<Planned>,
}

/// A file that would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: NarFileName,
    /// What it takes on the disk, its narinfo file included.
    pub bytes: u64,
    /// The paths whose narinfos name it.
    pub paths: Vec<StorePath>,
    /// In seconds since 1970; `None`: never, as far as is known.
    pub last_access: Option<i64>,
    /// No upstream can give it back.
    pub uploaded: bool,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::evict`].
    pub async fn evict(&self, order: EvictionOrder) -> Result<Steps<EvictStep>> {
        let goal = match order.goal {
            Goal::Limits => None,
            Goal::To(bytes) => Some(WireGoal::To(bytes)),
            Goal::Free(bytes) => Some(WireGoal::Free(bytes)),
        };
        let edge = order.edge.unwrap_or_default();
        let steps = ask!(self.evict(wire::EvictRequest { goal, edge, dry_run: order.dry_run }));
        Ok(steps.map(|said| said.map_err(crate::grpc::plain).and_then(step)).boxed())
    }
}

pub(super) fn order(wire: wire::EvictRequest) -> EvictionOrder {
    let goal = match wire.goal {
        None => Goal::Limits,
        Some(WireGoal::To(bytes)) => Goal::To(bytes),
        Some(WireGoal::Free(bytes)) => Goal::Free(bytes),
    };
    let edge = Some(wire.edge).filter(|edge| !edge.is_empty());
    EvictionOrder { goal, edge, dry_run: wire.dry_run }
}

pub(super) fn step_wire(step: EvictStep) -> wire::EvictReply {
    match step {
        EvictStep::Progress(at) => wire::EvictReply { progress: Some(progress_wire(at)), edges: Vec::new() },
        EvictStep::Result(edges) => {
            wire::EvictReply { progress: None, edges: edges.into_iter().map(eviction_wire).collect() }
        }
    }
}

fn step(wire: wire::EvictReply) -> Result<EvictStep> {
    match wire.progress {
        Some(at) => Ok(EvictStep::Progress(progress(at))),
        None => all(wire.edges, eviction).map(EvictStep::Result),
    }
}

fn eviction_wire(eviction: EdgeEviction) -> wire::EdgeEviction {
    let planned = |planned: Planned| wire::PlannedFile {
        nar: Some(nar_file_name_wire(planned.name)),
        bytes: planned.bytes,
        store_paths: planned.paths.iter().map(ToString::to_string).collect(),
        last_access: planned.last_access,
        uploaded: planned.uploaded,
    };
    wire::EdgeEviction {
        edge: eviction.edge,
        instance: eviction.instance,
        missing: eviction.missing,
        files: eviction.files,
        bytes: eviction.bytes,
        shortfall: eviction.shortfall,
        pinned: eviction.pinned,
        plan: eviction.plan.into_iter().take(MOST_PLANNED).map(planned).collect(),
    }
}

fn eviction(wire: wire::EdgeEviction) -> Result<EdgeEviction> {
    let planned = |file: wire::PlannedFile| {
        Ok(Planned {
            name: nar_file_name(file.nar)?,
            bytes: file.bytes,
            paths: all(file.store_paths, |path| store_path(&path))?,
            last_access: file.last_access,
            uploaded: file.uploaded,
        })
    };
    Ok(EdgeEviction {
        edge: wire.edge,
        instance: wire.instance,
        missing: wire.missing,
        files: wire.files,
        bytes: wire.bytes,
        shortfall: wire.shortfall,
        pinned: wire.pinned,
        plan: all(wire.plan, planned)?,
    })
}
