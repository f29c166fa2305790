//! Where the bytes of a NAR file can come from.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarHash};
use ncps_proto::{Location, Origin, Result};

use super::Control;
use crate::record::NarFile;

impl Control {
    pub(crate) async fn location(&self, asker: &str, asked: NarFileName) -> Result<Option<Location>> {
        let name = self.index.resolve(asked).await?;
        let Some(file) = self.file_or_decodable(name).await? else { return Ok(None) };
        let others = self.representations(name, &file).await?;
        let naming = self.index.naming(name).await?;
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
            store_paths: naming.iter().map(|narinfo| narinfo.store_path.hash()).collect(),
            peers: self.sessions.peers(asker, name),
        }))
    }

    /// A NAR of which only compressed files are known is known, too: they are decoded.
    async fn file_or_decodable(&self, name: NarFileName) -> Result<Option<Arc<NarFile>>> {
        let known = self.index.file(name).await?;
        if known.is_some() || name.compression != Compression::None {
            return Ok(known);
        }
        let files = self.index.files_of(NarHash(name.hash.0)).await?;
        let best = files.into_iter().map(|(_, file)| file).max_by_key(|file| file.proven);
        Ok(best.map(|file| Arc::new(NarFile { nar: file.nar, ..NarFile::default() })))
    }

    async fn representations(
        &self,
        name: NarFileName,
        file: &NarFile,
    ) -> Result<Vec<(NarFileName, Arc<NarFile>)>> {
        let Some(facts) = file.nar else { return Ok(Vec::new()) };
        let mut files = self.index.files_of(facts.hash).await?;
        files.retain(|(other, _)| *other != name);
        Ok(files)
    }

    /// The file's own origins, best first; after them, for an uncompressed NAR, those of its other
    /// representations, which are decoded on the way.
    fn origins(
        &self,
        name: NarFileName,
        file: &NarFile,
        others: &[(NarFileName, Arc<NarFile>)],
    ) -> Vec<Origin> {
        let mut origins = self.ranked(&file.origins);
        if name.compression == Compression::None {
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
