//! Paths in pages, and how many there are.

use ncps_nix::{NarFileName, StorePath, StorePathHash};
use ncps_proto::admin::Sum;
use ncps_runtime::clock::UnixTime;

use super::{Db, DbError, Result, rows, sql};

/// store_path_hash, name, nar_size, file_hash, compression, file_size, created_at, last_access
type Row = (Vec<u8>, String, i64, Vec<u8>, String, Option<i64>, i64, i64);

/// A path in a list. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) path: StorePath,
    pub(crate) nar_size: u64,
    pub(crate) nar: NarFileName,
    pub(crate) file_size: Option<u64>,
    pub(crate) published_at: i64,
    pub(crate) last_read: i64,
}

impl Db {
    /// At most `limit` paths after this one, in the order of their hashes.
    pub(crate) async fn paths_after(&self, after: Option<StorePathHash>, limit: u32) -> Result<Vec<Listed>> {
        self.page(sql::PATHS, after, limit).await
    }

    /// The same of what clients uploaded and no upstream is known to have.
    pub(crate) async fn uploads_after(
        &self,
        after: Option<StorePathHash>,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        self.page(sql::UPLOADS, after, limit).await
    }

    /// At most `limit` files that nobody needs to keep at `now`, those first that waited longest.
    pub(crate) async fn to_drop(&self, now: UnixTime, limit: u32) -> Result<Vec<NarFileName>> {
        let rows: std::result::Result<Vec<(Vec<u8>, String)>, _> =
            sqlx::query_as(sql::TO_DROP).bind(now.0).bind(i64::from(limit)).fetch_all(&self.readers).await;
        let rows = rows.map_err(|e| DbError::Sqlite("list files to drop", e))?;
        let at = ("nar_files", "to drop".to_owned());
        rows.iter().map(|(hash, compression)| rows::file_name(&at, hash, compression)).collect()
    }

    async fn page(
        &self,
        statement: &'static str,
        after: Option<StorePathHash>,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        let after = after.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default();
        let rows: Vec<Row> = sqlx::query_as(statement)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("list paths", e))?;
        rows.into_iter().map(listed).collect()
    }

    /// The same of one path.
    pub(crate) async fn listed(&self, hash: StorePathHash) -> Result<Option<Listed>> {
        let row: Option<Row> = sqlx::query_as(sql::LISTED)
            .bind(hash.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read a path", e))?;
        row.map(listed).transpose()
    }

    /// The narinfos, with the sizes of their NARs.
    pub(crate) async fn narinfo_sum(&self) -> Result<Sum> {
        self.sum("narinfos").await
    }

    /// The NAR files that are known, stored or not.
    pub(crate) async fn nar_file_sum(&self) -> Result<Sum> {
        self.sum("nar_files").await
    }

    async fn sum(&self, what: &'static str) -> Result<Sum> {
        let row: (i64, i64) = sqlx::query_as(sql::SUM)
            .bind(what)
            .fetch_one(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read a sum", e))?;
        let at = ("sums", what.to_owned());
        Ok(Sum { number: rows::unsigned(&at, "number", row.0)?, bytes: rows::unsigned(&at, "bytes", row.1)? })
    }
}

fn listed(
    (hash, name, nar_size, file_hash, compression, file_size, published_at, last_read): Row,
) -> Result<Listed> {
    let hash = rows::store_path_hash(&hash)?;
    let at = ("narinfos", hash.to_string());
    Ok(Listed {
        path: StorePath::new(hash, &name).map_err(|e| rows::bad(&at, "name", e))?,
        nar_size: rows::unsigned(&at, "nar_size", nar_size)?,
        nar: rows::file_name(&at, &file_hash, &compression)?,
        file_size: file_size.map(|size| rows::unsigned(&at, "file_size", size)).transpose()?,
        published_at,
        last_read,
    })
}
