//! Edges that are to leave the fleet, or were taken out of it. Written at once: whoever says so waits for it.

use ncps_runtime::clock::UnixTime;

use super::{Db, DbError, Result, sql};

/// What is to become of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It finishes what runs, and takes on nothing more.
    Drained,
    /// It was taken out, with what it held.
    Removed,
}

impl Db {
    /// What is to become of this edge, if anything.
    pub(crate) async fn leaving(&self, instance: &str) -> Result<Option<Leaving>> {
        let row: Option<(bool,)> = sqlx::query_as(sql::LEAVING)
            .bind(instance)
            .fetch_optional(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read which edges leave", e))?;
        Ok(row.map(|(removed,)| if removed { Leaving::Removed } else { Leaving::Drained }))
    }

    pub(crate) async fn put_leaving(
        &self,
        instance: &str,
        edge: &str,
        leaving: Leaving,
        now: UnixTime,
    ) -> Result<()> {
        sqlx::query(sql::PUT_LEAVING)
            .bind(instance)
            .bind(edge)
            .bind(leaving == Leaving::Removed)
            .bind(now.0)
            .execute(&self.writer)
            .await
            .map_err(|e| DbError::Sqlite("write that an edge leaves", e))?;
        Ok(())
    }

    pub(crate) async fn delete_leaving(&self, instance: &str) -> Result<()> {
        sqlx::query(sql::DELETE_LEAVING)
            .bind(instance)
            .execute(&self.writer)
            .await
            .map_err(|e| DbError::Sqlite("write that an edge stays", e))?;
        Ok(())
    }
}
