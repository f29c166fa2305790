//! Pins and removals. They are written at once, not with the batches: whoever pins or unpins waits for it.

use ncps_nix::{NarFileName, StorePath, StorePathHash};
use ncps_runtime::clock::UnixTime;

use super::rows::{self, PinRow};
use super::{Db, DbError, Result, sql};
use crate::pins::Pin;

impl Db {
    /// All pins: they are few, and read once a start.
    pub(crate) async fn pins(&self) -> Result<Vec<Pin>> {
        let rows: Vec<PinRow> = sqlx::query_as(sql::PINS)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read the pins", e))?;
        rows.into_iter().map(PinRow::into_pin).collect()
    }

    pub(crate) async fn put_pin(&self, pin: &Pin) -> Result<()> {
        sqlx::query(sql::PUT_PIN)
            .bind(pin.path.hash().as_bytes().as_slice())
            .bind(pin.label.as_deref().unwrap_or_default())
            .bind(pin.path.name())
            .bind(&pin.made_by)
            .bind(pin.created_at.0)
            .bind(pin.expires_at.map(|end| end.0))
            .execute(&self.writer)
            .await
            .map_err(|e| DbError::Sqlite("write a pin", e))?;
        Ok(())
    }

    pub(crate) async fn delete_pin(&self, pin: &Pin) -> Result<()> {
        sqlx::query(sql::DELETE_PIN)
            .bind(pin.path.hash().as_bytes().as_slice())
            .bind(pin.label.as_deref().unwrap_or_default())
            .execute(&self.writer)
            .await
            .map_err(|e| DbError::Sqlite("delete a pin", e))?;
        Ok(())
    }

    /// Whether anything was removed in the time that is remembered.
    pub(crate) async fn has_removals(&self) -> Result<bool> {
        let row: Option<(i64,)> = sqlx::query_as(sql::ANY_REMOVAL)
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("look for removals", e))?;
        Ok(row.is_some())
    }

    /// The removed paths that had this file.
    pub(crate) async fn removals(&self, name: NarFileName) -> Result<Vec<StorePathHash>> {
        let rows: Vec<(Vec<u8>,)> = sqlx::query_as(sql::REMOVALS)
            .bind(rows::file_hash(&name))
            .bind(name.compression.name())
            .fetch_all(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read removals", e))?;
        rows.into_iter().map(|(hash,)| rows::store_path_hash(&hash)).collect()
    }

    /// Forgets what was removed before `then`.
    pub(crate) async fn forget_removals(&self, then: UnixTime) -> Result<()> {
        sqlx::query(sql::FORGET_REMOVALS)
            .bind(then.0)
            .execute(&self.writer)
            .await
            .map_err(|e| DbError::Sqlite("forget removals", e))?;
        Ok(())
    }
}

impl PinRow {
    fn into_pin(self) -> Result<Pin> {
        let hash = rows::store_path_hash(&self.store_path_hash)?;
        let at = ("pins", hash.to_string());
        Ok(Pin {
            path: StorePath::new(hash, &self.name).map_err(|e| rows::bad(&at, "name", e))?,
            label: Some(self.label).filter(|label| !label.is_empty()),
            made_by: self.made_by,
            created_at: UnixTime(self.created_at),
            expires_at: self.expires_at.map(UnixTime),
        })
    }
}
