//! What has to hold.
//!
//! At any time: no turn is held by an edge whose session ended; nothing that is pinned is told to go; an answer finds the
//! order that it answers.
//!
//! After quiet: every order was answered or given up, and every client was; control believes of each edge exactly what is
//! on its disk; a narinfo on a disk lies beside its file and is one that the index has; what was purged is nowhere, unless
//! somebody asked for it again.
//!
//! A file that makes room because another edge has it is there on another disk, and an upload that a client was told to be
//! kept is kept.

use super::model::{FIRST_UPSTREAM, Path};
use super::world::World;

/// Something did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// With which it happens again.
    pub seed: u64,
    /// After the start.
    pub second: u64,
    pub what: String,
}

impl World {
    pub(super) fn broken(&self, what: String) -> Broken {
        Broken { seed: self.seed, second: self.now.as_secs(), what }
    }

    /// A file made room.
    pub(super) fn last_copy(&mut self, which: usize, path: Path) -> Result<(), Broken> {
        let instance = self.edges[which].instance.clone();
        self.tell(format_args!("edge {which} evicts {path}"));
        let was_spare = self.spare.remove(&(instance, path));
        let is_elsewhere = self.edges.iter().any(|edge| edge.disk.contains(&path));
        if was_spare && !is_elsewhere && self.acknowledged.contains(&path) {
            return Err(
                self.broken(format!("edge {which} evicted the last copy of {path} as one of several"))
            );
        }
        Ok(())
    }

    /// After quiet.
    pub(super) fn agrees(&self) -> Result<(), Broken> {
        let Some(control) = &self.control else { return Err(self.broken("control is down".to_owned())) };
        if let Some((number, waiter)) = control.waiters.first_key_value() {
            return Err(self.broken(format!("order {number} is never answered: {waiter:?}")));
        }
        for (which, edge) in self.edges.iter().enumerate() {
            let mut believed: Vec<Path> = control
                .fleet
                .holdings(&edge.instance)
                .into_iter()
                .map(|name| self.names.path(name))
                .collect();
            believed.sort_unstable();
            if !believed.iter().eq(&edge.disk) {
                let disk = &edge.disk;
                return Err(
                    self.broken(format!("control believes {believed:?} of edge {which}, which has {disk:?}"))
                );
            }
            if let Some(path) = edge.disk.iter().find(|path| self.purged.contains(path)) {
                return Err(self.broken(format!("edge {which} has {path}, which was purged")));
            }
            let is_wrong = |path: &&Path| !edge.disk.contains(*path) || !self.rows.narinfos.contains(*path);
            if let Some(path) = edge.narinfos.iter().find(is_wrong) {
                return Err(
                    self.broken(format!("edge {which} has a narinfo file of {path}, which it must not"))
                );
            }
            if let Some(path) = edge.near.iter().find(|path| !self.rows.narinfos.contains(path)) {
                return Err(
                    self.broken(format!("edge {which} would serve the narinfo of {path}, which is gone"))
                );
            }
        }
        if let Some(path) = self.rows.narinfos.iter().find(|path| self.purged.contains(path)) {
            return Err(self.broken(format!("the index has {path}, which was purged")));
        }
        self.uploads_are_kept()
    }

    fn uploads_are_kept(&self) -> Result<(), Broken> {
        let is_held = |path: &Path| self.edges.iter().any(|edge| edge.disk.contains(path));
        if let Some(path) = self.acknowledged.iter().find(|path| !is_held(path)) {
            return Err(self.broken(format!("{path} was uploaded, and nobody has it")));
        }
        let lost = self.acknowledged.iter().find(|path| !self.rows.narinfos.contains(path));
        match lost.filter(|path| **path < FIRST_UPSTREAM) {
            Some(path) => Err(self.broken(format!("{path} was uploaded, and the index does not have it"))),
            None => Ok(()),
        }
    }
}
