//! What a commit proves, and what follows for narinfos and sources.

use ncps_nix::Compression;
use ncps_proto::{Code, Commit};

use super::*;
use crate::record::uncompressed;

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
    for narinfo in [&ours, &plain_ours] {
        case.control().commit_nar("a", commit(narinfo)).await.expect("answers");
    }
    let location =
        case.control().locate("edge", file_of(&plain_ours)).await.expect("answers").expect("known");
    assert_eq!(location.representations, vec![file_of(&ours)]);
    assert_eq!(location.origins, vec![origin(&plain), origin(&compressed)], "its own first");
    let location = case.control().locate("edge", file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(location.representations, vec![file_of(&plain_ours)]);
    assert_eq!(location.origins, vec![origin(&compressed)], "nothing can be compressed to given bytes");
    case.house.stop().await;
}

#[tokio::test]
async fn who_has_the_nar_compressed_is_a_source_of_it_uncompressed() {
    let case = Case::new().await;
    let compressed = case.upstream.narinfo(1);
    let mut opaque = compressed.clone();
    (opaque.file_hash, opaque.file_size, opaque.url) = (None, None, "nar/opaque".to_owned());
    let ours = case.publish(opaque.clone()).await;
    assert_eq!(ours.compression, Compression::None);
    assert_eq!(case.publish(compressed.clone()).await, ours, "the first stays");
    let location = case.control().locate("edge", file_of(&ours)).await.expect("answers").expect("known");
    assert_eq!(location.origins, vec![origin(&opaque), origin(&compressed)]);
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
    let location = case.control().locate("edge", file_of(&again)).await.expect("answers").expect("known");
    assert_eq!(location.origins, vec![origin(&wrong)]);
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
        let location = case.control().locate("edge", old).await.expect("answers").expect("known");
        assert_eq!(location.name, names[1]);
    }
    // And back: the first name is the right one after all.
    let back = Commit { name: file_of(&ours), asked_as: Some(names[1]), ..commit(&ours) };
    case.control().commit_nar("a", back).await.expect("answers");
    let case = case.restart().await;
    for old in [file_of(&ours), names[0], names[1]] {
        let location = case.control().locate("edge", old).await.expect("answers").expect("known");
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
    let nar = facts(1);
    let bad = Commit {
        name,
        asked_as: None,
        file_size: 5000,
        nar,
        origin: None,
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    };
    let refused = case.control().commit_nar("a", bad).await.expect_err("an uncompressed file is its NAR");
    assert_eq!(refused.code(), Code::Invalid);
    assert_eq!(case.control().locate("edge", name).await.expect("answers"), None);
    case.house.stop().await;
}
