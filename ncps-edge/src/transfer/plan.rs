//! What a transfer is after and where it can come from: control's answer, made into a list of sources.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName};
use ncps_proto::{Location, NarFacts, Origin};

use crate::upstream::Upstreams;

/// What must come, and from where.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The file to keep; differs from the name asked for where that is an alias.
    pub(super) name: NarFileName,
    /// The exact length of the file, where it is known.
    pub(super) size: Option<u64>,
    /// What it must decode to, where it is known.
    pub(super) nar: Option<NarFacts>,
    pub(super) sources: Vec<Source>,
    /// The store paths to doubt when every source says absent.
    pub(super) store_paths: Vec<ncps_nix::StorePathHash>,
    /// Control could not be asked: that no upstream has the name proves nothing.
    pub(super) control_away: bool,
}

/// One place that may have the bytes.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// An upstream. Decoded on the way where its compression is not the file's.
    Origin(Origin),
    /// Another file of the same NAR in our own store, to be decoded.
    Stored(NarFileName),
}

impl Plan {
    /// For a name that control knows. Other upstreams may have the same bytes under the same name.
    pub(super) fn known(location: Location, upstreams: &Arc<Upstreams>) -> Plan {
        let name = location.name;
        let stored = location.representations.into_iter().filter(|_| name.compression == Compression::None);
        let mut sources: Vec<_> = stored.map(Source::Stored).collect();
        let others = same_name(name, upstreams)
            .filter(|other| location.origins.iter().all(|o| o.upstream != other.upstream))
            .collect::<Vec<_>>();
        sources.extend(location.origins.into_iter().chain(others).map(Source::Origin));
        let size = match (name.compression, location.nar) {
            (Compression::None, Some(nar)) => Some(nar.size),
            _ => location.file_size,
        };
        Plan {
            name,
            size,
            nar: location.nar,
            sources,
            store_paths: location.store_paths,
            control_away: false,
        }
    }

    /// For a name that nobody mentioned: what comes back is checked by its own name.
    pub(super) fn unknown(name: NarFileName, upstreams: &Arc<Upstreams>, control_away: bool) -> Plan {
        let sources = same_name(name, upstreams).map(Source::Origin).collect();
        Plan { name, size: None, nar: None, sources, store_paths: Vec::new(), control_away }
    }

    /// How much the decoded NAR may have. Nothing is known of a foreign name, so its bound is generous.
    pub(super) fn max_nar_size(&self) -> u64 {
        self.nar.map_or(1 << 40, |nar| nar.size)
    }
}

impl Source {
    pub(super) fn label(&self) -> &str {
        match self {
            Source::Origin(origin) => &origin.upstream,
            Source::Stored(_) => "the store",
        }
    }
}

/// The file under its own name at every upstream.
pub(crate) fn same_name(name: NarFileName, upstreams: &Arc<Upstreams>) -> impl Iterator<Item = Origin> {
    upstreams.names().map(move |upstream| Origin {
        upstream: upstream.to_owned(),
        url: name.url(),
        compression: name.compression,
    })
}
