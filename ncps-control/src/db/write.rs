//! Writing: a batch of whole states in one transaction. Every statement may be repeated, so a batch whose
//! outcome is unknown is simply written again.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::admin::Event;
use ncps_runtime::clock::UnixTime;
use sqlx::{Sqlite, Transaction};

use super::journal::put_events;
use super::{Db, DbError, rows, sql};
use crate::record::{NarFile, file_of};

/// What goes into one transaction, in this order: a narinfo's file is there before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// `None` takes the file away, after everything else.
    pub(crate) files: Vec<(NarFileName, Option<Arc<NarFile>>)>,
    /// `None` takes the alias away.
    pub(crate) aliases: Vec<(NarFileName, Option<NarFileName>)>,
    /// Paths that are removed, and a file that each had.
    pub(crate) removals: Vec<(StorePathHash, NarFileName)>,
    /// `None` takes the narinfo away.
    pub(crate) narinfos: Vec<(StorePathHash, Option<Arc<NarInfo>>)>,
    /// When NAR files were last read.
    pub(crate) accessed: Vec<(NarFileName, UnixTime)>,
    /// When narinfos were last served.
    pub(crate) served: Vec<(StorePathHash, UnixTime)>,
    /// What happened.
    pub(crate) events: Vec<Arc<Event>>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        let states = self.files.len() + self.aliases.len() + self.removals.len() + self.narinfos.len();
        states + self.accessed.len() + self.served.len() + self.events.len()
    }
}

type Result<T> = std::result::Result<T, sqlx::Error>;
type Tx = Transaction<'static, Sqlite>;

impl Db {
    /// Writes a batch, all of it or nothing. `now` is when new rows were made and last read.
    pub(crate) async fn write(&self, batch: &Batch, now: UnixTime) -> std::result::Result<(), DbError> {
        self.write_all(batch, now).await.map_err(|e| DbError::Sqlite("write a batch", e))
    }

    async fn write_all(&self, batch: &Batch, now: UnixTime) -> Result<()> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for (name, file) in &batch.files {
            if let Some(file) = file {
                put_file(&mut tx, name, file, now).await?;
            }
        }
        for (name, target) in &batch.aliases {
            put_alias(&mut tx, name, target.as_ref()).await?;
        }
        for (hash, name) in &batch.removals {
            put_removal(&mut tx, *hash, name, now).await?;
        }
        for (hash, narinfo) in &batch.narinfos {
            match narinfo {
                Some(narinfo) => put_narinfo(&mut tx, narinfo, now).await?,
                None => delete_narinfo(&mut tx, *hash).await?,
            }
        }
        for (name, _) in batch.files.iter().filter(|(_, file)| file.is_none()) {
            delete_file(&mut tx, name).await?;
        }
        note_accesses(&mut tx, batch).await?;
        put_events(&mut tx, &batch.events).await?;
        tx.commit().await
    }
}

async fn put_file(tx: &mut Tx, name: &NarFileName, file: &NarFile, now: UnixTime) -> Result<()> {
    sqlx::query(sql::PUT_FILE)
        .bind(rows::file_hash(name))
        .bind(name.compression.name())
        .bind(file.file_size.map(signed))
        .bind(file.nar.as_ref().map(|nar| nar.hash.0.as_bytes().as_slice()))
        .bind(file.nar.map(|nar| signed(nar.size)))
        .bind(i64::from(file.proven))
        .bind(i64::from(file.uploaded))
        .bind(now.0)
        .bind(file.recipe.as_ref().map(|recipe| rows::file_hash(&recipe.source)))
        .bind(file.recipe.as_ref().map(|recipe| recipe.source.compression.name()))
        .bind(file.recipe.as_ref().map(|recipe| i64::from(recipe.level)))
        .bind(file.recipe.as_ref().map(|recipe| recipe.encoder.as_str()))
        .bind(file.drop_at.map(|at| at.0))
        .execute(&mut **tx)
        .await?;
    put_origins(tx, name, file).await
}

async fn put_origins(tx: &mut Tx, name: &NarFileName, file: &NarFile) -> Result<()> {
    sqlx::query(sql::DELETE_ORIGINS)
        .bind(rows::file_hash(name))
        .bind(name.compression.name())
        .execute(&mut **tx)
        .await?;
    for (rank, origin) in (0_i64..).zip(&file.origins) {
        sqlx::query(sql::PUT_ORIGIN)
            .bind(rows::file_hash(name))
            .bind(name.compression.name())
            .bind(rank)
            .bind(&origin.upstream)
            .bind(&origin.url)
            .bind(origin.compression.name())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

async fn put_alias(tx: &mut Tx, name: &NarFileName, target: Option<&NarFileName>) -> Result<()> {
    let query = sqlx::query(if target.is_some() { sql::PUT_ALIAS } else { sql::DELETE_ALIAS })
        .bind(rows::file_hash(name))
        .bind(name.compression.name());
    let query = match target {
        Some(target) => query.bind(rows::file_hash(target)).bind(target.compression.name()),
        None => query,
    };
    query.execute(&mut **tx).await.map(drop)
}

async fn put_narinfo(tx: &mut Tx, narinfo: &NarInfo, now: UnixTime) -> Result<()> {
    let file = file_of(narinfo);
    let references: Vec<String> = narinfo.references.iter().map(ToString::to_string).collect();
    sqlx::query(sql::PUT_NARINFO)
        .bind(narinfo.store_path.hash().as_bytes().as_slice())
        .bind(narinfo.store_path.name())
        .bind(narinfo.nar_hash.0.as_bytes().as_slice())
        .bind(signed(narinfo.nar_size))
        .bind(rows::file_hash(&file))
        .bind(file.compression.name())
        .bind(narinfo.file_size.map(signed))
        .bind(references.join(" "))
        .bind(narinfo.deriver.as_ref().map(ToString::to_string))
        .bind(narinfo.ca.as_ref().map(ToString::to_string))
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    let hash = narinfo.store_path.hash();
    sqlx::query(sql::DELETE_REMOVALS).bind(hash.as_bytes().as_slice()).execute(&mut **tx).await?;
    put_signatures(tx, narinfo).await
}

async fn put_removal(tx: &mut Tx, hash: StorePathHash, name: &NarFileName, now: UnixTime) -> Result<()> {
    sqlx::query(sql::PUT_REMOVAL)
        .bind(rows::file_hash(name))
        .bind(name.compression.name())
        .bind(hash.as_bytes().as_slice())
        .bind(now.0)
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn delete_file(tx: &mut Tx, name: &NarFileName) -> Result<()> {
    sqlx::query(sql::DELETE_FILE)
        .bind(rows::file_hash(name))
        .bind(name.compression.name())
        .execute(&mut **tx)
        .await
        .map(drop)
}

async fn put_signatures(tx: &mut Tx, narinfo: &NarInfo) -> Result<()> {
    let hash = narinfo.store_path.hash();
    sqlx::query(sql::DELETE_SIGNATURES).bind(hash.as_bytes().as_slice()).execute(&mut **tx).await?;
    for (position, signature) in (0_i64..).zip(&narinfo.signatures) {
        sqlx::query(sql::PUT_SIGNATURE)
            .bind(hash.as_bytes().as_slice())
            .bind(position)
            .bind(&signature.key_name)
            .bind(signature.bytes.as_slice())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

async fn delete_narinfo(tx: &mut Tx, hash: StorePathHash) -> Result<()> {
    sqlx::query(sql::DELETE_NARINFO).bind(hash.as_bytes().as_slice()).execute(&mut **tx).await.map(drop)
}

/// All in one statement each: to hand over a row alone costs more than to write it. A row that is gone meanwhile is no
/// trouble: there is nothing left to note.
async fn note_accesses(tx: &mut Tx, batch: &Batch) -> Result<()> {
    let accessed = batch.accessed.iter().map(|(name, at)| {
        let hash = HEXLOWER.encode(rows::file_hash(name));
        format!(r#"["{hash}","{}",{}]"#, name.compression.name(), at.0)
    });
    note(tx, sql::ACCESSED, accessed).await?;
    let served = batch.served.iter().map(|(hash, at)| {
        let hash = HEXLOWER.encode(hash.as_bytes());
        format!(r#"["{hash}",{}]"#, at.0)
    });
    note(tx, sql::SERVED, served).await
}

async fn note(tx: &mut Tx, sql: &'static str, rows: impl ExactSizeIterator<Item = String>) -> Result<()> {
    if rows.len() == 0 {
        return Ok(());
    }
    let rows = format!("[{}]", rows.collect::<Vec<_>>().join(","));
    sqlx::query(sql).bind(rows).execute(&mut **tx).await.map(drop)
}

/// Sizes come from narinfos and files, which are below 2⁶³; a larger one would be refused when read.
fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
