//! Publishing, replacing and retracting narinfos.

use std::sync::Arc;

use futures::future::join_all;
use ncps_nix::{FileHash, NarHash, NarInfo, Sha256Hash};
use ncps_proto::{Commit, Lookup, Origin, Publication};

use super::*;

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
    let location = case.control().locate("edge", file_of(&ours)).await.expect("answers").expect("known");
    let best = Origin { upstream: "http://best.test".to_owned(), ..origin(&theirs) };
    let expected = vec![best, origin(&case.upstream.narinfo(1))];
    assert_eq!(location.origins, expected, "by the upstreams' priorities, and none of other bytes");
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
    let location =
        case.control().locate("edge", file_of(&ours)).await.expect("answers").expect("still a file");
    assert_eq!(location.store_paths, vec![], "no narinfo names it any more");
    let location = case.control().locate("edge", file_of(&replaced)).await.expect("answers").expect("known");
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
