//! The paths of the index, and all that is known of one.

use std::time::Duration;

use ncps_nix::{NarFileName, NarInfo, StorePath, StorePathHash};

use super::client::{RemoteAdmin, ask};
use super::events::{Event, event, event_wire};
use super::pins::{self, PinRow};
use crate::convert::{self, all, nar_file_name, nar_file_name_wire, store_path_hash_bytes};
use crate::gen_v1 as wire;
use crate::{Error, Origin, Result};

/// Which paths are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathsWanted {
    /// Those after this one, in the order of their hashes.
    pub after: Option<StorePathHash>,
    /// At most so many.
    pub limit: u32,
    /// Only names like this pattern, in which `*` stands for any text and `?` for one character.
    pub name: Option<String>,
    /// Only what clients uploaded and no upstream is known to have.
    pub uploaded: bool,
    /// Only what a pin keeps.
    pub pinned: bool,
}

/// A page of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPage {
    /// May be few, or none, although more come: a page looks at so much of the index only.
    pub paths: Vec<PathRow>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<StorePathHash>,
}

/// A path in a list. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRow {
    pub path: StorePath,
    pub nar_size: u64,
    /// The file that its narinfo names.
    pub nar: NarFileName,
    pub file_size: Option<u64>,
    pub published_at: i64,
    /// Of the NAR.
    pub last_read: i64,
    /// Attached edges that hold the NAR.
    pub copies: u32,
}

/// All that is known of a path. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathDetails {
    /// As it is served.
    pub narinfo: Option<NarInfo>,
    /// Believed absent for so long.
    pub absent: Option<Duration>,
    pub published_at: i64,
    /// Of the NAR.
    pub last_read: i64,
    /// Where the NAR can be fetched, best first.
    pub origins: Vec<Origin>,
    /// Files of the same NAR that were proven.
    pub representations: Vec<NarFileName>,
    /// The attached edges that hold a file of it.
    pub holders: Vec<String>,
    /// What happened to it and to its NAR file, oldest first.
    pub history: Vec<Event>,
    /// The pins that keep it, by label and path.
    pub pins: Vec<PinRow>,
    /// A client brought it, and no upstream is known to have it.
    pub uploaded: bool,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::paths`].
    pub async fn paths(&self, wanted: PathsWanted) -> Result<PathPage> {
        let after = wanted.after.map(store_path_hash_bytes).unwrap_or_default();
        page(ask!(self.paths(wire::PathsRequest {
            after,
            limit: wanted.limit,
            name: wanted.name.unwrap_or_default(),
            uploaded: wanted.uploaded,
            pinned: wanted.pinned,
        })))
    }

    /// See [`super::AdminPlane::path`].
    pub async fn path(&self, hash: StorePathHash) -> Result<PathDetails> {
        details(ask!(self.path(wire::PathRequest { store_path_hash: store_path_hash_bytes(hash) })))
    }
}

pub(super) fn wanted(wire: wire::PathsRequest) -> Result<PathsWanted> {
    let wire::PathsRequest { after, limit, name, uploaded, pinned } = wire;
    let name = Some(name).filter(|name| !name.is_empty());
    Ok(PathsWanted { after: hash(&after)?, limit, name, uploaded, pinned })
}

fn hash(bytes: &[u8]) -> Result<Option<StorePathHash>> {
    Some(bytes).filter(|bytes| !bytes.is_empty()).map(convert::store_path_hash).transpose()
}

pub(super) fn page_wire(page: PathPage) -> wire::PathsReply {
    let row = |row: PathRow| wire::PathRow {
        store_path: row.path.to_string(),
        nar_size: row.nar_size,
        nar: Some(nar_file_name_wire(row.nar)),
        file_size: row.file_size,
        published_at: row.published_at,
        last_read: row.last_read,
        copies: row.copies,
    };
    let next = page.next.map(store_path_hash_bytes).unwrap_or_default();
    wire::PathsReply { paths: page.paths.into_iter().map(row).collect(), next }
}

fn page(wire: wire::PathsReply) -> Result<PathPage> {
    let row = |row: wire::PathRow| {
        Ok(PathRow {
            path: store_path(&row.store_path)?,
            nar_size: row.nar_size,
            nar: nar_file_name(row.nar)?,
            file_size: row.file_size,
            published_at: row.published_at,
            last_read: row.last_read,
            copies: row.copies,
        })
    };
    Ok(PathPage { paths: all(wire.paths, row)?, next: hash(&wire.next)? })
}

/// A store path by its base name, as control says it.
pub(super) fn store_path(base_name: &str) -> Result<StorePath> {
    StorePath::parse(base_name).map_err(|e| Error::internal("read a store path").because(e))
}

pub(super) fn details_wire(details: PathDetails) -> wire::PathReply {
    wire::PathReply {
        narinfo: details.narinfo.map(|narinfo| narinfo.render()),
        absent_ms: details.absent.map(convert::millis),
        published_at: details.published_at,
        last_read: details.last_read,
        origins: details.origins.into_iter().map(convert::origin_wire).collect(),
        representations: details.representations.into_iter().map(nar_file_name_wire).collect(),
        holders: details.holders,
        history: details.history.into_iter().map(event_wire).collect(),
        pins: details.pins.into_iter().map(pins::row_wire).collect(),
        uploaded: details.uploaded,
    }
}

fn details(wire: wire::PathReply) -> Result<PathDetails> {
    Ok(PathDetails {
        narinfo: wire.narinfo.as_deref().map(convert::narinfo).transpose()?,
        absent: wire.absent_ms.map(Duration::from_millis),
        published_at: wire.published_at,
        last_read: wire.last_read,
        origins: all(wire.origins, convert::origin)?,
        representations: all(wire.representations, |name| nar_file_name(Some(name)))?,
        holders: wire.holders,
        history: all(wire.history, event)?,
        pins: all(wire.pins, pins::row)?,
        uploaded: wire.uploaded,
    })
}
