//! What becomes of the file that another one was made of, and of the narinfos that name either.

use ncps_proto::{Code, Publication, Recipe, Upload, Writer};

use super::*;

const DAY: u64 = 24 * 3600;

fn made(ours: &NarInfo) -> Commit {
    let name = file(&format!("made of {}", file_of(ours)), Compression::Zstd);
    let recipe = Recipe { source: file_of(ours), level: 6, encoder: "zstd-1".to_owned() };
    Commit { name, recipe: Some(recipe), ..commit(ours) }
}

impl Case {
    /// A path whose file was fetched, and another one made of it.
    async fn made(&self, edge: &Edge, seed: u8) -> (NarInfo, Commit) {
        let ours = self.publish(self.upstream.narinfo(seed)).await;
        self.commit(edge, "a", commit(&ours)).await;
        let made = made(&ours);
        self.commit(edge, "a", made.clone()).await;
        (ours, made)
    }

    async fn uploaded(&self, edge: &Edge, seed: u8) -> NarInfo {
        let narinfo = self.upstream.narinfo(seed);
        self.commit(edge, "a", Commit { uploaded: true, ..commit(&narinfo) }).await;
        let writer = Writer { instance: "a".to_owned(), secret: None };
        let upload = Upload { nar: file_of(&narinfo), narinfo, held: true, writer };
        self.control().publish_upload(upload).await.expect("admitted")
    }

    async fn commit(&self, edge: &Edge, instance: &str, commit: Commit) {
        edge.say(EdgeReport::Committed(held(commit.name)));
        self.control().commit_nar(instance, commit).await.expect("committed");
    }

    async fn drop_superseded(&self) -> u64 {
        self.house.control.flushed().await;
        self.house.control.drop_superseded().await.expect("the index can be read")
    }
}

impl Edge {
    /// Obeys the next eviction, whatever else it is told. Returns what went, and the narinfos with it.
    async fn obeys(&mut self) -> (Vec<NarFileName>, usize) {
        let Eviction { victims, number, .. } = self.ordered().await;
        let gone: Vec<_> = victims.iter().map(|victim| victim.name).collect();
        self.say(EdgeReport::Evicted { number, gone: gone.clone() });
        (gone, victims.iter().map(|victim| victim.narinfos.len()).sum())
    }
}

#[tokio::test]
async fn the_former_file_is_dropped_a_day_later() {
    let (case, mut edge) = writable_scene().await;
    let (ours, _) = case.made(&edge, 1).await;
    case.house.clock.advance(Duration::from_secs(DAY - 1));
    assert_eq!(case.drop_superseded().await, 0);
    case.house.clock.advance(Duration::from_secs(1));
    let (dropped, obeyed) = tokio::join!(case.drop_superseded(), edge.obeys());
    assert_eq!((dropped, obeyed), (1, (vec![file_of(&ours)], 1)), "its narinfo file, should it name it yet");
    // Once it is gone it is forgotten what was to be dropped, not where it was from.
    assert_eq!(case.drop_superseded().await, 0);
    let former = case.control().locate("a", file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(former.origins.len(), 1);
    case.house.stop().await;
}

#[tokio::test]
async fn the_former_file_goes_first_where_room_is_needed() {
    let (case, mut edge) = writable_scene().await;
    let other = case.publish(case.upstream.narinfo(2)).await;
    case.commit(&edge, "a", commit(&other)).await;
    case.house.clock.advance(Duration::from_secs(60));
    let (ours, _) = case.made(&edge, 1).await;
    edge.say(disk(1, 41, 0));
    let (gone, narinfos) = edge.obeys().await;
    assert_eq!(gone, [file_of(&ours)], "though the other one is older");
    assert_eq!(narinfos, 1, "an edge may have a narinfo beside it that names it yet");
    case.house.stop().await;
}

#[tokio::test]
async fn a_former_file_that_a_narinfo_names_again_stays() {
    let (case, _edge) = writable_scene().await;
    let (ours, made) = case.made(&_edge, 1).await;
    let moved = Publication { replaces: true, ..publication(case.upstream.narinfo(1)) };
    case.control().publish_narinfo(moved).await.expect("trusted");
    assert_eq!(file_of(&case.known(&ours).await.expect("known")), file_of(&ours));
    case.house.clock.advance(Duration::from_secs(DAY));
    assert_eq!(case.drop_superseded().await, 0);
    // And the other one takes its place anew when it is said to be there.
    case.control().commit_nar("a", made.clone()).await.expect("committed");
    assert_eq!(file_of(&case.known(&ours).await.expect("known")), made.name);
    case.house.stop().await;
}

#[tokio::test]
async fn a_former_file_that_is_fetched_again_is_dropped_again() {
    let (case, mut edge) = writable_scene().await;
    let (ours, _) = case.made(&edge, 1).await;
    case.house.clock.advance(Duration::from_secs(DAY));
    tokio::join!(case.drop_superseded(), edge.obeys());
    assert_eq!(case.drop_superseded().await, 0);
    case.commit(&edge, "a", commit(&ours)).await;
    case.house.clock.advance(Duration::from_secs(DAY));
    let (dropped, _) = tokio::join!(case.drop_superseded(), edge.obeys());
    assert_eq!(dropped, 1);
    case.house.stop().await;
}

#[tokio::test]
async fn an_upload_stays_for_as_long_as_narinfos_are_believed() {
    let (case, mut edge) = writable_scene().await;
    let ours = case.uploaded(&edge, 1).await;
    let made = made(&ours);
    case.commit(&edge, "a", made.clone()).await;
    let location = case.control().locate("a", made.name).await.expect("answers").expect("known");
    assert!(location.uploaded && location.held, "it is an upload itself: {location:?}");
    case.house.clock.advance(Duration::from_secs(34 * DAY));
    assert_eq!(case.drop_superseded().await, 0);
    case.house.clock.advance(Duration::from_secs(DAY));
    let (dropped, _) = tokio::join!(case.drop_superseded(), edge.obeys());
    assert_eq!(dropped, 1);
    assert_eq!(file_of(&case.known(&ours).await.expect("the path is there yet")), made.name);
    case.house.stop().await;
}

#[tokio::test]
async fn an_upload_stays_where_nobody_has_what_was_made_of_it() {
    let (case, mut edge) = writable_scene().await;
    let ours = case.uploaded(&edge, 1).await;
    let made = made(&ours);
    case.commit(&edge, "a", made.clone()).await;
    let remote = Edge::attach_as(case.control(), Hello { durable: false, ..an_edge("b") }).await;
    remote.holds(&[made.name]);
    while case.house.control.holders(made.name).len() < 2 {
        tokio::task::yield_now().await;
    }
    edge.say(EdgeReport::Evicted { number: 0, gone: vec![made.name] });
    while case.house.control.holders(made.name).len() > 1 {
        tokio::task::yield_now().await;
    }
    case.house.clock.advance(Duration::from_secs(35 * DAY));
    tokio::select! {
        dropped = case.drop_superseded() => assert_eq!(dropped, 0),
        gone = edge.obeys() => panic!("{gone:?}, and that disk may be gone tomorrow"),
    }
    case.house.stop().await;
}

#[tokio::test]
async fn an_upload_is_not_lost_while_any_file_of_it_is_there() {
    let (case, mut edge) = writable_scene().await;
    let ours = case.uploaded(&edge, 1).await;
    let made = made(&ours);
    case.commit(&edge, "a", made.clone()).await;
    edge.say(EdgeReport::Evicted { number: 0, gone: vec![made.name] });
    let hash = ours.store_path.hash();
    for _ in 0..2 {
        while edge.next().await != Some(Directive::Invalidate(vec![hash])) {}
    }
    let known = case.known(&ours).await.expect("not lost");
    assert_eq!((file_of(&known), known.file_size), (file_of(&ours), ours.file_size));
    edge.say(EdgeReport::Evicted { number: 0, gone: vec![file_of(&ours)] });
    while case.known(&ours).await.is_some() {
        tokio::task::yield_now().await;
    }
    case.house.stop().await;
}

#[tokio::test]
async fn nothing_is_made_of_an_upload_on_a_disk_that_is_not_kept() {
    let (case, edge) = writable_scene().await;
    let ours = case.uploaded(&edge, 1).await;
    let other = Hello { durable: false, ..an_edge("b") };
    let other = Edge::attach_as(case.control(), other).await;
    other.holds(&[file_of(&ours)]);
    let refused = case.control().commit_nar("b", made(&ours)).await.map_err(|error| error.code());
    assert_eq!(refused, Err(Code::Refused));
    assert_eq!(case.known(&ours).await, Some(ours));
    case.house.stop().await;
}

#[tokio::test]
async fn what_was_made_can_come_from_where_its_source_can() {
    let (case, edge) = writable_scene().await;
    let (ours, made) = case.made(&edge, 1).await;
    let location = case.control().locate("b", made.name).await.expect("answers").expect("known");
    let former = case.control().locate("b", file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(location.origins, former.origins);
    assert_eq!(location.recipe, made.recipe);
    let peers: Vec<_> = location.peers.iter().map(|peer| peer.holds).collect();
    assert_eq!(peers, [None, Some(file_of(&ours))], "who has the file itself is asked first");
    case.house.stop().await;
}

#[tokio::test]
async fn another_path_of_the_same_nar_is_named_so_at_once() {
    let (case, edge) = writable_scene().await;
    let (ours, made) = case.made(&edge, 1).await;
    let mut twin = case.upstream.narinfo(2);
    (twin.nar_hash, twin.file_hash, twin.file_size) =
        (ours.nar_hash, Some(file_of(&ours).hash), ours.file_size);
    case.upstream.sign(&mut twin);
    let twin = case.publish(twin).await;
    assert_eq!((file_of(&twin), twin.file_size), (made.name, Some(made.file_size)));
    edge.say(EdgeReport::Evicted { number: 0, gone: vec![made.name] });
    while !case.house.control.holders(made.name).is_empty() {
        tokio::task::yield_now().await;
    }
    let mut third = case.upstream.narinfo(3);
    (third.nar_hash, third.file_hash, third.file_size) =
        (ours.nar_hash, Some(file_of(&ours).hash), ours.file_size);
    case.upstream.sign(&mut third);
    assert_eq!(
        file_of(&case.publish(third).await),
        file_of(&ours),
        "nobody has it: what upstream names is as good"
    );
    case.house.stop().await;
}

#[tokio::test]
async fn a_purge_takes_both_files() {
    let (case, edge) = writable_scene().await;
    let (ours, made) = case.made(&edge, 1).await;
    let order = ncps_proto::admin::PurgeOrder { paths: vec![ours.store_path.hash()], ..Default::default() };
    let caller = somebody();
    let report = case.house.control.purge(&order, &caller, |_, _| true);
    let mut edge = edge;
    let told = async {
        loop {
            if let Directive::Remove(removal) = edge.next().await.expect("attached") {
                edge.say(EdgeReport::Evicted { number: removal.number, gone: removal.nars.clone() });
                return removal.nars;
            }
        }
    };
    let (report, mut told) = tokio::join!(report, told);
    assert_eq!(report.expect("purged").files, 2);
    told.sort();
    let mut both = vec![file_of(&ours), made.name];
    both.sort();
    assert_eq!(told, both);
    assert_eq!(case.control().locate("a", made.name).await.expect("answers"), None);
    case.house.stop().await;
}
