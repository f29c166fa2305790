//! What one edge asks another one to do for a client, and control's word that it may: a warrant. So nobody but the edge that
//! a client talks to sees what the client has shown.
//!
//! Control makes warrants and takes them back; who may have one, and for how long, is its own to know.

use ncps_nix::{NarFileName, ObjectName};

use crate::convert::{nar_file_name, nar_file_name_wire, object_name, required};
use crate::gen_v1 as wire;
use crate::{Result, Scope, Secret};

/// What an edge asks another one to do for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    KeepNar(NarFileName),
    KeepObject(ObjectName),
    DeleteObject(ObjectName),
}

impl Errand {
    /// What the client has to be allowed.
    pub const fn scope(&self) -> Scope {
        match self {
            Errand::KeepNar(_) | Errand::KeepObject(_) => Scope::Write,
            Errand::DeleteObject(_) => Scope::Delete,
        }
    }
}

/// An edge that was asked to do an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub instance: String,
    /// As the edge that asks has shown it.
    pub warrant: Secret,
}

/// Who may do an errand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warrants {
    /// Those that do it now, in the order to ask. Never the caller.
    pub edges: Vec<Warranted>,
    /// An edge keeps its disk, whether it can be reached or not.
    pub known: bool,
}

/// An edge that may do an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warranted {
    /// How it is reached, without a trailing slash.
    pub url: String,
    /// Control's word that it may, once: good at this edge, for this errand, and for nothing else.
    pub warrant: Secret,
}

pub(crate) fn errand(wire: Option<wire::Errand>) -> Result<Errand> {
    use wire::errand::Errand as Wire;
    Ok(match required(required(wire, "errand")?.errand, "errand")? {
        Wire::KeepNar(name) => Errand::KeepNar(nar_file_name(Some(name))?),
        Wire::KeepObject(name) => Errand::KeepObject(object_name(&name)?),
        Wire::DeleteObject(name) => Errand::DeleteObject(object_name(&name)?),
    })
}

pub(crate) fn errand_wire(errand: Errand) -> wire::Errand {
    use wire::errand::Errand as Wire;
    let errand = match errand {
        Errand::KeepNar(name) => Wire::KeepNar(nar_file_name_wire(name)),
        Errand::KeepObject(name) => Wire::KeepObject(name.to_string()),
        Errand::DeleteObject(name) => Wire::DeleteObject(name.to_string()),
    };
    wire::Errand { errand: Some(errand) }
}

pub(crate) fn bearer(wire: Option<wire::Bearer>) -> Result<Bearer> {
    let wire::Bearer { instance, warrant } = required(wire, "bearer")?;
    Ok(Bearer { instance, warrant: Secret::new(warrant) })
}

pub(crate) fn bearer_wire(bearer: Bearer) -> wire::Bearer {
    let warrant = bearer.warrant.reveal().to_owned();
    wire::Bearer { instance: bearer.instance, warrant }
}

pub(crate) fn warrants(wire: wire::WarrantReply) -> Warrants {
    let edge = |wire::Warranted { url, warrant }| Warranted { url, warrant: Secret::new(warrant) };
    Warrants { edges: wire.edges.into_iter().map(edge).collect(), known: wire.known }
}

pub(crate) fn warrants_wire(warrants: Warrants) -> wire::WarrantReply {
    let edge = |edge: Warranted| wire::Warranted { url: edge.url, warrant: edge.warrant.reveal().to_owned() };
    wire::WarrantReply { edges: warrants.edges.into_iter().map(edge).collect(), known: warrants.known }
}
