//! Purges: paths that somebody wants out of the cache.

use std::time::Duration;

use ncps_nix::{StorePath, StorePathHash};

use super::client::{RemoteAdmin, ask};
use super::paths::store_path;
use crate::Result;
use crate::convert::{all, store_path_hash, store_path_hash_bytes};
use crate::gen_v1 as wire;

/// Paths in one answer.
const MOST_PATHS: usize = 10_000;

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
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::purge`].
    pub async fn purge(&self, order: PurgeOrder) -> Result<PurgeReport> {
        let reply = ask!(self.purge(wire::PurgeRequest {
            store_path_hashes: order.paths.into_iter().map(store_path_hash_bytes).collect(),
            name: order.name.unwrap_or_default(),
            upstream: order.upstream.unwrap_or_default(),
            older_than_s: order.older_than.map(|age| age.as_secs()),
            force: order.force,
            dry_run: order.dry_run,
        }));
        report(reply)
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

pub(super) fn report_wire(report: PurgeReport) -> wire::PurgeReply {
    let path = |purged: PurgedPath| wire::PurgedPath {
        store_path: purged.path.to_string(),
        last_use: purged.last_use,
        file_size: purged.file_size,
    };
    wire::PurgeReply {
        count: report.count,
        paths: report.paths.into_iter().take(MOST_PATHS).map(path).collect(),
        absences: report.absences,
        pinned: report.pinned,
        files: report.files,
        bytes: report.bytes,
        unheard: report.unheard,
    }
}

fn report(wire: wire::PurgeReply) -> Result<PurgeReport> {
    let path = |purged: wire::PurgedPath| {
        let path = store_path(&purged.store_path)?;
        Ok(PurgedPath { path, last_use: purged.last_use, file_size: purged.file_size })
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
