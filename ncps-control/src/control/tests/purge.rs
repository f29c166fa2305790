//! What a purge chooses, what edges are told, and what an edge hears that was away.

use ncps_nix::{StorePath, StorePathHash};
use ncps_proto::admin::{PurgeOrder, PurgeReport};
use ncps_proto::{Code, Heard, Publication, Removal};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Edge {
    async fn removal(&mut self) -> Removal {
        match self.next().await {
            Some(Directive::Remove(removal)) => removal,
            other => panic!("expected a removal, not {other:?}"),
        }
    }

    /// Obeys.
    async fn removes(&mut self) -> (Vec<StorePathHash>, Vec<NarFileName>) {
        let Removal { number, store_paths, nars } = self.removal().await;
        self.say(EdgeReport::Evicted { number, gone: nars.clone() });
        (store_paths, nars)
    }
}

impl Case {
    async fn purge(&self, order: PurgeOrder) -> ncps_proto::Result<PurgeReport> {
        self.house.control.purge(&order, &somebody(), |_, _| true).await
    }

    /// What a purge would take.
    async fn fits(&self, order: PurgeOrder) -> Vec<StorePath> {
        match self.purge(PurgeOrder { dry_run: true, ..order }).await {
            Ok(report) => report.paths.into_iter().map(|purged| purged.path).collect(),
            Err(error) => {
                assert_eq!(error.code(), Code::Absent, "{error}");
                vec![]
            }
        }
    }
}

fn these(paths: &[u8]) -> PurgeOrder {
    PurgeOrder { paths: paths.iter().map(|seed| path(*seed).hash()).collect(), ..PurgeOrder::default() }
}

#[tokio::test]
async fn a_purge_takes_narinfo_and_file_and_waits_for_every_edge() {
    let case = Case::new().await;
    let (ours, other) =
        (case.publish(case.upstream.narinfo(1)).await, case.publish(case.upstream.narinfo(2)).await);
    let (mut a, mut b) = (Edge::attach(case.control(), "a").await, Edge::attach(case.control(), "b").await);
    a.holds(&[file_of(&ours), file_of(&other)]);
    let both = async {
        let expected = (vec![ours.store_path.hash()], vec![file_of(&ours)]);
        assert_eq!(a.removes().await, expected);
        assert_eq!(case.known(&ours).await, None, "out of the index before");
        assert_eq!(b.removes().await, expected, "whatever it holds, it may have the narinfo near");
    };
    let (report, ()) = tokio::join!(case.purge(these(&[1])), both);
    let report = report.expect("purged");
    assert_eq!((report.paths.len(), report.files, report.bytes), (1, 1, 9 * BLOCK));
    assert_eq!(report.unheard, [""; 0]);
    assert_eq!(
        case.control().locate("edge", file_of(&ours)).await.expect("answers"),
        None,
        "no origin is left"
    );
    assert_eq!(case.known(&other).await, Some(other));
    assert_eq!(case.publish(case.upstream.narinfo(1)).await, ours, "it may come back");
    case.house.stop().await;
}

#[tokio::test]
async fn a_file_that_another_path_has_stays() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut twin = case.upstream.narinfo(2);
    (twin.nar_hash, twin.file_hash, twin.file_size) = (ours.nar_hash, ours.file_hash, ours.file_size);
    case.upstream.sign(&mut twin);
    let twin = case.publish(twin).await;
    assert_eq!(file_of(&twin), file_of(&ours));
    let mut edge = Edge::attach(case.control(), "a").await;
    let (report, told) = tokio::join!(case.purge(these(&[1])), edge.removes());
    assert_eq!((report.expect("purged").files, told), (0, (vec![ours.store_path.hash()], vec![])));
    let (report, told) = tokio::join!(case.purge(these(&[2])), edge.removes());
    assert_eq!(report.expect("purged").files, 1);
    assert_eq!(told, (vec![twin.store_path.hash()], vec![file_of(&ours)]));
    case.house.stop().await;
}

#[tokio::test]
async fn an_edge_that_was_away_hears_of_it_unless_the_path_came_back() {
    let case = Case::new().await;
    let gone = case.publish(case.upstream.narinfo(1)).await;
    let back = case.publish(case.upstream.narinfo(2)).await;
    case.purge(these(&[1, 2])).await.expect("nobody has to be waited for");
    case.publish(case.upstream.narinfo(2)).await;
    // Rows and memory agree on it.
    let case = case.restart().await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[file_of(&gone), file_of(&back)]);
    assert_eq!(edge.removes().await, (vec![gone.store_path.hash()], vec![file_of(&gone)]));
    drop(edge);
    case.house.clock.advance(91 * DAY);
    case.house.control.remover().forget().await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[file_of(&gone)]);
    edge.say(disk(1, 10, 0));
    case.control().retract_narinfo(back.store_path.hash(), file_of(&back)).await.expect("answers");
    edge.invalidated(&back).await;
    case.house.stop().await;
}

#[tokio::test]
async fn who_does_not_answer_is_said_and_compares_when_it_is_back() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut edge = Edge::attach(case.control(), "a").await;
    let (report, ()) = tokio::join!(case.purge(these(&[1])), async {
        edge.removal().await;
        drop(edge);
    });
    assert_eq!(report.expect("purged").unheard, ["a"]);
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[file_of(&ours)]);
    assert_eq!(edge.removes().await.1, [file_of(&ours)]);
    case.house.stop().await;
}

#[tokio::test]
async fn selectors_must_all_fit() {
    let case = Case::new().await;
    for seed in [1, 2, 3] {
        case.publish(case.upstream.narinfo(seed)).await;
    }
    let elsewhere =
        Publication { upstream: "http://best.test".to_owned(), ..publication(case.upstream.narinfo(2)) };
    case.control().publish_narinfo(elsewhere).await.expect("trusted");
    case.house.control.flushed().await;
    case.house.clock.advance(30 * DAY);
    case.publish(case.upstream.narinfo(4)).await;
    let named = |glob: &str| PurgeOrder { name: Some(glob.to_owned()), ..PurgeOrder::default() };
    let from = |url: &str| PurgeOrder { upstream: Some(url.to_owned()), ..PurgeOrder::default() };
    let unused = |age: Duration| PurgeOrder { older_than: Some(age), ..PurgeOrder::default() };
    let paths = |seeds: &[u8]| seeds.iter().map(|seed| path(*seed)).collect::<Vec<_>>();
    assert_eq!(case.fits(named("path-?")).await, paths(&[1, 2, 3, 4]));
    assert_eq!(case.fits(named("path*")).await, paths(&[1, 2, 3, 4]));
    assert_eq!(case.fits(named("*-5")).await, paths(&[]));
    assert_eq!(case.fits(from("http://upstream.test/")).await, paths(&[1, 3, 4]), "2 can be had elsewhere");
    assert_eq!(case.fits(unused(20 * DAY)).await, paths(&[1, 2, 3]));
    assert_eq!(case.fits(unused(31 * DAY)).await, paths(&[]));
    let all = PurgeOrder { older_than: Some(DAY), upstream: from(UPSTREAM).upstream, ..named("*-1") };
    assert_eq!(case.fits(all).await, paths(&[1]));
    assert_eq!(case.fits(PurgeOrder { name: named("*-2").name, ..these(&[1, 2]) }).await, paths(&[2]));
    case.house.stop().await;
}

#[tokio::test]
async fn bad_orders_change_nothing() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let refusal = async |order| case.purge(order).await.expect_err("refused").code();
    assert_eq!(
        refusal(PurgeOrder::default()).await,
        Code::Invalid,
        "all of it is not said by saying nothing"
    );
    assert_eq!(refusal(these(&[1, 9])).await, Code::Absent, "one of them is not known");
    assert_eq!(case.known(&ours).await, Some(ours));
    case.house.stop().await;
}

#[tokio::test]
async fn pinned_paths_stay_unless_they_are_forced() {
    let case = Case::new().await;
    for seed in [1, 2] {
        case.publish(case.upstream.narinfo(seed)).await;
    }
    case.house.control.pin(path(1).hash(), None, None, &somebody()).await.expect("pinned");
    assert_eq!(case.purge(these(&[1, 2])).await.expect_err("it is named").code(), Code::Invalid);
    let all = PurgeOrder { name: Some("*".to_owned()), ..PurgeOrder::default() };
    let report = case.purge(all.clone()).await.expect("purged");
    assert_eq!((report.paths.len(), report.pinned), (1, 1));
    assert_eq!(case.purge(all.clone()).await.expect_err("none is left").code(), Code::Absent);
    let report = case.purge(PurgeOrder { force: true, ..all }).await.expect("purged");
    assert_eq!((report.paths.len(), report.pinned), (1, 0));
    assert_eq!(case.house.control.list_pins().await.expect("listed").len(), 1, "for what comes back");
    case.house.stop().await;
}

#[tokio::test]
async fn an_absence_is_forgotten() {
    let case = Case::new().await;
    let hash = path(1).hash();
    case.control().publish_absent(hash, Heard::All).await.expect("answers");
    let report = case.purge(these(&[1])).await.expect("purged");
    assert_eq!((report.paths.len(), report.absences), (0, 1));
    assert_eq!(case.control().narinfo(hash).await.expect("answers"), Lookup::Unknown);
    case.house.stop().await;
}

#[tokio::test]
async fn who_does_not_listen_any_more_calls_the_rest_off() {
    let case = Case::new().await;
    for seed in 0..130 {
        case.publish(case.upstream.narinfo(seed)).await;
    }
    let all = PurgeOrder { name: Some("*".to_owned()), ..PurgeOrder::default() };
    let mut told = Vec::new();
    let twice = |paths, of| {
        told.push((paths, of));
        told.len() < 3
    };
    case.house.control.purge(&all, &somebody(), twice).await.expect("begun");
    assert_eq!(told, [(0, 130), (64, 130), (128, 130)], "and then it ends");
    assert_eq!(case.fits(all).await.len(), 2, "what was gone is gone");
    case.house.stop().await;
}
