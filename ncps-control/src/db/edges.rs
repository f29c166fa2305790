//! The rows of known edges. There are few, and they are read once, at the start.

use ncps_proto::admin::KnownEdge;
use sqlx::SqlitePool;

use super::rows::row;
use super::{Db, DbError, Result, sql};

/// name, instance, url, zone, durable, capacity, version, first_seen, last_seen
#[derive(Debug)]
struct EdgeRow {
    name: String,
    instance: String,
    url: Option<String>,
    zone: Option<String>,
    durable: i64,
    capacity: Option<i64>,
    version: String,
    first_seen: i64,
    last_seen: i64,
}

row!(EdgeRow { name, instance, url, zone, durable, capacity, version, first_seen, last_seen });

impl From<EdgeRow> for KnownEdge {
    fn from(row: EdgeRow) -> KnownEdge {
        KnownEdge {
            name: row.name,
            instance: row.instance,
            url: row.url,
            zone: row.zone,
            durable: row.durable != 0,
            capacity: row.capacity.and_then(|bytes| u64::try_from(bytes).ok()),
            version: row.version,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        }
    }
}

impl Db {
    /// The edges that were known when the database was opened.
    pub(crate) fn edges_at_open(&self) -> &[KnownEdge] {
        &self.edges_at_open
    }

    /// Writes these edges, and takes away those of these names.
    pub(crate) async fn put_edges(&self, edges: &[KnownEdge], forgotten: &[String]) -> Result<()> {
        let write = async {
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            for name in forgotten {
                sqlx::query(sql::DELETE_EDGE).bind(name).execute(&mut *tx).await?;
            }
            for edge in edges {
                sqlx::query(sql::PUT_EDGE)
                    .bind(&edge.name)
                    .bind(&edge.instance)
                    .bind(&edge.url)
                    .bind(&edge.zone)
                    .bind(i64::from(edge.durable))
                    .bind(edge.capacity.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)))
                    .bind(&edge.version)
                    .bind(edge.first_seen)
                    .bind(edge.last_seen)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        };
        write.await.map_err(|e| DbError::Sqlite("write which edges are known", e))
    }
}

/// Reads all rows: once a start.
pub(super) async fn load(readers: &SqlitePool) -> std::result::Result<Vec<KnownEdge>, sqlx::Error> {
    let rows: Vec<EdgeRow> = sqlx::query_as(
        "SELECT name, instance, url, zone, durable, capacity, version, first_seen, last_seen FROM edges",
    )
    .fetch_all(readers)
    .await?;
    Ok(rows.into_iter().map(KnownEdge::from).collect())
}
