//! A copy of the index on its way out, and one on its way in.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use ncps_proto::admin::{BackupPiece, Caller, Staged, Steps};
use ncps_proto::{Code, Error, Result};

use super::Control;
use crate::db::Refused;

/// Bytes in one piece.
const PIECE: usize = 256 << 10;

/// One copy at a time in either direction.
#[derive(Debug, Default)]
pub(super) struct Copies {
    outward: Arc<tokio::sync::Mutex<()>>,
    inward: Arc<tokio::sync::Mutex<()>>,
}

impl Control {
    /// A consistent copy of all that was said so far.
    pub(crate) async fn copy_out(&self) -> Result<Steps<BackupPiece>> {
        let turn = Arc::clone(&self.copies.outward).try_lock_owned().map_err(|_| busy("backup"))?;
        self.index.flushed().await;
        let copy = self.index.copy().await?;
        let bytes = copy.metadata().map_err(|e| disk("look at the copy", e))?.len();
        drop(turn);
        let pieces = stream::try_unfold(Some((copy, bytes)), |left| async move {
            let Some((mut copy, bytes)) = left else { return Ok(None) };
            let read = blocking(move || {
                let mut piece = vec![0; PIECE];
                let read = fill(&mut copy, &mut piece)?;
                piece.truncate(read);
                Ok((piece, copy))
            });
            let (piece, copy) = read.await.map_err(|e| disk("read the copy", e))?;
            if piece.is_empty() {
                return Ok(None);
            }
            Ok(Some((BackupPiece { bytes, piece: piece.into() }, Some((copy, bytes)))))
        });
        Ok(pieces.boxed())
    }

    /// Takes a copy in, checks it, and keeps it for the next start, whose audit log says who had it restored.
    pub(crate) async fn copy_in(&self, caller: &Caller, mut pieces: Steps<Bytes>) -> Result<Staged> {
        let _turn = Arc::clone(&self.copies.inward).try_lock_owned().map_err(|_| busy("restore"))?;
        let db = self.index.db().clone();
        let mut file = db.incoming().map_err(|e| disk("make a file for the backup", e))?;
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    db.discard_incoming().map_err(|e| disk("remove half a backup", e))?;
                    return Err(error);
                }
            };
            let written = blocking(move || file.write_all(&piece).map(|()| file)).await;
            file = written.map_err(|e| disk("write the backup", e))?;
        }
        blocking(move || file.sync_all()).await.map_err(|e| disk("write the backup", e))?;
        match db.stage(&caller.who).await {
            Ok(content) => {
                tracing::warn!(
                    index = content.index_id,
                    narinfos = content.narinfos,
                    "a backup is staged: it is the database from the next start on"
                );
                Ok(Staged { index_id: content.index_id, narinfos: content.narinfos })
            }
            Err(Refused::Io(error)) => Err(disk("keep the backup", error)),
            Err(refused) => Err(Error::new(Code::Invalid, refused.to_string())),
        }
    }
}

fn busy(what: &str) -> Error {
    Error::new(Code::Overloaded, format!("another {what} is under way"))
}

fn disk(action: &str, error: std::io::Error) -> Error {
    Error::internal(format!("{action} of the database")).because(error)
}

/// As much as there is, up to the whole buffer.
fn fill(file: &mut File, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten()
}
