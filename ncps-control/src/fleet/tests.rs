//! Sessions, and what hangs on them.

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::{Error, HeldNar, Victim};

use super::*;
use crate::refusals::Reason;
use crate::testing::{file, path};

fn open(fleet: &mut Fleet, instance: &str) -> SessionId {
    let url = Some(format!("http://{instance}"));
    let hello = Hello { url, durable: true, ..Hello::new(instance, instance) };
    fleet.open(&hello, UnixTime(1)).0
}

#[test]
fn an_end_frees_turns_and_a_takeover_keeps_them() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    let (old, new, _b) = (open(&mut fleet, "a"), open(&mut fleet, "a"), open(&mut fleet, "b"));
    assert_eq!(fleet.actions(), [Action::End(old)]);
    assert!(!fleet.is_open(old) && fleet.is_open(new));
    assert_eq!(fleet.begin("a", name, &[], now), Turn::Yours(Vec::new()));
    fleet.close(old, now);
    let theirs = Turn::Theirs(Some("http://a".to_owned()));
    assert_eq!(fleet.begin("b", name, &[], now), theirs, "the end of the old one");
    fleet.close(new, now);
    assert_eq!(fleet.begin("b", name, &[], now), Turn::Yours(Vec::new()));
}

#[test]
fn every_edge_is_told_and_only_the_slow_one_cut() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (quick, slow) = (open(&mut fleet, "quick"), open(&mut fleet, "slow"));
    for _ in 0..QUEUE {
        assert!(fleet.invalidate(&[path(1).hash()], now).is_empty());
        while fleet.next_told(quick).is_some() {}
    }
    assert_eq!(fleet.invalidate(&[path(1).hash()], now), ["slow"]);
    assert!(fleet.is_open(quick) && !fleet.is_open(slow));
    assert!(fleet.actions().contains(&Action::End(slow)));
}

#[test]
fn long_invalidations_are_split() {
    let mut fleet = Fleet::default();
    let edge = open(&mut fleet, "a");
    fleet.invalidate(&vec![path(1).hash(); INVALIDATED_AT_ONCE + 1], Instant::now());
    let mut sizes = Vec::new();
    while let Some(Told { directive: Directive::Invalidate(hashes), .. }) = fleet.next_told(edge) {
        sizes.push(hashes.len());
    }
    assert_eq!(sizes, [INVALIDATED_AT_ONCE, 1]);
}

#[test]
fn an_order_is_settled_once_by_its_own_session() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (a, b) = (open(&mut fleet, "a"), open(&mut fleet, "b"));
    let number = fleet.remove("a", Vec::new(), Vec::new(), now).expect("it is attached");
    assert_eq!(fleet.evicted(b, number, Vec::new()), None, "another edge's answer");
    let settled = fleet.evicted(a, number, Vec::new()).expect("somebody waits");
    assert_eq!((settled.number, settled.for_room), (number, false));
    assert_eq!(fleet.evicted(a, number, Vec::new()), None, "a second answer");
    let number = fleet.evict("a", Vec::new()).expect("it is attached");
    fleet.actions();
    let newer = open(&mut fleet, "a");
    assert_eq!(fleet.actions(), [Action::Unanswered(number), Action::End(a)]);
    assert_eq!(fleet.evicted(newer, number, Vec::new()), None, "the order was the former session's");
}

#[test]
fn what_a_session_says_that_is_over_is_not_heard() {
    let mut fleet = Fleet::default();
    let name = file("x", Compression::Xz);
    let held = HeldNar { name, file_size: 1, disk_bytes: 4096 };
    let (old, new) = (open(&mut fleet, "a"), open(&mut fleet, "a"));
    fleet.holds(old, vec![(held, UnixTime(1))], true);
    fleet.committed(old, held, Standing::Replaceable, UnixTime(1));
    assert!(!fleet.is_held(name) && !fleet.accessed(old, name, UnixTime(1)));
    fleet.committed(new, held, Standing::Replaceable, UnixTime(1));
    assert!(fleet.is_held(name) && fleet.accessed(new, name, UnixTime(1)));
}

#[test]
fn what_is_the_last_copy_by_now_is_not_told_to_go() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    for instance in ["a", "b"] {
        let edge = open(&mut fleet, instance);
        let held = HeldNar { name, file_size: 1, disk_bytes: 4096 };
        fleet.committed(edge, held, Standing::Replaceable, UnixTime(1));
    }
    let plan = |fleet: &Fleet, instance| fleet.plan(instance, 1, UnixTime(1), now, |_| false).victims[0];
    assert!(plan(&fleet, "a").spare && plan(&fleet, "b").spare, "each of them is one copy too many");
    let victims = || vec![(Victim { name, narinfos: Vec::new() }, Some(Spare { uploaded: false }))];
    let goes = fleet.going("a", victims());
    fleet.evict("a", goes).expect("attached");
    assert_eq!(fleet.going("b", victims()), [], "the first one has not answered");
}

/// Attaches again after the run has acknowledged this report; returns what it knows yet.
fn resume(fleet: &mut Fleet, instance: &str, run: &str, heard: u64) -> (SessionId, Option<u64>) {
    let resume = Some(Resume { run: run.to_owned(), heard });
    let hello = Hello { resume, durable: true, ..Hello::new(instance, instance) };
    let (id, welcome) = fleet.open(&hello, UnixTime(1));
    (id, welcome.resumes)
}

/// A fleet with one edge, whose inventory goes up to report 5.
fn counted() -> (Fleet, SessionId) {
    let mut fleet = Fleet::new("run".to_owned());
    let edge = open(&mut fleet, "a");
    fleet.holds(edge, Vec::new(), true);
    fleet.dealt_with(edge, 5);
    (fleet, edge)
}

#[test]
fn reports_are_acknowledged_when_they_are_dealt_with() {
    let (mut fleet, edge) = counted();
    assert_eq!(fleet.next_told(edge), Some(Directive::Heard(5).into()));
    assert_eq!(fleet.next_told(edge), None, "said once");
    fleet.dealt_with(edge, 6);
    fleet.dealt_with(edge, 7);
    fleet.invalidate(&[path(1).hash()], Instant::now());
    let told = |fleet: &mut Fleet| fleet.next_told(edge).map(|told| (told.number, told.directive));
    assert_eq!(told(&mut fleet), Some((1, Directive::Invalidate(vec![path(1).hash()]))));
    assert_eq!(told(&mut fleet), Some((0, Directive::Heard(7))), "of many the last");
}

#[test]
fn who_is_remembered_says_what_changed_and_hears_what_it_missed() {
    let (mut fleet, edge) = counted();
    let now = Instant::now();
    fleet.invalidate(&[path(1).hash()], now);
    fleet.invalidate(&[path(2).hash()], now);
    fleet.has_heard(edge, 1);
    fleet.close(edge, now);
    fleet.invalidate(&[path(3).hash()], now);
    fleet.actions();
    let (again, resumes) = resume(&mut fleet, "a", "run", 4);
    assert_eq!(resumes, Some(5), "the acknowledgement may have been lost");
    assert!(fleet.actions().contains(&Action::Counted(again)));
    let missed = Directive::Invalidate(vec![path(2).hash(), path(3).hash()]);
    assert_eq!(fleet.next_told(again).map(|told| told.directive), Some(missed));
    fleet.has_heard(again, 1);
    let (third, resumes) = resume(&mut fleet, "a", "run", 5);
    assert_eq!((resumes, fleet.next_told(third)), (Some(5), None), "nothing was missed");
}

#[test]
fn who_may_hold_what_was_removed_says_everything() {
    let now = Instant::now();
    let removed = |fleet: &mut Fleet| fleet.removal();
    let (mut fleet, edge) = counted();
    fleet.close(edge, now);
    assert_eq!(removed(&mut fleet), []);
    assert_eq!(resume(&mut fleet, "a", "run", 5).1, None, "it was away");
    let (mut fleet, edge) = counted();
    assert_eq!(removed(&mut fleet).len(), 1);
    fleet.remove("a", Vec::new(), Vec::new(), now).expect("it is attached");
    fleet.close(edge, now);
    assert_eq!(resume(&mut fleet, "a", "run", 5).1, None, "it did not answer");
    let (mut fleet, edge) = counted();
    let number = fleet.remove("a", Vec::new(), Vec::new(), now).expect("it is attached");
    fleet.evicted(edge, number, Vec::new());
    fleet.close(edge, now);
    assert_eq!(resume(&mut fleet, "a", "run", 5).1, Some(5), "it has obeyed");
}

#[test]
fn who_is_not_remembered_says_everything() {
    let now = Instant::now();
    for (run, heard) in [("other", 5), ("", 5), ("run", 6)] {
        let (mut fleet, edge) = counted();
        fleet.close(edge, now);
        assert_eq!(resume(&mut fleet, "a", run, heard).1, None, "{run} {heard}");
    }
    let (mut fleet, edge) = counted();
    fleet.close(edge, now);
    open(&mut fleet, "a");
    assert_eq!(resume(&mut fleet, "a", "run", 5).1, None, "another process of the edge began to count anew");
    let (mut fleet, edge) = counted();
    fleet.close(edge, now);
    fleet.expire(now + Duration::from_secs(3600));
    assert_eq!(resume(&mut fleet, "a", "run", 5).1, None, "it was away too long");
}

fn held(name: NarFileName) -> HeldNar {
    HeldNar { name, file_size: 1, disk_bytes: 4096 }
}

fn urls(peers: &[Peer]) -> Vec<&str> {
    peers.iter().map(|peer| peer.url.as_str()).collect()
}

#[test]
fn peers_are_the_attached_edges_that_hold_a_file() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    let [a, b, _c] = ["a", "b", "c"].map(|instance| open(&mut fleet, instance));
    assert!(fleet.peers("a", name).is_empty());
    for id in [a, b] {
        fleet.committed(id, held(name), Standing::Replaceable, UnixTime(1));
    }
    assert_eq!(urls(&fleet.peers("a", name)), ["http://b"], "nobody is a peer of itself");
    assert_eq!(fleet.peers("c", name).len(), 2);
    let Turn::Yours(peers) = fleet.begin("c", name, &[], now) else { panic!("it is nobody's turn") };
    assert_eq!(peers.len(), 2, "whose turn it is hears who holds it by now");
    fleet.close(b, now);
    assert_eq!(urls(&fleet.peers("c", name)), ["http://a"]);
}

#[test]
fn a_turn_goes_over_from_who_can_not_be_read_from() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    let _edges = ["a", "b", "c"].map(|instance| open(&mut fleet, instance));
    let theirs = |instance: &str| Turn::Theirs(Some(format!("http://{instance}")));
    fleet.begin("a", name, &[], now);
    let failed = ["http://a".to_owned()];
    assert_eq!(fleet.begin("b", name, &["http://c".to_owned()], now), theirs("a"));
    assert_eq!(fleet.begin("b", name, &failed, now), Turn::Yours(Vec::new()));
    assert_eq!(fleet.begin("c", name, &failed, now), theirs("b"), "one follows, not all");
    assert_eq!(fleet.begin("a", name, &[], now), theirs("b"), "it lost its turn");
}

#[test]
fn an_edge_that_is_doubted_is_named_to_nobody_until_it_has_said_what_it_holds() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    let [a, _b] = ["a", "b"].map(|instance| open(&mut fleet, instance));
    assert_eq!(fleet.doubt("http://a", name, now), None, "it is not believed to hold it");
    assert_eq!(fleet.doubt("http://nobody", name, now), None);
    let committed =
        |fleet: &mut Fleet, at| fleet.committed(a, held(name), Standing::Replaceable, UnixTime(at));
    committed(&mut fleet, 1);
    assert_eq!(fleet.doubt("http://a", name, now).as_deref(), Some("a"));
    assert_eq!(fleet.doubt("http://a", name, now), None, "it looks already");
    assert!(fleet.peers("b", name).is_empty());
    assert!(fleet.is_held(name), "what it holds is its own to say");
    fleet.is_right("a", name);
    assert_eq!(urls(&fleet.peers("b", name)), ["http://a"]);
    fleet.doubt("http://a", name, now);
    assert!(fleet.is_missing("a", name) && !fleet.is_held(name));
    committed(&mut fleet, 2);
    assert!(!fleet.is_missing("a", name) && fleet.is_held(name), "it came back while it looked");
}

#[test]
fn a_file_is_leaving_until_its_edge_has_answered() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let name = file("x", Compression::Xz);
    let edge = open(&mut fleet, "a");
    open(&mut fleet, "b");
    let number = fleet.remove("a", Vec::new(), vec![name], now).expect("it is attached");
    assert!(fleet.is_leaving("a", name) && !fleet.is_leaving("b", name));
    assert!(!fleet.is_leaving("a", file("y", Compression::Xz)));
    fleet.evicted(edge, number, vec![name]);
    assert!(!fleet.is_leaving("a", name));
    fleet.remove("a", Vec::new(), vec![name], now).expect("it is attached");
    fleet.close(edge, now);
    assert!(fleet.is_leaving("a", name), "it may obey yet");
    open(&mut fleet, "a");
    assert!(!fleet.is_leaving("a", name), "it attaches when it has");
}

#[test]
fn an_upload_that_its_only_keeper_was_told_to_remove_is_kept_by_nobody_until_it_has_answered() {
    let mut fleet = Fleet::default();
    let name = file("x", Compression::Xz);
    let [a, b] = ["a", "b"].map(|instance| open(&mut fleet, instance));
    let held = HeldNar { name, file_size: 1, disk_bytes: 4096 };
    fleet.committed(a, held, Standing::Promised, UnixTime(1));
    assert!(fleet.is_kept(name) && !fleet.is_about_to_go(name));
    let number = fleet.evict("a", vec![Victim { name, narinfos: Vec::new() }]).expect("it is attached");
    assert!(!fleet.is_kept(name) && fleet.is_about_to_go(name));
    fleet.committed(b, held, Standing::Promised, UnixTime(1));
    assert!(fleet.is_kept(name) && !fleet.is_about_to_go(name), "another one keeps it, too");
    fleet.evicted(b, 0, vec![name]);
    fleet.evicted(a, number, Vec::new());
    assert!(fleet.is_kept(name), "it was in use, and stays");
    let number = fleet.evict("a", vec![Victim { name, narinfos: Vec::new() }]).expect("it is attached");
    fleet.evicted(a, number, vec![name]);
    assert!(!fleet.is_kept(name) && !fleet.is_about_to_go(name));
}

#[test]
fn an_edge_that_leaves_keeps_its_turns_gets_no_new_one_and_is_a_peer_where_nobody_else_is() {
    let (mut fleet, now) = (Fleet::default(), Instant::now());
    let (x, y) = (file("x", Compression::Xz), file("y", Compression::Xz));
    let [a, b] = ["a", "b"].map(|instance| open(&mut fleet, instance));
    open(&mut fleet, "c");
    fleet.begin("a", x, &[], now);
    fleet.committed(a, held(y), Standing::Replaceable, UnixTime(1));
    assert!(fleet.drain("a", true));
    assert!(fleet.may_begin("a", x, now) && !fleet.may_begin("a", y, now));
    assert_eq!(urls(&fleet.peers("c", y)), ["http://a"], "it serves what it has");
    fleet.committed(b, held(y), Standing::Replaceable, UnixTime(1));
    assert_eq!(urls(&fleet.peers("c", y)), ["http://b"]);
    assert_eq!(urls(&fleet.peers("b", y)), ["http://a"], "who asks is not somebody else");
    assert!(!fleet.may_begin("a", x, now + TTL), "it was not renewed");
    assert!(fleet.drain("a", false));
    assert!(fleet.may_begin("a", y, now));
    assert_eq!(urls(&fleet.peers("c", y)).len(), 2);
}

#[test]
fn an_edge_that_holds_more_than_it_may_is_out_for_a_minute() {
    let (mut fleet, start) = (Fleet::new("run".to_owned()), Instant::now());
    fleet.room = Room { of_one: 3, of_all: 4 };
    let held = |seeds: &[u8]| -> Vec<HeldNar> {
        let name = |seed: &u8| file(&seed.to_string(), Compression::Xz);
        seeds.iter().map(|seed| HeldNar { name: name(seed), file_size: 1, disk_bytes: 4096 }).collect()
    };
    let says = |fleet: &mut Fleet, instance: &str, seeds: &[u8]| {
        let id = fleet.session_of(instance).expect("attached");
        fleet.fits(instance, &held(seeds), start)?;
        fleet.holds(id, held(seeds).into_iter().map(|held| (held, UnixTime(1))).collect(), false);
        Ok::<_, Error>(())
    };
    let (a, b) = (Hello::new("a", "ia"), Hello::new("b", "ib"));
    fleet.open(&a, UnixTime(1));
    fleet.open(&b, UnixTime(1));
    says(&mut fleet, "ia", &[1, 2, 3]).expect("three fit");
    says(&mut fleet, "ia", &[1, 2]).expect("said again, they are no more");
    let why = says(&mut fleet, "ib", &[1, 2]).expect_err("five in all").to_string();
    assert!(why.contains("all edges together hold more than 4 files"), "{why}");
    says(&mut fleet, "ia", &[4]).expect_err("four of one");
    assert_eq!((fleet.session_of("ia"), fleet.session_of("ib")), (None, None));
    let (reason, _) = fleet.is_back_too_soon(&a, start + Duration::from_secs(59)).expect_err("too soon");
    assert!(matches!(reason, Reason::Inventory));
    fleet.is_back_too_soon(&a, start + Duration::from_secs(60)).expect("a minute is over");
    assert_eq!(fleet.files(), 3, "what is more was never noted");
}
