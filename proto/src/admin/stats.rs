//! Numbers: what was served and saved, how much there is, and how edges and upstreams are.

use super::client::{RemoteAdmin, ask};
use super::edges::{KnownEdge, RefusedEdge, known, known_wire, refused, refused_wire};
use crate::convert::{self, all, non_empty};
use crate::gen_v1 as wire;
use crate::{Counts, DiskReport, Result, UpstreamTotals};

/// All numbers of a cache. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// Of control.
    pub version: String,
    /// Since when `counts` count: when the index was made.
    pub since: i64,
    /// Of all edges that ever were.
    pub counts: Counts,
    /// The narinfos, with the sizes of their NARs.
    pub narinfos: Sum,
    /// The NAR files that are known, stored or not.
    pub nar_files: Sum,
    /// Absences that are believed.
    pub absences: u64,
    /// Of each edge's store.
    pub max_size: Option<u64>,
    /// Those that are attached, by name.
    pub edges: Vec<EdgeStats>,
    /// Those that are not, and were within 7 days, by name.
    pub away: Vec<KnownEdge>,
    /// Attempts to attach that were refused, the last ones first.
    pub refused: Vec<RefusedEdge>,
}

/// How many there are, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub number: u64,
    pub bytes: u64,
}

/// Whether an edge takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgeState {
    /// It does.
    #[default]
    Attached,
    /// It is to leave, and finishes what runs.
    Draining,
    /// It has: it can be stopped.
    Drained,
}

/// An attached edge.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeStats {
    pub name: String,
    pub instance: String,
    pub url: Option<String>,
    pub zone: Option<String>,
    /// Its disk is kept.
    pub durable: bool,
    /// What its store may take, where it has a limit of its own.
    pub capacity: Option<u64>,
    /// Empty before its first report, like the upstreams.
    pub version: String,
    pub attached_at: i64,
    /// What it said last of its disk.
    pub disk: Option<DiskReport>,
    /// Whether it is to leave.
    pub state: EdgeState,
    /// NAR files that it holds.
    pub files: u64,
    /// Over all of its restarts.
    pub counts: Counts,
    pub upstreams: Vec<UpstreamTotals>,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::stats`].
    pub async fn stats(&self) -> Result<Stats> {
        stats(ask!(self.stats(wire::StatsRequest {})))
    }
}

pub(super) fn stats_wire(stats: Stats) -> wire::StatsReply {
    wire::StatsReply {
        version: stats.version,
        since: stats.since,
        counts: convert::counts_wire(&stats.counts),
        narinfos: Some(sum_wire(stats.narinfos)),
        nar_files: Some(sum_wire(stats.nar_files)),
        absences: stats.absences,
        max_size: stats.max_size,
        edges: stats.edges.into_iter().map(edge_wire).collect(),
        away: stats.away.into_iter().map(known_wire).collect(),
        refused: stats.refused.into_iter().map(refused_wire).collect(),
    }
}

fn edge_wire(edge: EdgeStats) -> wire::EdgeStats {
    wire::EdgeStats {
        name: edge.name,
        instance: edge.instance,
        url: edge.url.unwrap_or_default(),
        zone: edge.zone.unwrap_or_default(),
        durable: edge.durable,
        capacity: edge.capacity,
        version: edge.version,
        attached_at: edge.attached_at,
        disk: edge.disk.map(convert::disk_report_wire),
        state: state_wire(edge.state).into(),
        files: edge.files,
        counts: convert::counts_wire(&edge.counts),
        upstreams: edge.upstreams.into_iter().map(convert::upstream_totals_wire).collect(),
    }
}

fn stats(wire: wire::StatsReply) -> Result<Stats> {
    Ok(Stats {
        version: wire.version,
        since: wire.since,
        counts: convert::counts(&wire.counts),
        narinfos: sum(wire.narinfos),
        nar_files: sum(wire.nar_files),
        absences: wire.absences,
        max_size: wire.max_size,
        edges: all(wire.edges, edge)?,
        away: wire.away.into_iter().map(known).collect(),
        refused: wire.refused.into_iter().map(refused).collect(),
    })
}

fn state_wire(state: EdgeState) -> wire::EdgeState {
    match state {
        EdgeState::Attached => wire::EdgeState::Unspecified,
        EdgeState::Draining => wire::EdgeState::Draining,
        EdgeState::Drained => wire::EdgeState::Drained,
    }
}

fn state(wire: wire::EdgeState) -> EdgeState {
    match wire {
        wire::EdgeState::Unspecified => EdgeState::Attached,
        wire::EdgeState::Draining => EdgeState::Draining,
        wire::EdgeState::Drained => EdgeState::Drained,
    }
}

fn edge(wire: wire::EdgeStats) -> Result<EdgeStats> {
    let state = state(wire.state());
    Ok(EdgeStats {
        state,
        name: wire.name,
        instance: wire.instance,
        url: non_empty(wire.url),
        zone: non_empty(wire.zone),
        durable: wire.durable,
        capacity: wire.capacity,
        version: wire.version,
        attached_at: wire.attached_at,
        disk: wire.disk.as_ref().map(convert::disk_report),
        files: wire.files,
        counts: convert::counts(&wire.counts),
        upstreams: all(wire.upstreams, convert::upstream_totals)?,
    })
}

fn sum_wire(sum: Sum) -> wire::Sum {
    wire::Sum { number: sum.number, bytes: sum.bytes }
}

fn sum(wire: Option<wire::Sum>) -> Sum {
    wire.map(|sum| Sum { number: sum.number, bytes: sum.bytes }).unwrap_or_default()
}
