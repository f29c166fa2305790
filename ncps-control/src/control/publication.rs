//! Publishing a narinfo: the first version of a path wins and every later publisher gets that one, unless it
//! replaces a version that lost its NAR.

use std::sync::Arc;

use ncps_nix::{Compression, NarFileName, NarInfo};
use ncps_proto::admin::EventKind;
use ncps_proto::{Publication, Result};

use super::Control;
use crate::index::Held;
use crate::journal::Note;
use crate::metrics::Published;
use crate::publish::Offer;
use crate::record::{NarFile, facts_of, file_of, point_at};

impl Control {
    pub(super) async fn publish(&self, publication: Publication) -> Result<NarInfo> {
        let replaces = publication.replaces;
        let offer = self.policy.offer(publication)?;
        self.index.admit().await?;
        let (offer, made, file_turns) = self.with_file_turns(offer).await?;
        let (hash, offered) = (offer.narinfo.store_path.hash(), offer.file());
        let turn = self.index.lock_narinfos([hash]).await;
        let stored = self.index.narinfo(hash).await?;
        let narinfo = match &stored {
            None => self.store(offer, made).await?,
            Some(stored) if replaces => self.replace(stored, offer).await?,
            Some(stored) => self.keep(stored, offer).await?,
        };
        drop((turn, file_turns));
        let former = stored.map(|stored| file_of(&stored)).filter(|former| *former != offered);
        self.weigh(former.into_iter().chain(made).chain([offered])).await;
        Ok(narinfo)
    }

    /// Takes the turns with the file that the upstream names and with the one that is meant, which mostly
    /// are one, and with the one that was made of them, where there is one. These may change until the turns are there.
    async fn with_file_turns(&self, offer: Offer) -> Result<(Offer, Option<NarFileName>, Held<'_>)> {
        let claimed = offer.file();
        let (mut meant, mut made) = (claimed, self.made_of(offer.facts()).await?);
        loop {
            let turns = self.index.lock_files([claimed, meant].into_iter().chain(made)).await;
            let named = self.under_true_name(offer.clone()).await?;
            let now = self.made_of(offer.facts()).await?;
            if named.file() == meant && now == made {
                return Ok((named, made, turns));
            }
            (meant, made) = (named.file(), now);
        }
    }

    /// Names the offer's file rightly where its file hash is known to be wrong: an earlier commit found
    /// other bytes under that name, or another NAR in them.
    async fn under_true_name(&self, offer: Offer) -> Result<Offer> {
        let claimed = offer.file();
        let name = self.index.resolve(claimed).await?;
        let file = self.index.file(name).await?;
        match file {
            Some(file) if file.contradicts(offer.facts()) => {
                tracing::warn!(path = %offer.narinfo.store_path, file = %name, upstream = offer.origin.upstream,
                    "an upstream names a file that holds another NAR");
                Ok(offer.decoded())
            }
            Some(file) if file.proven => Ok(offer.renamed(name, file.file_size)),
            _ => Ok(offer),
        }
    }

    /// Where a file was made of the one that the upstream names, and somebody has it, the narinfo names that one.
    async fn store(&self, offer: Offer, made: Option<NarFileName>) -> Result<NarInfo> {
        self.put_offered_file(&offer, false).await?;
        let mut narinfo = offer.narinfo;
        if let Some(name) = made {
            let size = self.index.file(name).await?.and_then(|file| file.file_size);
            point_at(&mut narinfo, name, size);
        }
        let narinfo = Arc::new(narinfo);
        tracing::debug!(path = %narinfo.store_path, upstream = offer.origin.upstream, "published");
        self.index.put_new_narinfo(Arc::clone(&narinfo));
        self.note_publication(EventKind::Published, &narinfo, &offer.origin.upstream);
        self.metrics.publications.inc(Published::Stored);
        Ok(NarInfo::clone(&narinfo))
    }

    async fn replace(&self, stored: &NarInfo, offer: Offer) -> Result<NarInfo> {
        if stored.nar_hash != offer.narinfo.nar_hash {
            tracing::warn!(path = %stored.store_path, upstream = offer.origin.upstream,
                old = %stored.nar_hash, new = %offer.narinfo.nar_hash, "a path has another NAR now");
        }
        self.put_offered_file(&offer, true).await?;
        let narinfo = Arc::new(offer.narinfo);
        self.index.put_narinfo(Arc::clone(&narinfo));
        self.note_publication(EventKind::Replaced, &narinfo, &offer.origin.upstream);
        self.invalidate(&[stored.store_path.hash()]);
        self.metrics.publications.inc(Published::Replaced);
        Ok(NarInfo::clone(&narinfo))
    }

    fn note_publication(&self, kind: EventKind, narinfo: &NarInfo, upstream: &str) {
        let note = Note::new(kind, format!("{} from {upstream}", narinfo.store_path.name()));
        self.journal.note(note.path(narinfo.store_path.hash()).nar(file_of(narinfo)));
    }

    /// The stored version stays. Where the offer names the same file, its upstream is one more source; where the NAR is
    /// offered uncompressed any file of it will do, since it is decoded on the way.
    async fn keep(&self, stored: &NarInfo, offer: Offer) -> Result<NarInfo> {
        let serves = file_of(stored) == offer.file() || stored.compression == Compression::None;
        if serves && facts_of(stored) == offer.facts() {
            self.put_offered_file(&offer, false).await?;
        }
        self.metrics.publications.inc(Published::Kept);
        Ok(stored.clone())
    }

    /// Makes sure of the file's record and of the offer's origin in it: as the best one where it `leads`.
    async fn put_offered_file(&self, offer: &Offer, leads: bool) -> Result<()> {
        let name = offer.file();
        let known = self.index.file(name).await?;
        let mut file = known.as_deref().cloned().unwrap_or_default();
        file.file_size = file.file_size.or(offer.narinfo.file_size);
        file.nar = file.nar.or(Some(offer.facts()));
        file.add_origin(offer.origin.clone(), leads);
        self.put_if_changed(name, known.as_deref(), file);
        Ok(())
    }

    pub(super) fn put_if_changed(&self, name: NarFileName, known: Option<&NarFile>, file: NarFile) {
        if known != Some(&file) {
            self.index.put_file(name, file);
        }
    }
}
