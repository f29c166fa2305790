//! What is noted, in which order it is heard, and what is kept.

use ncps_runtime::clock::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::db::Which;

async fn journal(folder: &TempDir) -> (Arc<Journal>, Db, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(UnixTime(1_000_000_000)));
    let db = Db::open(&folder.path().join("db.sqlite"), clock.now()).await.expect("opens");
    (Arc::new(Journal::new(db.clone(), Arc::clone(&clock) as _)), db, clock)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn note(detail: &str) -> Note {
    Note::new(EventKind::Published, detail).path(StorePathHash::from_bytes([7; 20]))
}

fn caller() -> Caller {
    Caller { who: "uid 7".to_owned() }
}

async fn details(db: &Db, which: Which) -> Vec<String> {
    db.last_events(100, which).await.expect("reads").into_iter().map(|event| event.detail).collect()
}

/// As the index writer does.
async fn write(journal: &Journal, db: &Db) {
    let events = journal.waiting(usize::MAX);
    db.write_events(&events).await.expect("writes");
    if let Some(bounds) = journal.settle(events.len()) {
        db.trim_journal(bounds).await.expect("cuts");
    }
}

#[tokio::test]
async fn a_change_is_written_at_once_and_own_doings_with_the_next_batch() {
    let folder = folder();
    let (journal, db, _) = journal(&folder).await;
    journal.note(note("own"));
    journal.audit(&caller(), Note::new(EventKind::KeyRotated, "asked")).await.expect("written");
    assert_eq!(details(&db, Which::All).await, ["asked"]);
    write(&journal, &db).await;
    assert_eq!(details(&db, Which::All).await, ["own", "asked"], "in the order in which they happened");
    let audit = db.last_events(100, Which::Audit).await.expect("reads");
    assert_eq!(audit.len(), 1);
    assert_eq!((audit[0].actor.as_deref(), audit[0].kind), (Some("uid 7"), EventKind::KeyRotated));
    journal.flushed().await;
}

#[tokio::test]
async fn a_change_of_the_index_is_written_with_its_rows_and_never_dropped() {
    let folder = folder();
    let (journal, db, _) = journal(&folder).await;
    (0..MAX_WAITING).for_each(|_| journal.note(note("own")));
    let audited = journal.audit_with_rows(&caller(), note("asked"));
    // As if what came before had its rows: to write so many takes longer than anybody waits.
    journal.settle(MAX_WAITING);
    let waits = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.written(audited).await }
    });
    write(&journal, &db).await;
    waits.await.expect("no panic").expect("it has its row");
    assert_eq!(details(&db, Which::Audit).await, ["asked"]);
}

#[tokio::test]
async fn ids_go_on_after_a_restart() {
    let folder = folder();
    let (first, db, _) = journal(&folder).await;
    first.audit(&caller(), note("one")).await.expect("written");
    db.close().await;
    let (second, db, _) = journal(&folder).await;
    second.audit(&caller(), note("two")).await.expect("written");
    assert_eq!(details(&db, Which::All).await, ["one", "two"]);
    db.close().await;
}

#[tokio::test]
async fn a_listener_hears_everything_in_order() {
    let folder = folder();
    let (journal, ..) = journal(&folder).await;
    let mut live = journal.listen();
    ["a", "b", "c"].into_iter().for_each(|detail| journal.note(note(detail)));
    for expected in ["a", "b", "c"] {
        assert_eq!(live.recv().await.expect("heard").detail, expected);
    }
}

#[tokio::test]
async fn what_waits_is_bounded_and_nobody_is_held_up() {
    let folder = folder();
    let (journal, ..) = journal(&folder).await;
    (0..MAX_WAITING + 10).for_each(|_| journal.note(note("x")));
    assert_eq!(journal.waiting(usize::MAX).len(), MAX_WAITING);
}

#[tokio::test]
async fn history_is_cut_and_the_audit_log_is_kept() {
    let folder = folder();
    let (journal, db, clock) = journal(&folder).await;
    journal.audit(&caller(), note("asked")).await.expect("written");
    journal.note(note("old"));
    write(&journal, &db).await;
    assert_eq!(details(&db, Which::All).await, ["asked", "old"]);
    clock.advance(std::time::Duration::from_secs(KEPT_FOR as u64 + 1));
    (0..TRIM_EVERY).for_each(|_| journal.note(note("new")));
    write(&journal, &db).await;
    let left = details(&db, Which::All).await;
    assert!(!left.contains(&"old".to_owned()) && left.contains(&"new".to_owned()));
    assert_eq!(details(&db, Which::Audit).await, ["asked"]);

    db.trim_journal(Bounds { up_to: TRIM_EVERY - 10, before: UnixTime(0) }).await.expect("cuts");
    let number = db.last_events(5000, Which::All).await.expect("reads").len();
    assert_eq!(number, 1 + 12, "the audit log, and what came after the bound");
}
