//! The rows of what edges counted.

use std::collections::BTreeMap;

use ncps_proto::Counter;
use sqlx::SqlitePool;

use super::{Db, DbError, Result, sql};
use crate::totals::Counted;

impl Db {
    /// What edges had counted when the database was opened.
    pub(crate) fn counted_at_open(&self) -> BTreeMap<String, Counted> {
        self.counted_at_open.clone()
    }

    /// Since when it is counted.
    pub(crate) async fn counting_since(&self) -> Result<i64> {
        let since: Option<(String,)> = sqlx::query_as(sql::META)
            .bind("counting_since")
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read since when it is counted", e))?;
        Ok(since.and_then(|(since,)| since.parse().ok()).unwrap_or(0))
    }

    /// What an edge counted, whole.
    pub(crate) async fn put_counted(&self, instance: &str, counted: &Counted) -> Result<()> {
        let write = async {
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            for (counter, now) in counted.now.iter() {
                sqlx::query(sql::PUT_TOTAL)
                    .bind(instance)
                    .bind(counter.name())
                    .bind(&counted.run)
                    .bind(i64::try_from(now).unwrap_or(i64::MAX))
                    .bind(i64::try_from(counted.before.get(counter)).unwrap_or(i64::MAX))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        };
        write.await.map_err(|e| DbError::Sqlite("write what an edge counted", e))
    }
}

/// Reads all rows, of which each edge has one per counter: once a start. Counters of another version are left out.
pub(super) async fn load(
    readers: &SqlitePool,
) -> std::result::Result<BTreeMap<String, Counted>, sqlx::Error> {
    let rows: Vec<(String, String, String, i64, i64)> =
        sqlx::query_as("SELECT instance, counter, run, value, before FROM totals").fetch_all(readers).await?;
    let mut edges: BTreeMap<String, Counted> = BTreeMap::new();
    for (instance, counter, run, value, before) in rows {
        let Some(counter) = Counter::ALL.iter().find(|known| known.name() == counter) else { continue };
        let edge = edges.entry(instance).or_default();
        edge.run = run;
        edge.now.set(*counter, u64::try_from(value).unwrap_or(0));
        edge.before.set(*counter, u64::try_from(before).unwrap_or(0));
    }
    Ok(edges)
}
