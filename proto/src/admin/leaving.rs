//! Edges that leave the fleet.

use ncps_nix::StorePath;

use super::client::{RemoteAdmin, ask};
use super::paths::store_path;
use crate::Result;
use crate::convert::all;
use crate::gen_v1 as wire;

/// What an edge's removal does, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeRemoval {
    /// Of the edge.
    pub instance: String,
    /// NAR files that only it holds, and upstreams can give again.
    pub files: u64,
    /// What these take on its disk.
    pub bytes: u64,
    /// Paths whose NARs are uploads that only it holds. With it they are absent.
    pub uploads: Vec<StorePath>,
    /// Uploads that were copied to another edge whose disk is kept.
    pub copied: u64,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::drain_edge`].
    pub async fn drain_edge(&self, edge: String, undo: bool) -> Result<()> {
        ask!(self.drain_edge(wire::DrainEdgeRequest { edge, undo }));
        Ok(())
    }

    /// See [`super::AdminPlane::remove_edge`].
    pub async fn remove_edge(&self, edge: String, dry_run: bool) -> Result<EdgeRemoval> {
        let reply = ask!(self.remove_edge(wire::RemoveEdgeRequest { edge, dry_run }));
        Ok(EdgeRemoval {
            instance: reply.instance,
            files: reply.files,
            bytes: reply.bytes,
            uploads: all(reply.uploads, |path| store_path(&path))?,
            copied: reply.copied,
        })
    }
}

pub(super) fn removal_wire(removal: EdgeRemoval) -> wire::RemoveEdgeReply {
    wire::RemoveEdgeReply {
        instance: removal.instance,
        files: removal.files,
        bytes: removal.bytes,
        uploads: removal.uploads.iter().map(ToString::to_string).collect(),
        copied: removal.copied,
    }
}
