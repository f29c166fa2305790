//! Which files count as uploads when there is no room, and what changes that.

use ncps_proto::{Upload, Writer};

use super::*;

impl Edge {
    fn commits(&self, name: NarFileName) {
        self.say(EdgeReport::Committed(held(name)));
    }

    /// What goes first where one file is too much.
    async fn first_to_go(&mut self, number: u64) -> NarFileName {
        self.say(disk(number, 41, 0));
        let Eviction { victims, number, .. } = self.ordered().await;
        assert_eq!(victims.len(), 1, "{victims:?}");
        self.say(EdgeReport::Evicted { number, gone: vec![victims[0].name] });
        victims[0].name
    }
}

fn writer() -> Writer {
    Writer { instance: "a".to_owned(), secret: None }
}

impl Case {
    /// A NAR comes from a client, without its narinfo.
    async fn upload_nar(&self, edge: &Edge, narinfo: &NarInfo) {
        let commit = Commit { uploaded: true, ..crate::testing::commit(narinfo) };
        edge.commits(commit.name);
        self.control().commit_nar("a", commit).await.expect("committed");
    }

    async fn upload_narinfo(&self, narinfo: &NarInfo) -> NarInfo {
        let upload = Upload { narinfo: narinfo.clone(), nar: file_of(narinfo), held: true, writer: writer() };
        self.control().publish_upload(upload).await.expect("admitted")
    }

    async fn upload(&self, edge: &Edge, seed: u8) -> NarInfo {
        let narinfo = self.upstream.narinfo(seed);
        self.upload_nar(edge, &narinfo).await;
        self.upload_narinfo(&narinfo).await
    }

    fn pass(&self, seconds: u64) {
        self.house.clock.advance(Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn an_upload_goes_last_until_an_upstream_has_it() {
    let (case, mut edge) = writable_scene().await;
    let first = case.upload(&edge, 1).await;
    let second = case.upload(&edge, 2).await;
    case.pass(3600);
    for name in ["older", "newer"] {
        edge.commits(nar(name));
    }
    assert_eq!(edge.first_to_go(1).await, nar("older"));
    case.publish(case.upstream.narinfo(2)).await;
    assert_eq!(edge.first_to_go(2).await, file_of(&second), "it can be had again, and is older");
    assert_eq!(case.known(&second).await, Some(second), "so its narinfo stays");
    assert_eq!(edge.first_to_go(3).await, nar("newer"));
    assert_eq!(edge.first_to_go(4).await, file_of(&first), "nothing else is left");
    edge.invalidated(&first).await;
    assert!(matches!(edge.next().await, Some(Directive::Remove(_))), "and it has to say so");
    assert_eq!(case.known(&first).await, None, "its narinfo went with it");
    case.house.stop().await;
}

#[tokio::test]
async fn who_holds_an_upload_elsewhere_keeps_its_narinfo() {
    let (case, mut edge) = writable_scene().await;
    let ours = case.upload(&edge, 1).await;
    let other = Edge::attach(case.control(), "b").await;
    other.holds(&[file_of(&ours)]);
    while case.house.control.holders(file_of(&ours)).len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(edge.first_to_go(1).await, file_of(&ours));
    while case.house.control.holders(file_of(&ours)).len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(case.known(&ours).await, Some(ours));
    case.house.stop().await;
}

#[tokio::test]
async fn an_upload_whose_edge_is_away_is_not_absent_whatever_upstreams_say() {
    let (case, edge) = writable_scene().await;
    let ours = case.upload(&edge, 1).await;
    let name = file_of(&ours);
    let retracted = async |case: &Case| case.control().retract_narinfo(ours.store_path.hash(), name).await;
    let located =
        async |case: &Case| case.control().locate("b", name).await.expect("answers").expect("known");
    // An upstream that has it and loses it changes nothing of who brought it.
    for is_at_an_upstream in [false, true] {
        if is_at_an_upstream {
            case.publish(case.upstream.narinfo(1)).await;
        }
        let refused =
            retracted(&case).await.expect_err("its edge is attached, whoever could not read from it");
        assert_eq!(refused.code(), ncps_proto::Code::Unavailable);
    }
    drop(edge);
    while !case.house.control.holders(name).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(retracted(&case).await.expect_err("it is away").code(), ncps_proto::Code::Unavailable);
    assert_eq!(case.known(&ours).await.as_ref(), Some(&ours));
    case.house.control.roster.save().await;
    let case = case.restart().await;
    assert_eq!(retracted(&case).await.expect_err("it may come back").code(), ncps_proto::Code::Unavailable);
    let control = &case.house.control;
    assert!(control.roster.knows_keepers() && control.sessions.resting("b").is_empty());
    // It comes back without it.
    let edge = Edge::attach(case.control(), "a").await.answering();
    edge.holds(&[name]);
    while case.house.control.holders(name).is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(located(&case).await.held);
    edge.say(EdgeReport::Evicted { number: 0, gone: vec![name] });
    while !case.house.control.holders(name).is_empty() {
        tokio::task::yield_now().await;
    }
    case.house.stop().await;
}

#[tokio::test]
async fn who_may_hold_an_upload_and_is_not_there_is_said() {
    let (case, edge) = writable_scene().await;
    let ours = case.upload(&edge, 1).await;
    let name = file_of(&ours);
    let located = async || case.control().locate("b", name).await.expect("answers").expect("known");
    assert!(located().await.held);
    drop(edge);
    while !case.house.control.holders(name).is_empty() {
        tokio::task::yield_now().await;
    }
    let known = located().await;
    assert!(known.uploaded && known.away && !known.held);
    case.house.stop().await;
}

#[tokio::test]
async fn an_upload_without_a_narinfo_has_a_grace() {
    let (case, mut edge) = writable_scene().await;
    let bare = case.upstream.narinfo(1);
    case.upload_nar(&edge, &bare).await;
    edge.commits(nar("one"));
    assert_eq!(edge.first_to_go(1).await, nar("one"), "the narinfo may still come");
    case.pass(600);
    edge.commits(nar("two"));
    assert_eq!(edge.first_to_go(2).await, file_of(&bare), "nobody can ask for it");
    case.house.stop().await;
}

#[tokio::test]
async fn a_narinfo_that_comes_late_or_goes_counts_at_once() {
    let (case, mut edge) = writable_scene().await;
    let late = case.upstream.narinfo(1);
    case.upload_nar(&edge, &late).await;
    let deleted = case.upload(&edge, 2).await;
    case.pass(3600);
    edge.commits(nar("one"));
    case.upload_narinfo(&late).await;
    case.control().delete_narinfo(deleted.store_path.hash(), writer()).await.expect("deleted");
    assert_eq!(edge.first_to_go(1).await, file_of(&deleted));
    assert_eq!(edge.first_to_go(2).await, nar("one"));
    assert_eq!(edge.first_to_go(3).await, file_of(&late));
    case.house.stop().await;
}

#[tokio::test]
async fn an_inventory_tells_what_is_an_upload() {
    let (case, edge) = writable_scene().await;
    let (ours, bare) = (case.upload(&edge, 1).await, case.upstream.narinfo(2));
    case.upload_nar(&edge, &bare).await;
    let fetched = case.publish(case.upstream.narinfo(3)).await;
    let Case { upstream, key, folder, house } = case;
    house.stop().await;

    let mut settings = settings(upstream.key.public());
    settings.max_size = Some(40 * BLOCK);
    let house = House::open(folder.path(), key, settings, Duration::from_secs(60)).await;
    house.clock.advance(Duration::from_secs(3600));
    let mut edge = Edge::attach(&*house.control, "a").await;
    edge.holds(&[file_of(&ours), file_of(&bare), file_of(&fetched)]);
    edge.reads(file_of(&fetched));
    assert_eq!(edge.first_to_go(1).await, file_of(&bare));
    assert_eq!(edge.first_to_go(2).await, file_of(&fetched), "although it was read last");
    assert_eq!(edge.first_to_go(3).await, file_of(&ours));
    house.stop().await;
}

#[tokio::test]
async fn what_only_an_edge_has_that_is_away_for_an_hour_is_promised_no_longer() {
    let (case, edge) = writable_scene().await;
    let narinfo = case.upload(&edge, 1).await;
    drop(edge);
    while case.house.control.edges() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(case.known(&narinfo).await.is_some(), "it may be a broken link");
    wait_out(3601).await;
    let start = tokio::time::Instant::now();
    while case.known(&narinfo).await.is_some() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is promised still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    case.house.stop().await;
}

/// Time that is waited for passes, and the clock stays.
async fn wait_out(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_upload_that_no_edge_has_is_promised_no_longer_than_a_minute_after_a_start() {
    let (case, edge) = writable_scene().await;
    let (gone, kept) = (case.upload(&edge, 1).await, case.upload(&edge, 2).await);
    drop(edge);
    // A process was killed when the file was gone, and its narinfo was not yet.
    let case = case.restart().await;
    let edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[file_of(&kept)]);
    while case.house.control.holders(file_of(&kept)).is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(case.known(&gone).await.is_some(), "another edge may hold it");
    wait_out(61).await;
    let start = tokio::time::Instant::now();
    while case.known(&gone).await.is_some() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is promised still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(case.known(&kept).await, Some(kept));
    case.house.stop().await;
}

#[tokio::test]
async fn what_an_edge_may_hold_that_did_not_come_back_is_promised() {
    let (case, edge) = writable_scene().await;
    let ours = case.upload(&edge, 1).await;
    drop(edge);
    case.house.control.roster.save().await;
    let case = case.restart().await;
    let other = Edge::attach(case.control(), "b").await;
    other.holds(&[]);
    for _ in 0..3 {
        wait_out(61).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(case.known(&ours).await.is_some());
    }
    let back = Edge::attach(case.control(), "a").await;
    back.holds(&[file_of(&ours)]);
    while case.house.control.holders(file_of(&ours)).is_empty() {
        tokio::task::yield_now().await;
    }
    wait_out(61).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(case.known(&ours).await, Some(ours));
    case.house.stop().await;
}
