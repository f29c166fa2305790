//! The journal's rows.

use std::sync::Arc;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::admin::{Event, EventKind};
use sqlx::{Sqlite, Transaction};

use super::{Db, DbError, Result, rows, sql};
use crate::journal::Bounds;

/// id, at, kind, actor, store_path_hash, nar_file, detail
type Row = (i64, i64, String, Option<String>, Option<Vec<u8>>, Option<String>, String);

/// Some of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Those that somebody asked for.
    Audit,
    /// Of the last 5,000 of all, these.
    Are(EventKind),
    /// Of the last 5,000 of all, the others.
    AreNot(EventKind),
}

impl Db {
    /// The id of the newest event when the database was opened.
    pub(crate) fn last_event_at_open(&self) -> u64 {
        self.last_event_at_open
    }

    /// Writes events now, all or none.
    pub(crate) async fn write_events(&self, events: &[Arc<Event>]) -> Result<()> {
        let write = async {
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            put_events(&mut tx, events).await?;
            tx.commit().await
        };
        write.await.map_err(|e| DbError::Sqlite("write the journal", e))
    }

    /// Cuts history to its bounds.
    pub(crate) async fn trim_journal(&self, bounds: Bounds) -> Result<()> {
        let trim = async {
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let up_to = i64::try_from(bounds.up_to).unwrap_or(i64::MAX);
            sqlx::query(sql::TRIM_NUMBER).bind(up_to).execute(&mut *tx).await?;
            sqlx::query(sql::TRIM_AGE).bind(bounds.before.0).execute(&mut *tx).await?;
            tx.commit().await
        };
        trim.await.map_err(|e| DbError::Sqlite("cut the journal", e))
    }

    /// The newest events of these, oldest first.
    pub(crate) async fn last_events(&self, last: u32, which: Which) -> Result<Vec<Event>> {
        let rows = match which {
            Which::All => sqlx::query_as(sql::LAST_EVENTS).bind(i64::from(last)),
            Which::Audit => sqlx::query_as(sql::LAST_AUDIT).bind(i64::from(last)),
            Which::Are(kind) => sqlx::query_as(sql::LAST_OF_KIND).bind(i64::from(last)).bind(kind.name()),
            Which::AreNot(kind) => sqlx::query_as(sql::LAST_BUT_KIND).bind(i64::from(last)).bind(kind.name()),
        };
        events(rows.fetch_all(&self.readers).await)
    }

    /// The newest events about a path, oldest first.
    pub(crate) async fn events_of_path(&self, path: StorePathHash, last: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query_as(sql::EVENTS_OF_PATH)
            .bind(path.as_bytes().as_slice())
            .bind(i64::from(last))
            .fetch_all(&self.readers)
            .await;
        events(rows)
    }

    /// The newest events about a NAR file, oldest first.
    pub(crate) async fn events_of_nar(&self, nar: NarFileName, last: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query_as(sql::EVENTS_OF_NAR)
            .bind(nar.file_name())
            .bind(i64::from(last))
            .fetch_all(&self.readers)
            .await;
        events(rows)
    }
}

pub(super) async fn put_events(
    tx: &mut Transaction<'static, Sqlite>,
    events: &[Arc<Event>],
) -> std::result::Result<(), sqlx::Error> {
    for event in events {
        sqlx::query(sql::PUT_EVENT)
            .bind(i64::try_from(event.id).unwrap_or(i64::MAX))
            .bind(event.at)
            .bind(event.kind.name())
            .bind(event.actor.as_deref())
            .bind(event.path.as_ref().map(|path| path.as_bytes().as_slice()))
            .bind(event.nar.map(|nar| nar.file_name()))
            .bind(&event.detail)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Newest first becomes oldest first.
fn events(rows: std::result::Result<Vec<Row>, sqlx::Error>) -> Result<Vec<Event>> {
    let rows = rows.map_err(|e| DbError::Sqlite("read the journal", e))?;
    rows.into_iter().rev().map(event).collect()
}

fn event((id, at, kind, actor, path, nar, detail): Row) -> Result<Event> {
    let key = ("journal", id.to_string());
    let known = EventKind::from_name(&kind);
    let nar = nar.map(|name| NarFileName::parse(&name)).transpose();
    Ok(Event {
        id: rows::unsigned(&key, "id", id)?,
        at,
        kind: known.ok_or_else(|| rows::bad(&key, "kind", "no kind of ours"))?,
        actor,
        path: path.map(|hash| rows::store_path_hash(&hash)).transpose()?,
        nar: nar.map_err(|e| rows::bad(&key, "nar_file", e))?,
        detail,
    })
}
