//! Reading the index: what waits for its row from memory, the rest from the database, on one connection and one thread for
//! as many questions as a use case has (see [`super::Index::read`]).
//!
//! # Hidden contract
//! Memory is asked before a row is read, and a row counts only where memory did not know: what is written meanwhile may be
//! seen or not, and nothing that was seen is older than the question.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ncps_nix::{NarFileName, NarHash, NarInfo, StorePathHash};
use ncps_proto::{Error, Result};
use ncps_runtime::clock::UnixTime;

use super::overlay::Overlay;
use crate::db::{Met, Reader};
use crate::record::{NarFile, file_of};

/// Aliases never point at aliases for long: each is put to a true name. The limit ends a damaged chain.
const MAX_ALIASES: usize = 8;

/// A reader of memory and database.
pub(crate) struct View<'a> {
    overlay: &'a Overlay,
    rows: &'a mut Reader,
}

impl<'a> View<'a> {
    pub(super) fn new(overlay: &'a Overlay, rows: &'a mut Reader) -> View<'a> {
        View { overlay, rows }
    }

    /// After memory was asked in vain: what left it before is in these rows.
    fn rows(&mut self) -> Result<&mut Reader> {
        Ok(self.rows.as_of(self.overlay.settled())?)
    }

    pub(crate) fn narinfo(&mut self, hash: StorePathHash) -> Result<Option<Arc<NarInfo>>> {
        match self.overlay.narinfo(hash) {
            Some(waiting) => Ok(waiting),
            None => Ok(self.rows()?.narinfo(hash)?.map(Arc::new)),
        }
    }

    pub(crate) fn file(&mut self, name: NarFileName) -> Result<Option<Arc<NarFile>>> {
        match self.overlay.file(name) {
            Some(waiting) => Ok(waiting),
            None => Ok(self.rows()?.nar_file(name)?.map(Arc::new)),
        }
    }

    /// The file that a name means: another one where it turned out wrong.
    pub(crate) fn resolve(&mut self, name: NarFileName) -> Result<NarFileName> {
        let mut meant = name;
        for _ in 0..MAX_ALIASES {
            match self.alias(meant)? {
                Some(next) => meant = next,
                None => return Ok(meant),
            }
        }
        Err(Error::internal(format!("the aliases of {name} go round in a circle")))
    }

    fn alias(&mut self, name: NarFileName) -> Result<Option<NarFileName>> {
        match self.overlay.alias(name) {
            Some(waiting) => Ok(waiting),
            None => Ok(self.rows()?.alias(name)?),
        }
    }

    /// The narinfos that name a file, in the order of their paths.
    pub(crate) fn naming(&mut self, name: NarFileName) -> Result<Vec<Arc<NarInfo>>> {
        let mut hashes = BTreeSet::from_iter(self.overlay.naming(name));
        hashes.extend(self.rows()?.naming(name)?);
        let mut narinfos = Vec::with_capacity(hashes.len());
        for hash in hashes {
            // A row may be older than what waits: only what is read now counts.
            let narinfo = self.narinfo(hash)?;
            narinfos.extend(narinfo.filter(|narinfo| file_of(narinfo) == name));
        }
        Ok(narinfos)
    }

    /// The same, of the paths alone.
    pub(crate) fn paths_naming(&mut self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        let (settled, waiting) = (self.overlay.settled(), self.overlay.naming(name));
        let mut hashes = BTreeSet::from_iter(self.rows()?.naming(name)?);
        // One that waits may name another file by now.
        hashes.retain(|hash| self.overlay.narinfo(*hash).is_none());
        hashes.extend(waiting);
        if self.overlay.settled() == settled {
            return Ok(hashes.into_iter().collect());
        }
        // Rows were written meanwhile: those that were read may be the former ones.
        Ok(self.naming(name)?.iter().map(|narinfo| narinfo.store_path.hash()).collect())
    }

    /// The paths whose narinfos may lie beside a file at an edge: those that name it, and where another file of its NAR has
    /// taken its place, those that name that one now.
    pub(crate) fn paths_beside(&mut self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        let superseded = self.file(name)?.filter(|file| file.drop_at.is_some());
        let Some(nar) = superseded.and_then(|file| file.nar) else { return self.paths_naming(name) };
        let mut paths = BTreeSet::new();
        for (file, _) in self.files_of(nar.hash)? {
            paths.extend(self.paths_naming(file)?);
        }
        Ok(paths.into_iter().collect())
    }

    /// The files of a NAR, in the order of their names.
    pub(crate) fn files_of(&mut self, nar: NarHash) -> Result<Vec<(NarFileName, Arc<NarFile>)>> {
        self.files_of_but(nar, None)
    }

    /// The same without one.
    pub(crate) fn files_of_but(
        &mut self,
        nar: NarHash,
        but: Option<NarFileName>,
    ) -> Result<Vec<(NarFileName, Arc<NarFile>)>> {
        let mut names = BTreeSet::from_iter(self.overlay.files_of(nar));
        names.extend(self.rows()?.files_of(nar)?);
        let mut files = Vec::new();
        for name in names.into_iter().filter(|name| Some(*name) != but) {
            let file = self.file(name)?;
            let file = file.filter(|file| file.nar.is_some_and(|facts| facts.hash == nar));
            files.extend(file.map(|file| (name, file)));
        }
        Ok(files)
    }

    /// What there is to know of files that an edge holds; those that are not known are left out.
    pub(crate) fn met(&mut self, names: &[NarFileName]) -> Result<HashMap<NarFileName, Met>> {
        let mut known = HashMap::with_capacity(names.len());
        for name in names {
            let (waiting, accessed) = (self.overlay.file(*name), self.overlay.last_access(*name));
            let row = self.rows()?.met(*name)?;
            if waiting.is_none() && row.is_none() {
                continue;
            }
            let accessed = accessed.or(row.map(|row| row.accessed)).unwrap_or(UnixTime(0));
            let (size, irreplaceable) = match waiting {
                Some(Some(file)) => (file.file_size.filter(|_| file.proven), file.is_irreplaceable()),
                Some(None) => (None, false),
                None => row.map_or((None, false), |row| (row.size, row.irreplaceable)),
            };
            known.insert(*name, Met { accessed, size, irreplaceable });
        }
        Ok(known)
    }
}
