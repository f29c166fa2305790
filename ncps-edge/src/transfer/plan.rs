//! What a transfer is after and where it can come from: control's answer, made into a list of sources.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarFileNameError};
use ncps_proto::{Location, NarFacts, Origin, Recipe};

use super::encode::{Encoding, library};
use crate::upstream::{UpstreamError, Upstreams};
use crate::via::Via;

/// A NAR file as somebody asks for it. Caches spell one name in several ways, and have it under theirs alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: NarFileName,
    /// The relative URL as it was spelled, where that is not how we do it.
    foreign: Option<String>,
    /// The way that the request came: who is asked for it must know.
    pub via: Via,
    /// Nobody asks for it now: it is to lie here.
    pub(super) ours: bool,
}

impl Wanted {
    /// A file that we ourselves want.
    pub(crate) fn ours(name: NarFileName) -> Wanted {
        Wanted { name, foreign: None, via: Via::direct(), ours: true }
    }

    /// Reads what follows `nar/` in a request path.
    ///
    /// # Errors
    /// Where it is no name of a NAR file that we could have.
    pub fn parse(file: &str, via: Via) -> Result<Wanted, NarFileNameError> {
        let name = NarFileName::parse(file)?;
        let foreign = (name.file_name() != file).then(|| format!("nar/{file}"));
        Ok(Wanted { name, foreign, via, ours: false })
    }
}

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
    /// A client brought it, and no upstream is known to have it: none is asked for its name.
    pub(super) uploaded: bool,
    /// Control could not be asked: that no upstream has the name proves nothing.
    pub(super) control_away: bool,
    pub(super) via: Via,
    /// It is to lie here, whoever else has it.
    pub(super) ours: bool,
    /// How it was made, and is made again, of any other file of its NAR.
    pub(super) recipe: Option<Recipe>,
    /// It was made by another encoder: what comes is another file of its NAR, and no part of the one asked for.
    pub(super) stands_in: bool,
    /// Other files of the same kind of its NAR, which could stand in for it.
    pub(super) alike: Vec<NarFileName>,
}

/// A file at another edge of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerFile {
    pub(super) url: String,
    pub(super) name: NarFileName,
}

/// One place that may have the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Where a narinfo says that it is. Decoded on the way where its compression is not the file's.
    Origin(Origin),
    /// An upstream that may have it under the name that we have for it, which it need not understand.
    ByName(Origin),
    /// Another file of the same NAR in our own store, to be decoded.
    Stored(NarFileName),
    /// In the store of another edge, as control believes.
    Peer(PeerFile),
    /// On its way into another edge, whose turn it is.
    Running(PeerFile),
}

impl Plan {
    /// For a name that control knows. Other upstreams may have the same bytes under the same name.
    pub(super) fn known(location: Location, wanted: &Wanted, upstreams: &Arc<Upstreams>) -> Plan {
        let name = location.name;
        let recipe = location.recipe.filter(|_| location.nar.is_some());
        let stands_in = recipe.as_ref().is_some_and(|recipe| recipe.encoder != library());
        let is_convertible = name.compression == Compression::None || recipe.is_some();
        let is_alike = |other: &NarFileName| other.compression == name.compression;
        let (alike, other_kinds): (Vec<_>, Vec<_>) = location.representations.into_iter().partition(is_alike);
        let mut sources: Vec<_> =
            other_kinds.into_iter().filter(|_| is_convertible).map(Source::Stored).collect();
        let peers = location.peers.into_iter().filter(|peer| !peer.holds.as_ref().is_some_and(is_alike));
        sources.extend(
            peers.map(|peer| Source::Peer(PeerFile { name: peer.holds.unwrap_or(name), url: peer.url })),
        );
        let others = same_name(name, upstreams)
            .filter(|_| !location.uploaded && recipe.is_none())
            .filter(|other| location.origins.iter().all(|o| o.upstream != other.upstream))
            .collect::<Vec<_>>();
        let origins =
            location.origins.into_iter().map(Source::Origin).chain(others.into_iter().map(Source::ByName));
        sources.extend(origins.filter(|source| !upstreams.waits(source.label(), &wanted.via)));
        let size = match (name.compression, location.nar) {
            _ if stands_in => None,
            (Compression::None, Some(nar)) => Some(nar.size),
            _ => location.file_size,
        };
        Plan {
            name,
            size,
            nar: location.nar,
            sources,
            store_paths: location.store_paths,
            uploaded: location.uploaded,
            control_away: false,
            via: wanted.via.clone(),
            ours: wanted.ours,
            recipe,
            stands_in,
            alike,
        }
    }

    /// For a name that nobody mentioned: what comes back is checked by its own name.
    /// Asked for as it was spelled first: who handed that out has the file under no other name.
    pub(super) fn unknown(wanted: &Wanted, upstreams: &Arc<Upstreams>, control_away: bool) -> Plan {
        let name = wanted.name;
        let urls = wanted.foreign.clone().into_iter().chain([name.url()]);
        let origins = urls.flat_map(|url| everywhere(url, name.compression, upstreams));
        let origins = origins.filter(|origin| !upstreams.waits(&origin.upstream, &wanted.via));
        let sources = origins.map(Source::ByName).collect();
        Plan {
            name,
            size: None,
            nar: None,
            sources,
            store_paths: Vec::new(),
            uploaded: false,
            control_away,
            via: wanted.via.clone(),
            ours: wanted.ours,
            recipe: None,
            stands_in: false,
            alike: Vec::new(),
        }
    }

    /// How other files of its NAR are compressed to become it.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        let level = self.recipe.as_ref()?.level;
        Some(Encoding { level, nar_size: self.nar?.size })
    }

    /// Whether it is made of what this source gives.
    pub(super) fn makes_of(&self, source: &Source) -> bool {
        let given = match source {
            Source::Origin(origin) | Source::ByName(origin) => origin.compression,
            Source::Stored(name) => name.compression,
            Source::Peer(peer) | Source::Running(peer) => peer.name.compression,
        };
        self.recipe.is_some() && given != self.name.compression
    }

    /// How a file was made that came in place of this one.
    pub(super) fn made_now(&self) -> Option<Recipe> {
        Some(Recipe { encoder: library(), ..self.recipe.clone()? })
    }

    /// The same for readers that go on alone, from this source first.
    pub(super) fn preferring(mut self, source: Source) -> Plan {
        self.sources.retain(|other| *other != source);
        self.sources.insert(0, source);
        self
    }

    /// How much the decoded NAR may have. Nothing is known of a foreign name, so its bound is generous.
    pub(super) fn max_nar_size(&self) -> u64 {
        self.nar.map_or(1 << 40, |nar| nar.size)
    }
}

impl Source {
    pub(super) fn label(&self) -> &str {
        match self {
            Source::Origin(origin) | Source::ByName(origin) => &origin.upstream,
            Source::Stored(_) => "the store",
            Source::Peer(peer) | Source::Running(peer) => &peer.url,
        }
    }

    /// Where it can be fetched again.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Source::Origin(origin) | Source::ByName(origin) => Some(origin),
            Source::Stored(_) | Source::Peer(_) | Source::Running(_) => None,
        }
    }

    /// Whether it is outside of the fleet: there goes only whose turn it is.
    pub(super) fn is_upstream(&self) -> bool {
        self.origin().is_some()
    }

    /// Whether it is another edge.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self, Source::Peer(_) | Source::Running(_))
    }

    /// Whether a failure only says that the upstream has no such name: caches of other kinds refuse what does not look
    /// like theirs (nix-serve-ng with 400, Snix with 401).
    pub(super) fn is_unknown_name(&self, error: &UpstreamError) -> bool {
        let refused = matches!(error, UpstreamError::Status(400 | 401 | 405 | 406 | 414 | 422));
        matches!(self, Source::ByName(_)) && refused
    }
}

/// The file under its own name at every upstream.
fn same_name(name: NarFileName, upstreams: &Arc<Upstreams>) -> impl Iterator<Item = Origin> {
    everywhere(name.url(), name.compression, upstreams)
}

fn everywhere(
    url: String,
    compression: Compression,
    upstreams: &Arc<Upstreams>,
) -> impl Iterator<Item = Origin> {
    let at = move |upstream: &str| Origin { upstream: upstream.to_owned(), url: url.clone(), compression };
    upstreams.names().map(at)
}
