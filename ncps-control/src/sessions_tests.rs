//! Sessions and what hangs on them.

use ncps_nix::Compression;

use super::*;
use crate::testing::{file, path};

fn open(sessions: &Sessions, instance: &str) -> Opened {
    let url = Some(format!("http://{instance}"));
    let hello = Hello { url, durable: true, ..Hello::new(instance, instance) };
    sessions.open(&hello, UnixTime(1))
}

#[tokio::test]
async fn an_end_frees_turns_and_a_takeover_keeps_them() {
    let sessions = Sessions::default();
    let name = file("x", Compression::Xz);
    let (old, new, _b) = (open(&sessions, "a"), open(&sessions, "a"), open(&sessions, "b"));
    assert!(old.cut.is_cancelled() && !new.cut.is_cancelled());
    assert_eq!(sessions.begin("a", name), Turn::Yours);
    sessions.close("a", old.id);
    assert_eq!(
        sessions.begin("b", name),
        Turn::Theirs(Some("http://a".to_owned())),
        "the end of the old one"
    );
    sessions.close("a", new.id);
    assert_eq!(sessions.begin("b", name), Turn::Yours);
}

#[tokio::test]
async fn every_edge_is_told_and_only_the_slow_one_cut() {
    let sessions = Sessions::default();
    let (mut quick, slow) = (open(&sessions, "quick"), open(&sessions, "slow"));
    for _ in 0..=QUEUE {
        sessions.invalidate(&[path(1).hash()]);
        while quick.directives.try_recv().is_ok() {}
    }
    assert!(slow.cut.is_cancelled() && !quick.cut.is_cancelled());
    drop(slow);
}

#[tokio::test]
async fn long_invalidations_are_split() {
    let sessions = Sessions::default();
    let mut edge = open(&sessions, "a");
    sessions.invalidate(&vec![path(1).hash(); INVALIDATED_AT_ONCE + 1]);
    let mut sizes = Vec::new();
    while let Ok(directive) = edge.directives.try_recv() {
        if let Directive::Invalidate(hashes) = directive.expect("no break") {
            sizes.push(hashes.len());
        }
    }
    assert_eq!(sizes, [INVALIDATED_AT_ONCE, 1]);
}

#[tokio::test(start_paused = true)]
async fn turns_run_out_with_the_time() {
    let sessions = Sessions::default();
    let name = file("x", Compression::Xz);
    assert_eq!(sessions.begin("a", name), Turn::Yours);
    assert_eq!(sessions.begin("b", name), Turn::Theirs(None), "without a session there is no URL");
    tokio::time::advance(crate::leases::TTL).await;
    sessions.expire();
    assert_eq!(sessions.state.lock().leases.len(), 0);
    assert_eq!(sessions.begin("b", name), Turn::Yours);
}

#[tokio::test]
async fn what_is_the_last_copy_by_now_is_not_told_to_go() {
    let sessions = Sessions::default();
    let name = file("x", Compression::Xz);
    let (_a, mut b) = (open(&sessions, "a"), open(&sessions, "b"));
    for instance in ["a", "b"] {
        sessions.committed(
            instance,
            HeldNar { name, file_size: 1, disk_bytes: 4096 },
            Standing::Replaceable,
            UnixTime(1),
        );
    }
    let plan = |instance| sessions.plan(instance, 1, UnixTime(1), |_| false).victims[0];
    let (first, second) = (plan("a"), plan("b"));
    assert!(first.spare && second.spare, "each of them is one copy too many");
    let victims = || vec![(Victim { name, narinfos: Vec::new() }, Some(Spare { uploaded: false }))];
    let mut told = sessions.evict("a", victims()).expect("attached");
    let untold = sessions.evict("b", victims()).expect("attached").await.expect("answered at once");
    assert!(untold.names.is_empty() && b.directives.try_recv().is_err());
    told.try_recv().expect_err("the first one has not answered");
}
