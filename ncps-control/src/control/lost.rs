//! Uploads that nobody has any more, or is to have: no upstream can give them again, so their narinfos go with them.
//! Where another file of the NAR is there yet, they name that one instead.

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::Result;

use super::made::name_instead;
use super::removal::take_narinfo_out;
use crate::index::Index;
use crate::journal::{Journal, Note};
use crate::record::NarFile;
use crate::sessions::Sessions;

/// Who has to know that a file is gone.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) index: &'a Index,
    pub(super) sessions: &'a Sessions,
    pub(super) journal: &'a Journal,
}

/// What becomes of a file that is given up where an edge that is away holds it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// It may bring it back, with the narinfos beside it.
    Welcome,
    /// It drops both.
    Dropped,
}

/// Files that left an edge's store.
pub(super) struct Left<'a> {
    pub(super) instance: &'a str,
    pub(super) names: &'a [NarFileName],
    /// It was to make room, which a copy on a disk that is not kept does not make up for.
    pub(super) for_room: bool,
}

/// What is lost for good.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) paths: Vec<StorePathHash>,
    /// The NARs of these paths, which an edge may hold that does not keep its disk.
    pub(super) files: Vec<NarFileName>,
}

/// Files left an edge's store: where it was an upload's last holder, it is given up, and `why` is in the history of its
/// paths.
pub(super) async fn left(told: Told<'_>, Left { instance, names, for_room }: Left<'_>, why: &Note) -> Lost {
    let mut lost = Lost::default();
    for name in names.iter().filter(|name| told.sessions.is_lost(instance, **name, for_room)) {
        match give_up(told, *name, why, Back::Welcome).await {
            Ok(paths) if paths.is_empty() => {}
            Ok(paths) => {
                lost.paths.extend(paths);
                lost.files.push(*name);
            }
            Err(error) => {
                tracing::warn!(nar = %name, error = error.story(), "an upload is gone and its narinfos are still there");
            }
        }
    }
    lost
}

/// Forgets a file that nobody could give again, with the narinfos that name it. Any other stays as it is. Returns the
/// paths that are gone.
pub(super) async fn give_up(
    told: Told<'_>,
    name: NarFileName,
    why: &Note,
    back: Back,
) -> Result<Vec<StorePathHash>> {
    let Told { index, sessions, journal } = told;
    let others = match index.file(name).await?.and_then(|file| file.nar) {
        Some(nar) => index.others_of(nar.hash, name).await?,
        None => Vec::new(),
    };
    let _file_turns = index.lock_files(others.iter().copied().chain([name])).await;
    let Some(file) = index.file(name).await?.filter(|file| file.is_irreplaceable()) else {
        return Ok(Vec::new());
    };
    if back == Back::Welcome && step_back(told, name, &file, &others).await? {
        return Ok(Vec::new());
    }
    let naming = index.naming(name).await?;
    let _turns = index.lock_narinfos(naming.iter().map(|narinfo| narinfo.store_path.hash())).await;
    let mut lost = Vec::with_capacity(naming.len());
    // Some may have gone before the turns came.
    for narinfo in index.naming(name).await? {
        let hash = narinfo.store_path.hash();
        tracing::warn!(path = %narinfo.store_path, nar = %name, "an upload is gone, and its narinfo with it");
        match back {
            Back::Welcome => index.remove_narinfo(hash),
            Back::Dropped => take_narinfo_out(index, hash, &[name]),
        }
        journal.note(why.clone().path(hash).nar(name));
        lost.push(hash);
    }
    match back {
        Back::Welcome => index.put_file(name, NarFile::default()),
        Back::Dropped => index.remove_file(name),
    }
    if !lost.is_empty() {
        sessions.invalidate(&lost);
    }
    Ok(lost)
}

/// Has the narinfos of a file that is gone name another one of its NAR, where somebody has one. False where nobody has.
async fn step_back(
    Told { index, sessions, .. }: Told<'_>,
    name: NarFileName,
    gone: &NarFile,
    others: &[NarFileName],
) -> Result<bool> {
    let Some(other) = others.iter().copied().find(|other| sessions.is_remembered(*other)) else {
        return Ok(false);
    };
    let file = index.file(other).await?.filter(|file| file.proven && file.nar == gone.nar);
    let Some((file, nar, size)) = file.and_then(|file| Some((file.clone(), file.nar?, file.file_size?)))
    else {
        return Ok(false);
    };
    let changed = name_instead(index, &[name], other, nar, size).await?.changed;
    index.put_file(other, NarFile { drop_at: None, ..NarFile::clone(&file) });
    tracing::warn!(nar = %name, stands_in = %other, "a file of an upload is gone, another one of its NAR is there");
    if !changed.is_empty() {
        sessions.invalidate(&changed);
    }
    Ok(true)
}
