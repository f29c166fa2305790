//! The use cases over a real database: the conformance suite, and what only control promises.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ncps_nix::{Compression, FileHash, NarHash, NarInfo, Sha256Hash};
use ncps_proto::conformance::{self, Setup};
use ncps_proto::{
    Accesses, Code, Commit, ControlPlane, Directive, EdgeReport, HeldNar, Hello, Lookup, Origin, Publication,
    Turn, grpc,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::record::{facts_of, file_of, uncompressed};
use crate::testing::*;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Planes of the suite live until the test ends.
#[derive(Default)]
struct Houses(Mutex<Vec<(House, TempDir)>>);

impl Houses {
    async fn make(&self, setup: Setup) -> Arc<dyn ControlPlane> {
        let folder = folder();
        let settings = settings(setup.trusted);
        let house = House::open(folder.path(), own_key(), settings, setup.negative_ttl).await;
        let control = Arc::clone(&house.control);
        self.0.lock().push((house, folder));
        control
    }

    async fn stop(self) {
        for (house, _folder) in self.0.into_inner() {
            house.stop().await;
        }
    }
}

#[tokio::test]
async fn control_passes_the_suite() {
    let houses = Houses::default();
    conformance::check(|setup| houses.make(setup)).await;
    houses.stop().await;
}

#[tokio::test]
async fn control_through_grpc_passes_the_suite() {
    let houses = Houses::default();
    conformance::check(|setup| async { grpc::in_process(houses.make(setup).await) }).await;
    houses.stop().await;
}

struct Case {
    upstream: Upstream,
    key: ncps_nix::SecretKey,
    folder: TempDir,
    house: House,
}

impl Case {
    async fn new() -> Self {
        let (upstream, key, folder) = (Upstream::new(), own_key(), folder());
        let house = open(&upstream, &key, &folder).await;
        Self { upstream, key, folder, house }
    }

    async fn restart(self) -> Self {
        let Self { upstream, key, folder, house } = self;
        house.stop().await;
        let house = open(&upstream, &key, &folder).await;
        Self { upstream, key, folder, house }
    }

    fn control(&self) -> &dyn ControlPlane {
        &*self.house.control
    }

    async fn publish(&self, narinfo: NarInfo) -> NarInfo {
        self.control().publish_narinfo(publication(narinfo)).await.expect("trusted")
    }

    async fn known(&self, narinfo: &NarInfo) -> Option<NarInfo> {
        match self.control().narinfo(narinfo.store_path.hash()).await.expect("answers") {
            Lookup::Known(narinfo) => Some(narinfo),
            Lookup::Absent(_) | Lookup::Unknown => None,
        }
    }
}

async fn open(upstream: &Upstream, key: &ncps_nix::SecretKey, folder: &TempDir) -> House {
    let settings = settings(upstream.key.public());
    House::open(folder.path(), same_key(key), settings, Duration::from_secs(60)).await
}

#[tokio::test]
async fn of_many_racers_the_first_wins_and_all_get_its_version() {
    let case = Case::new().await;
    let versions = (0..32_u8).map(|racer| {
        let mut theirs = case.upstream.narinfo(1);
        theirs.file_hash = Some(FileHash(Sha256Hash::of(&[racer, 99])));
        theirs.file_size = Some(u64::from(racer));
        let control = Arc::clone(&case.house.control);
        tokio::spawn(
            async move { control.publish_narinfo(publication(theirs)).await.expect("trusted").render() },
        )
    });
    let answers: Vec<String> =
        join_all(versions).await.into_iter().map(|answer| answer.expect("no panic")).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let known = case.known(&case.upstream.narinfo(1)).await.expect("published");
    assert_eq!(known.render(), answers[0]);
    let case = case.restart().await;
    assert_eq!(case.known(&known).await.expect("published").render(), answers[0], "and so says its row");
    case.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_race_holds_on_several_threads() {
    let case = Case::new().await;
    for seed in 0..20 {
        let racers = (0..32_u8).map(|racer| {
            let mut theirs = case.upstream.narinfo(seed);
            theirs.file_hash = Some(FileHash(Sha256Hash::of(&[seed, racer, 99])));
            let control = Arc::clone(&case.house.control);
            tokio::spawn(async move { control.publish_narinfo(publication(theirs)).await.expect("trusted") })
        });
        let answers = join_all(racers).await;
        let first = answers[0].as_ref().expect("no panic");
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|n| n == first)));
    }
    case.house.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let case = Case::new().await;
    let id = case.house.control.settings().index_id.clone();
    let mut theirs = case.upstream.narinfo(1);
    theirs.references.push(path(7));
    case.upstream.sign(&mut theirs);
    let ours = case.publish(theirs.clone()).await;
    let other = case.publish(case.upstream.narinfo(2)).await;
    let right = file("right", Compression::Zstd);
    let corrected = Commit { name: right, asked_as: Some(file_of(&other)), file_size: 9, ..commit(&other) };
    case.control().commit_nar("a", corrected).await.expect("answers");
    // Nobody waited for a row: what is not written yet is written at the end.
    let case = case.restart().await;
    assert_eq!(case.house.control.settings().index_id, id);
    assert_eq!(case.known(&theirs).await.expect("kept").render(), ours.render());
    let location = case.control().locate(file_of(&ours)).await.expect("answers").expect("kept");
    assert_eq!((location.file_size, location.nar), (ours.file_size, Some(facts_of(&ours))));
    assert_eq!(
        (location.origins, location.store_paths),
        (vec![origin(&theirs)], vec![ours.store_path.hash()])
    );
    let moved = case.known(&other).await.expect("kept");
    assert_eq!((file_of(&moved), moved.file_size), (right, Some(9)));
    let location = case.control().locate(file_of(&other)).await.expect("answers").expect("an alias");
    assert_eq!((location.name, location.store_paths), (right, vec![other.store_path.hash()]));
    case.house.stop().await;
}

#[tokio::test]
async fn answers_are_the_same_before_and_after_the_row_is_written() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let name = file_of(&ours);
    let before = (case.known(&ours).await, case.control().locate(name).await.expect("answers"));
    case.house.control.flushed().await;
    let after = (case.known(&ours).await, case.control().locate(name).await.expect("answers"));
    assert_eq!(before, after);
    assert!(before.1.is_some());
    case.house.stop().await;
}

#[tokio::test]
async fn a_second_upstream_is_one_more_source_of_the_same_file() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut theirs = case.upstream.narinfo(1);
    theirs.url = "nar/elsewhere".to_owned();
    let from = |upstream: &str, narinfo: NarInfo| Publication {
        narinfo,
        upstream: upstream.to_owned(),
        replaces: false,
    };
    case.control().publish_narinfo(from("http://best.test", theirs.clone())).await.expect("trusted");
    let mut other_file = theirs.clone();
    other_file.file_hash = Some(FileHash(Sha256Hash::of(b"other bytes")));
    case.control().publish_narinfo(from("http://third.test", other_file)).await.expect("trusted");
    let location = case.control().locate(file_of(&ours)).await.expect("answers").expect("known");
    let best = Origin { upstream: "http://best.test".to_owned(), ..origin(&theirs) };
    let expected = vec![best, origin(&case.upstream.narinfo(1))];
    assert_eq!(location.origins, expected, "by the upstreams' priorities, and none of other bytes");
    case.house.stop().await;
}

#[tokio::test]
async fn an_uncompressed_nar_can_come_from_its_other_representations() {
    let case = Case::new().await;
    let compressed = case.upstream.narinfo(1);
    let ours = case.publish(compressed.clone()).await;
    let mut plain = case.upstream.narinfo(2);
    (plain.nar_hash, plain.compression, plain.file_hash) = (compressed.nar_hash, Compression::None, None);
    plain.url = "nar/plain".to_owned();
    case.upstream.sign(&mut plain);
    let plain_ours = case.publish(plain.clone()).await;
    assert_eq!(file_of(&plain_ours).hash, uncompressed(compressed.nar_hash));
    let location = case.control().locate(file_of(&plain_ours)).await.expect("answers").expect("known");
    assert_eq!(location.representations, vec![file_of(&ours)]);
    assert_eq!(location.origins, vec![origin(&plain), origin(&compressed)], "its own first");
    let location = case.control().locate(file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(location.representations, vec![file_of(&plain_ours)]);
    assert_eq!(location.origins, vec![origin(&compressed)], "nothing can be compressed to given bytes");
    case.house.stop().await;
}

#[tokio::test]
async fn a_narinfo_that_names_another_nars_file_is_forgotten_and_offered_uncompressed() {
    let case = Case::new().await;
    let right = case.publish(case.upstream.narinfo(1)).await;
    let mut wrong = case.upstream.narinfo(2);
    wrong.file_hash = right.file_hash;
    let published = case.publish(wrong.clone()).await;
    assert_eq!(file_of(&published), file_of(&right), "nobody knows better yet");
    let mut edge = Edge::attach(case.control(), "a").await;
    let narinfos = case.control().commit_nar("a", commit(&right)).await.expect("answers");
    assert_eq!(narinfos, vec![right.clone()], "the other is another NAR's");
    edge.invalidated(&wrong).await;
    assert_eq!(case.known(&wrong).await, None);
    let again = case.publish(wrong.clone()).await;
    assert_eq!((again.compression, again.file_hash), (Compression::None, Some(uncompressed(wrong.nar_hash))));
    let location = case.control().locate(file_of(&again)).await.expect("answers").expect("known");
    assert_eq!(location.origins, vec![origin(&wrong)]);
    case.house.stop().await;
}

#[tokio::test]
async fn a_later_narinfo_with_a_corrected_file_hash_is_corrected_at_once() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let right = file("right", Compression::Xz);
    let corrected = Commit { name: right, asked_as: Some(file_of(&ours)), file_size: 9, ..commit(&ours) };
    case.control().commit_nar("a", corrected).await.expect("answers");
    let mut twin = case.upstream.narinfo(2);
    (twin.nar_hash, twin.file_hash) = (ours.nar_hash, ours.file_hash);
    case.upstream.sign(&mut twin);
    let twin = case.publish(twin).await;
    assert_eq!((file_of(&twin), twin.file_size), (right, Some(9)));
    case.house.stop().await;
}

#[tokio::test]
async fn a_proven_size_wins_over_a_later_claim() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    case.control().commit_nar("a", commit(&ours)).await.expect("answers");
    let mut twin = NarInfo { file_size: Some(1), file_hash: ours.file_hash, ..case.upstream.narinfo(2) };
    twin.nar_hash = ours.nar_hash;
    case.upstream.sign(&mut twin);
    assert_eq!(case.publish(twin).await.file_size, ours.file_size);
    case.house.stop().await;
}

#[tokio::test]
async fn corrections_of_corrections_lead_to_the_last_one() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let names = ["second", "third"].map(|name| file(name, Compression::Xz));
    let mut wrong = file_of(&ours);
    for name in names {
        let corrected = Commit { name, asked_as: Some(wrong), file_size: 9, ..commit(&ours) };
        let narinfos = case.control().commit_nar("a", corrected).await.expect("answers");
        assert_eq!(narinfos.iter().map(file_of).collect::<Vec<_>>(), [name]);
        wrong = name;
    }
    let case = case.restart().await;
    for old in [file_of(&ours), names[0], names[1]] {
        let location = case.control().locate(old).await.expect("answers").expect("known");
        assert_eq!(location.name, names[1]);
    }
    // And back: the first name is the right one after all.
    let back = Commit { name: file_of(&ours), asked_as: Some(names[1]), ..commit(&ours) };
    case.control().commit_nar("a", back).await.expect("answers");
    let case = case.restart().await;
    for old in [file_of(&ours), names[0], names[1]] {
        let location = case.control().locate(old).await.expect("answers").expect("known");
        assert_eq!(location.name, file_of(&ours));
    }
    case.house.stop().await;
}

#[tokio::test]
async fn a_commit_corrects_a_wrong_file_size() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut edge = Edge::attach(case.control(), "a").await;
    let narinfos =
        case.control().commit_nar("a", Commit { file_size: 77, ..commit(&ours) }).await.expect("answers");
    assert_eq!(narinfos[0].file_size, Some(77));
    assert_eq!(case.known(&ours).await.expect("known").file_size, Some(77));
    edge.invalidated(&ours).await;
    case.house.stop().await;
}

#[tokio::test]
async fn an_impossible_commit_is_refused() {
    let case = Case::new().await;
    let name = file("not the NAR", Compression::None);
    let bad = Commit { name, asked_as: None, file_size: 5000, nar: facts(1), origin: None };
    let refused = case.control().commit_nar("a", bad).await.expect_err("an uncompressed file is its NAR");
    assert_eq!(refused.code(), Code::Invalid);
    assert_eq!(case.control().locate(name).await.expect("answers"), None);
    case.house.stop().await;
}

#[tokio::test]
async fn a_replacement_leads_the_origins_and_outlives_a_restart() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut theirs = case.upstream.narinfo(1);
    theirs.nar_hash = NarHash(Sha256Hash::of(b"rebuilt"));
    theirs.file_hash = Some(FileHash(Sha256Hash::of(b"rebuilt file")));
    case.upstream.sign(&mut theirs);
    let replaced = Publication { replaces: true, ..publication(theirs.clone()) };
    let replaced = case.control().publish_narinfo(replaced).await.expect("trusted");
    let case = case.restart().await;
    assert_eq!(case.known(&ours).await, Some(replaced.clone()));
    let location = case.control().locate(file_of(&ours)).await.expect("answers").expect("still a file");
    assert_eq!(location.store_paths, vec![], "no narinfo names it any more");
    let location = case.control().locate(file_of(&replaced)).await.expect("answers").expect("known");
    assert_eq!(location.origins, vec![origin(&theirs)]);
    case.house.stop().await;
}

#[tokio::test]
async fn what_is_retracted_is_gone_after_a_restart() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    case.house.control.flushed().await;
    let hash = ours.store_path.hash();
    case.control().retract_narinfo(hash, file_of(&ours)).await.expect("answers");
    assert!(matches!(case.control().narinfo(hash).await.expect("answers"), Lookup::Absent(_)));
    case.control().retract_narinfo(hash, file_of(&ours)).await.expect("repeatable");
    let case = case.restart().await;
    assert_eq!(case.control().narinfo(hash).await.expect("answers"), Lookup::Unknown);
    case.house.stop().await;
}

/// An attached edge.
struct Edge {
    reports: mpsc::UnboundedSender<EdgeReport>,
    directives: ncps_proto::Directives,
}

impl Edge {
    async fn attach(control: &dyn ControlPlane, instance: &str) -> Self {
        let (reports, mut said) = mpsc::unbounded_channel();
        let url = Some(format!("http://{instance}:8501"));
        let hello = Hello { name: instance.to_owned(), instance: instance.to_owned(), url };
        reports.send(EdgeReport::Hello(hello)).expect("open");
        let stream = futures::stream::poll_fn(move |cx| said.poll_recv(cx));
        let directives = control.attach(Box::pin(stream)).await.expect("attaches");
        let mut edge = Self { reports, directives };
        assert!(matches!(edge.next().await, Some(Directive::Configure(_))));
        edge
    }

    async fn next(&mut self) -> Option<Directive> {
        use futures::StreamExt;
        self.directives.next().await.map(|directive| directive.expect("no break"))
    }

    async fn invalidated(&mut self, narinfo: &NarInfo) {
        let next = self.next().await;
        assert_eq!(next, Some(Directive::Invalidate(vec![narinfo.store_path.hash()])));
    }
}

#[tokio::test]
async fn a_new_session_of_an_instance_takes_over_with_its_turns() {
    let case = Case::new().await;
    let name = file("x", Compression::Xz);
    let mut old = Edge::attach(case.control(), "a").await;
    let _b = Edge::attach(case.control(), "b").await;
    assert_eq!(case.control().begin_fetch("a", name).await.expect("answers"), Turn::Yours);
    let _new = Edge::attach(case.control(), "a").await;
    assert_eq!(old.next().await, None, "the old session ends");
    drop(old);
    let theirs = Turn::Theirs(Some("http://a:8501".to_owned()));
    assert_eq!(case.control().begin_fetch("b", name).await.expect("answers"), theirs);
    assert_eq!(case.house.control.edges(), 2);
    case.house.stop().await;
}

#[tokio::test]
async fn an_edge_that_does_not_keep_up_is_cut() {
    let case = Case::new().await;
    let mut slow = Edge::attach(case.control(), "slow").await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut replacement = publication(case.upstream.narinfo(1));
    replacement.replaces = true;
    while case.house.control.edges() == 1 {
        case.control().publish_narinfo(replacement.clone()).await.expect("trusted");
    }
    let mut heard = 0;
    while let Some(directive) = slow.next().await {
        assert_eq!(directive, Directive::Invalidate(vec![ours.store_path.hash()]));
        heard += 1;
    }
    assert!(heard >= 1000, "the queue holds {heard}");
    case.house.stop().await;
}

#[tokio::test]
async fn holdings_and_accesses_are_heard() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let held = HeldNar { name: file_of(&ours), file_size: 1 };
    case.house.control.flushed().await;
    case.house.clock.advance(Duration::from_secs(500));
    let edge = Edge::attach(case.control(), "a").await;
    edge.reports.send(EdgeReport::Inventory { held: vec![held], last: true }).expect("open");
    let accesses = Accesses { narinfos: vec![(ours.store_path.hash(), 2)], nars: vec![(held.name, 3)] };
    edge.reports.send(EdgeReport::Accesses(accesses)).expect("open");
    while case.house.control.holders(held.name).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(case.house.control.holders(held.name), ["http://a:8501"]);
    drop(edge);
    while case.house.control.edges() > 0 {
        tokio::task::yield_now().await;
    }
    let Case { house, folder, .. } = case;
    house.stop().await;
    assert_eq!(column(&folder, "SELECT last_access FROM nar_files").await, [1_000_500]);
    assert_eq!(column(&folder, "SELECT served_at FROM narinfos").await, [1_000_500]);
    assert_eq!(column(&folder, "SELECT created_at FROM narinfos").await, [1_000_000]);
}

async fn column(folder: &TempDir, sql: &'static str) -> Vec<i64> {
    use sqlx::ConnectOptions;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("db.sqlite"));
    let mut connection = options.connect().await.expect("opens");
    sqlx::query_scalar(sql).fetch_all(&mut connection).await.expect("reads")
}
