//! What edges hold, the index does not know, and nothing vouches for: since when.

use std::collections::HashSet;

use ncps_nix::NarFileName;
use ncps_runtime::clock::UnixTime;

use super::{Db, DbError, rows, sql};

impl Db {
    /// Notes what an edge holds of this now, and forgets what it holds no longer. Returns since when each is there.
    pub(crate) async fn note_strays(
        &self,
        instance: &str,
        names: &[NarFileName],
        now: UnixTime,
    ) -> Result<Vec<(NarFileName, UnixTime)>, DbError> {
        let failed = |error| DbError::Sqlite("note stray files", error);
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let known: Vec<(Vec<u8>, String, i64)> =
            sqlx::query_as(sql::STRAYS).bind(instance).fetch_all(&mut *tx).await.map_err(failed)?;
        let there: HashSet<NarFileName> = names.iter().copied().collect();
        let mut since = Vec::new();
        for (hash, compression, seen_at) in known {
            let name = rows::file_name(&("strays", instance.to_owned()), &hash, &compression)?;
            if there.contains(&name) {
                since.push((name, UnixTime(seen_at)));
                continue;
            }
            sqlx::query(sql::DELETE_STRAY)
                .bind(instance)
                .bind(hash)
                .bind(compression)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        let old: HashSet<NarFileName> = since.iter().map(|(name, _)| *name).collect();
        for name in names.iter().filter(|name| !old.contains(name)) {
            sqlx::query(sql::PUT_STRAY)
                .bind(instance)
                .bind(rows::file_hash(name))
                .bind(name.compression.name())
                .bind(now.0)
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            since.push((*name, now));
        }
        tx.commit().await.map_err(failed)?;
        Ok(since)
    }
}
