//! What would be lost with a stored file: whatever changes the answer says so here, and the placements follow.
//!
//! # Hidden contract
//! Who calls this holds no turn: the file's is taken here, so that of two changes at once the later one counts.

use ncps_nix::NarFileName;

use crate::index::Index;
use crate::record::Standing;
use crate::sessions::Sessions;

/// What would be lost with a file. Where that can't be known, it is taken for what an upstream can give again.
pub(super) async fn of(index: &Index, name: NarFileName) -> Standing {
    index.standing(name).await.unwrap_or_else(|error| {
        tracing::warn!(nar = %name, error = error.story(), "it is not known whether a file is an upload");
        Standing::Replaceable
    })
}

/// Looks anew at files of which the record, a narinfo that names them, or a place changed.
pub(super) async fn weigh(index: &Index, sessions: &Sessions, names: impl IntoIterator<Item = NarFileName>) {
    for name in names {
        // Eviction asks for what is stored alone. What comes into a store is weighed then.
        if !sessions.is_remembered(name) {
            continue;
        }
        let _turn = index.lock_files([name]).await;
        sessions.stands(name, of(index, name).await);
    }
}
