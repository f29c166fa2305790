//! Edges that are not attached: those that were, and those that were turned away. Times are seconds since 1970.

use crate::convert::non_empty;
use crate::gen_v1 as wire;

/// An edge by its name, as it was when it was attached last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEdge {
    pub name: String,
    pub instance: String,
    pub url: Option<String>,
    pub zone: Option<String>,
    /// Its disk is kept.
    pub durable: bool,
    /// What its store may take, where it has a limit of its own.
    pub capacity: Option<u64>,
    pub version: String,
    pub first_seen: i64,
    pub last_seen: i64,
}

/// Attempts of one to attach, or to connect, that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEdge {
    /// The name that it gave, if it came so far.
    pub name: Option<String>,
    /// The address that it came from, where that is known.
    pub peer: Option<String>,
    /// As in the metric, such as `token` or `name`.
    pub reason: String,
    /// For people.
    pub why: String,
    pub first: i64,
    pub last: i64,
    pub times: u64,
}

pub(super) fn known_wire(edge: KnownEdge) -> wire::KnownEdge {
    wire::KnownEdge {
        name: edge.name,
        instance: edge.instance,
        url: edge.url.unwrap_or_default(),
        zone: edge.zone.unwrap_or_default(),
        durable: edge.durable,
        capacity: edge.capacity,
        version: edge.version,
        first_seen: edge.first_seen,
        last_seen: edge.last_seen,
    }
}

pub(super) fn known(wire: wire::KnownEdge) -> KnownEdge {
    KnownEdge {
        name: wire.name,
        instance: wire.instance,
        url: non_empty(wire.url),
        zone: non_empty(wire.zone),
        durable: wire.durable,
        capacity: wire.capacity,
        version: wire.version,
        first_seen: wire.first_seen,
        last_seen: wire.last_seen,
    }
}

pub(super) fn refused_wire(refused: RefusedEdge) -> wire::RefusedEdge {
    wire::RefusedEdge {
        name: refused.name.unwrap_or_default(),
        peer: refused.peer.unwrap_or_default(),
        reason: refused.reason,
        why: refused.why,
        first: refused.first,
        last: refused.last,
        times: refused.times,
    }
}

pub(super) fn refused(wire: wire::RefusedEdge) -> RefusedEdge {
    RefusedEdge {
        name: non_empty(wire.name),
        peer: non_empty(wire.peer),
        reason: wire.reason,
        why: wire.why,
        first: wire.first,
        last: wire.last,
        times: wire.times,
    }
}
