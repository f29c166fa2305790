//! Where the bytes of a NAR file can come from.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarHash, StorePathHash};
use ncps_proto::{Location, Origin, Peer, Result};

use super::Control;
use crate::index::View;
use crate::record::NarFile;

impl Control {
    pub(crate) async fn location(&self, asker: &str, asked: NarFileName) -> Result<Option<Location>> {
        let known = self.index.read(move |index| known(index, asked)).await?;
        let Some(Known { name, file, others, store_paths }) = known else { return Ok(None) };
        Ok(Some(Location {
            name,
            file_size: file.file_size,
            nar: file.nar,
            proven: file.proven,
            uploaded: file.is_irreplaceable(),
            held: self.sessions.has(name, file.is_irreplaceable()),
            away: file.is_irreplaceable() && self.may_be_away(name),
            origins: self.origins(name, &file, &others),
            representations: others.iter().filter(|(_, file)| file.proven).map(|(other, _)| *other).collect(),
            store_paths,
            peers: self.peers(asker, name, &file, &others),
            recipe: file.recipe.clone(),
        }))
    }

    /// Who holds the file itself; after them, where it can be had of another file of its NAR, who holds one of those.
    fn peers(
        &self,
        asker: &str,
        name: NarFileName,
        file: &NarFile,
        others: &[(NarFileName, Arc<NarFile>)],
    ) -> Vec<Peer> {
        let mut peers = self.sessions.peers(asker, name);
        if is_convertible(name, file) {
            for (other, _) in others.iter().filter(|(_, file)| file.proven) {
                let holding = self.sessions.peers(asker, *other).into_iter();
                peers.extend(holding.map(|peer| Peer { holds: Some(*other), ..peer }));
            }
        }
        peers
    }

    /// The file's own origins, best first; after them, for an uncompressed NAR and for what was made, those of its other
    /// representations, which are converted on the way.
    fn origins(
        &self,
        name: NarFileName,
        file: &NarFile,
        others: &[(NarFileName, Arc<NarFile>)],
    ) -> Vec<Origin> {
        let mut origins = self.ranked(&file.origins);
        if is_convertible(name, file) {
            let decoded: Vec<Origin> = others.iter().flat_map(|(_, other)| &other.origins).cloned().collect();
            for origin in self.ranked(&decoded) {
                if !origins.contains(&origin) {
                    origins.push(origin);
                }
            }
        }
        origins
    }

    /// In the order of the upstreams' priorities, and as they became known. Upstreams that are configured
    /// no longer come last: the edge decides whether it may ask them.
    fn ranked(&self, origins: &[Origin]) -> Vec<Origin> {
        let (settings, mut ranked) = (self.settings.get(), origins.to_vec());
        ranked.sort_by_key(|origin| {
            let upstream = settings.upstreams.iter().find(|upstream| upstream.url == origin.upstream);
            upstream.map_or(i64::MAX, |upstream| upstream.priority.into())
        });
        ranked
    }
}

/// Whether a file can be had of any other one of its NAR: by decoding it, or as its recipe says.
fn is_convertible(name: NarFileName, file: &NarFile) -> bool {
    name.compression == Compression::None || file.recipe.is_some()
}

/// What the index knows of a file.
struct Known {
    name: NarFileName,
    file: Arc<NarFile>,
    /// Other representations of its NAR.
    others: Vec<(NarFileName, Arc<NarFile>)>,
    store_paths: Vec<StorePathHash>,
}

fn known(index: &mut View<'_>, asked: NarFileName) -> Result<Option<Known>> {
    let name = index.resolve(asked)?;
    let Some(file) = file_or_decodable(index, name)? else { return Ok(None) };
    let others = match file.nar {
        Some(facts) => index.files_of_but(facts.hash, Some(name))?,
        None => Vec::new(),
    };
    let store_paths = index.paths_naming(name)?;
    Ok(Some(Known { name, file, others, store_paths }))
}

/// A NAR of which only compressed files are known is known, too: they are decoded.
fn file_or_decodable(index: &mut View<'_>, name: NarFileName) -> Result<Option<Arc<NarFile>>> {
    let known = index.file(name)?;
    if known.is_some() || name.compression != Compression::None {
        return Ok(known);
    }
    let files = index.files_of(NarHash(name.hash.0))?;
    let best = files.into_iter().map(|(_, file)| file).max_by_key(|file| file.proven);
    Ok(best.map(|file| Arc::new(NarFile { nar: file.nar, ..NarFile::default() })))
}
