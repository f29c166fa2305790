//! Uploads that nobody has any more: no upstream can give them again, so their narinfos go with them.

use ncps_nix::NarFileName;
use ncps_proto::Result;

use crate::index::Index;
use crate::record::NarFile;
use crate::sessions::Sessions;

/// These files left an edge's store: where it was an upload's last holder, it is given up.
pub(super) async fn left(index: &Index, sessions: &Sessions, names: &[NarFileName]) {
    for name in names.iter().filter(|name| !sessions.is_remembered(**name)) {
        if let Err(error) = give_up(index, sessions, *name).await {
            tracing::warn!(nar = %name, error = error.story(), "an upload is gone and its narinfos are still there");
        }
    }
}

/// Forgets a file that nobody could give again, with the narinfos that name it. Any other stays as it is.
pub(super) async fn give_up(index: &Index, sessions: &Sessions, name: NarFileName) -> Result<()> {
    let _file_turn = index.lock_files([name]).await;
    if !index.file(name).await?.is_some_and(|file| file.is_irreplaceable()) {
        return Ok(());
    }
    let naming = index.naming(name).await?;
    let hashes: Vec<_> = naming.iter().map(|narinfo| narinfo.store_path.hash()).collect();
    let _turns = index.lock_narinfos(hashes.iter().copied()).await;
    for narinfo in &naming {
        tracing::warn!(path = %narinfo.store_path, nar = %name, "an upload is gone, and its narinfo with it");
        index.remove_narinfo(narinfo.store_path.hash());
    }
    index.put_file(name, NarFile::default());
    if !hashes.is_empty() {
        sessions.invalidate(&hashes);
    }
    Ok(())
}
