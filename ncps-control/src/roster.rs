//! The edges that are known by name: those that are attached, and those that were within 7 days. In memory, with rows
//! behind it that follow at the next [`Roster::save`].
//!
//! A name is that of whoever attached with it last. Absent: who is attached now (see [`crate::sessions`]), and what an
//! edge holds.

use std::collections::{BTreeMap, BTreeSet};

use ncps_proto::Hello;
use ncps_proto::admin::KnownEdge;
use ncps_runtime::clock::UnixTime;
use parking_lot::Mutex;

use crate::db::{Db, DbError};
use crate::fleet::MEMORY;

/// How long a name is known that nobody attaches with, in seconds.
const KNOWN_FOR: i64 = 7 * 24 * 3600;
/// How long it counts what an edge held that is away, in seconds.
const REMEMBERED: i64 = MEMORY.as_secs().cast_signed();
/// Names at once: past it the one that was unseen for longest is forgotten.
const MOST: usize = 10_000;

/// Every known edge.
#[derive(Debug)]
pub(crate) struct Roster {
    db: Db,
    edges: Mutex<Edges>,
    /// One writes at a time, so that no older row comes after a newer one.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Edges {
    known: BTreeMap<String, KnownEdge>,
    /// Names whose rows are behind.
    changed: BTreeSet<String>,
}

impl Roster {
    /// Goes on from the rows.
    pub(crate) fn new(db: Db) -> Roster {
        let known = db.edges_at_open().iter().map(|edge| (edge.name.clone(), edge.clone())).collect();
        let edges = Edges { known, changed: BTreeSet::new() };
        Roster { db, edges: Mutex::new(edges), turn: tokio::sync::Mutex::default() }
    }

    /// An edge attached.
    pub(crate) fn attached(&self, hello: &Hello, now: UnixTime) {
        let mut edges = self.edges.lock();
        let first_seen = edges.known.get(&hello.name).map_or(now.0, |known| known.first_seen);
        let known = KnownEdge {
            name: hello.name.clone(),
            instance: hello.instance.clone(),
            url: hello.url.clone(),
            zone: hello.zone.clone(),
            durable: hello.durable,
            capacity: hello.capacity,
            version: hello.version.clone(),
            first_seen,
            last_seen: now.0,
        };
        edges.known.insert(hello.name.clone(), known);
        edges.changed.insert(hello.name.clone());
        edges.make_room();
    }

    /// An edge was taken out: its name is not known any more, unless it is another one's by now.
    pub(crate) fn removed(&self, name: &str, instance: &str) {
        let mut edges = self.edges.lock();
        if edges.known.get(name).is_some_and(|edge| edge.instance == instance) {
            edges.forget(name);
        }
    }

    /// Edges of these names are attached.
    pub(crate) fn seen<'a>(&self, names: impl IntoIterator<Item = &'a str>, now: UnixTime) {
        let mut edges = self.edges.lock();
        for name in names {
            if let Some(known) = edges.known.get_mut(name) {
                known.last_seen = now.0;
                edges.changed.insert(name.to_owned());
            }
        }
    }

    /// Forgets names that nobody has attached with for long.
    pub(crate) fn forget(&self, now: UnixTime) {
        let mut edges = self.edges.lock();
        let over = |edge: &&KnownEdge| now.0.saturating_sub(edge.last_seen) >= KNOWN_FOR;
        let names: Vec<String> = edges.known.values().filter(over).map(|edge| edge.name.clone()).collect();
        names.iter().for_each(|name| edges.forget(name));
    }

    /// The known edges that have none of these names.
    pub(crate) fn away(&self, attached: &BTreeSet<&str>) -> Vec<KnownEdge> {
        let edges = self.edges.lock();
        edges.known.values().filter(|edge| !attached.contains(&*edge.name)).cloned().collect()
    }

    /// Whether any known edge keeps its disk.
    pub(crate) fn knows_keepers(&self) -> bool {
        self.edges.lock().known.values().any(|edge| edge.durable)
    }

    /// Whether an edge that keeps its disk has none of these names and was seen within the hour for which it is
    /// remembered what edges hold that are away, or after `now`.
    pub(crate) fn is_keeper_away(&self, attached: &BTreeSet<&str>, now: UnixTime) -> bool {
        let edges = self.edges.lock();
        let mut away = edges.known.values().filter(|edge| edge.durable && !attached.contains(&*edge.name));
        away.any(|edge| now.0.saturating_sub(edge.last_seen) < REMEMBERED)
    }

    /// Nobody writes while this lives, and who would waits.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes what has changed.
    pub(crate) async fn save(&self) {
        let _turn = self.turn.lock().await;
        let (written, forgotten, changed) = {
            let mut edges = self.edges.lock();
            let changed = std::mem::take(&mut edges.changed);
            let written: Vec<_> = changed.iter().filter_map(|name| edges.known.get(name).cloned()).collect();
            let is_gone = |name: &&String| !edges.known.contains_key(*name);
            let forgotten: Vec<_> = changed.iter().filter(is_gone).cloned().collect();
            (written, forgotten, changed)
        };
        if changed.is_empty() {
            return;
        }
        if let Err(error) = self.db.put_edges(&written, &forgotten).await {
            self.say(&error);
            self.edges.lock().changed.extend(changed);
        }
    }

    fn say(&self, error: &DbError) {
        tracing::warn!(%error, "it can't be written which edges are known; it is tried again within a minute");
    }
}

impl Edges {
    fn forget(&mut self, name: &str) {
        self.known.remove(name);
        self.changed.insert(name.to_owned());
    }

    fn make_room(&mut self) {
        while self.known.len() > MOST {
            let oldest = self.known.values().min_by_key(|edge| edge.last_seen).map(|edge| edge.name.clone());
            let Some(oldest) = oldest else { return };
            self.forget(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn roster(folder: &tempfile::TempDir) -> Roster {
        let db = Db::open(&folder.path().join("db.sqlite"), UnixTime(1)).await.expect("opens");
        Roster::new(db)
    }

    fn names(roster: &Roster, attached: &[&str]) -> Vec<(String, i64)> {
        let away = roster.away(&attached.iter().copied().collect());
        away.into_iter().map(|edge| (edge.name, edge.last_seen)).collect()
    }

    fn known(names: &[(&str, i64)]) -> Vec<(String, i64)> {
        names.iter().map(|(name, seen)| ((*name).to_owned(), *seen)).collect()
    }

    #[tokio::test]
    async fn names_outlive_a_restart_and_are_forgotten_after_a_week() {
        let folder = tempfile::tempdir().expect("a directory");
        let before = roster(&folder).await;
        let hello = Hello { zone: Some("z".to_owned()), capacity: Some(7), ..Hello::new("a", "i1") };
        before.attached(&hello, UnixTime(100));
        before.attached(&Hello::new("b", "i2"), UnixTime(100));
        before.save().await;
        before.seen(["b", "unknown"], UnixTime(200));
        before.attached(&Hello { instance: "i3".to_owned(), ..hello }, UnixTime(300));
        assert_eq!(names(&before, &["a"]), known(&[("b", 200)]));
        before.save().await;
        let after = roster(&folder).await;
        let edges = after.away(&BTreeSet::new());
        let a = &edges[0];
        assert_eq!((&*a.name, &*a.instance, a.first_seen, a.last_seen), ("a", "i3", 100, 300));
        assert_eq!((a.zone.as_deref(), a.capacity, a.durable), (Some("z"), Some(7), false));
        after.forget(UnixTime(200 + KNOWN_FOR - 1));
        assert_eq!(names(&after, &[]), known(&[("a", 300), ("b", 200)]));
        after.forget(UnixTime(200 + KNOWN_FOR));
        after.save().await;
        assert_eq!(names(&roster(&folder).await, &[]), known(&[("a", 300)]));
    }

    #[tokio::test]
    async fn who_keeps_its_disk_is_awaited_for_an_hour_and_known_for_a_week() {
        let folder = tempfile::tempdir().expect("a directory");
        let roster = roster(&folder).await;
        roster.attached(&Hello::new("lent", "i1"), UnixTime(100));
        assert!(!roster.knows_keepers() && !roster.is_keeper_away(&BTreeSet::new(), UnixTime(100)));
        roster.attached(&Hello { durable: true, ..Hello::new("kept", "i2") }, UnixTime(100));
        assert!(roster.knows_keepers() && !roster.is_keeper_away(&["kept"].into(), UnixTime(100)));
        assert!(roster.is_keeper_away(&["lent"].into(), UnixTime(99 + REMEMBERED)));
        assert!(!roster.is_keeper_away(&["lent"].into(), UnixTime(100 + REMEMBERED)));
        roster.removed("kept", "another");
        assert!(roster.knows_keepers(), "the name is another one's");
        roster.removed("kept", "i2");
        assert!(!roster.knows_keepers());
    }

    #[tokio::test]
    async fn of_too_many_names_the_oldest_is_forgotten() {
        let folder = tempfile::tempdir().expect("a directory");
        let roster = roster(&folder).await;
        for n in 0..=MOST {
            roster.attached(&Hello::new(format!("e{n}"), "i"), UnixTime(n as i64));
        }
        let known = names(&roster, &[]);
        assert!(known.len() == MOST && known.iter().all(|(name, _)| name != "e0"));
    }
}
