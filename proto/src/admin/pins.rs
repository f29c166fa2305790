//! Pins: roots whose closures are kept.

use std::time::Duration;

use ncps_nix::{StorePath, StorePathHash};

use super::client::{RemoteAdmin, ask};
use super::paths::store_path;
use crate::convert::{all, malformed, store_path_hash_bytes};
use crate::gen_v1 as wire;
use crate::{Error, Result};

/// A pin that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinOrder {
    pub path: StorePathHash,
    pub label: Option<String>,
    /// `None`: for good.
    pub lasts: Option<Duration>,
}

/// A pin. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinRow {
    pub path: StorePath,
    pub label: Option<String>,
    /// Who made it.
    pub made_by: String,
    pub created_at: i64,
    /// From then on it protects nothing.
    pub expires_at: Option<i64>,
}

/// A pin that was made, and how much it protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub pin: PinRow,
    /// Paths of which there is a narinfo.
    pub paths: u64,
    /// Paths that are referenced and not in the index (yet).
    pub unknown: u64,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::add_pin`].
    pub async fn add_pin(&self, PinOrder { path, label, lasts }: PinOrder) -> Result<Pinned> {
        let reply = ask!(self.add_pin(wire::AddPinRequest {
            store_path_hash: store_path_hash_bytes(path),
            label: label.unwrap_or_default(),
            lasts_s: lasts.map(|lasts| lasts.as_secs()),
        }));
        let pin = row(reply.pin.ok_or_else(|| Error::internal("a pin was made and not said"))?)?;
        Ok(Pinned { pin, paths: reply.paths, unknown: reply.unknown })
    }

    /// See [`super::AdminPlane::remove_pin`].
    pub async fn remove_pin(&self, what: String) -> Result<Vec<PinRow>> {
        all(ask!(self.remove_pin(wire::RemovePinRequest { what })).pins, row)
    }

    /// See [`super::AdminPlane::pins`].
    pub async fn pins(&self) -> Result<Vec<PinRow>> {
        all(ask!(self.pins(wire::PinsRequest {})).pins, row)
    }
}

pub(super) fn order(wire: wire::AddPinRequest) -> Result<PinOrder> {
    let path = crate::convert::store_path_hash(&wire.store_path_hash).map_err(|_| malformed("path"))?;
    let label = Some(wire.label).filter(|label| !label.is_empty());
    Ok(PinOrder { path, label, lasts: wire.lasts_s.map(Duration::from_secs) })
}

pub(super) fn pinned_wire(Pinned { pin, paths, unknown }: Pinned) -> wire::AddPinReply {
    wire::AddPinReply { pin: Some(row_wire(pin)), paths, unknown }
}

pub(super) fn pins_wire(pins: Vec<PinRow>) -> wire::PinsReply {
    wire::PinsReply { pins: pins.into_iter().map(row_wire).collect() }
}

pub(super) fn row_wire(pin: PinRow) -> wire::Pin {
    wire::Pin {
        store_path: pin.path.to_string(),
        label: pin.label.unwrap_or_default(),
        made_by: pin.made_by,
        created_at: pin.created_at,
        expires_at: pin.expires_at,
    }
}

pub(super) fn row(wire: wire::Pin) -> Result<PinRow> {
    Ok(PinRow {
        path: store_path(&wire.store_path)?,
        label: Some(wire.label).filter(|label| !label.is_empty()),
        made_by: wire.made_by,
        created_at: wire.created_at,
        expires_at: wire.expires_at,
    })
}
