//! Eviction where several edges hold the same: a copy goes before the last one, and never both.

use super::*;

/// Two edges, of whose stores more than 40 blocks are too much each. Both hold `both`, read last of all.
async fn scene() -> (Case, Edge, Edge) {
    let case = limited(|settings| settings.max_size = Some(40 * BLOCK)).await;
    let (a, b) = (Edge::attach(case.control(), "a").await, Edge::attach(case.control(), "b").await);
    for (edge, own) in [(&a, "a's"), (&b, "b's")] {
        edge.holds(&[nar(own)]);
        edge.say(EdgeReport::Committed(held(nar("both"))));
    }
    while case.house.control.holders(nar("both")).len() < 2 {
        tokio::task::yield_now().await;
    }
    (case, a, b)
}

#[tokio::test]
async fn what_the_other_one_has_goes_first_and_then_it_stays_there() {
    let (case, mut a, mut b) = scene().await;
    a.say(disk(1, 45, 0));
    assert_eq!(a.evicts().await, [nar("both")], "it was read last, but can be had from the other one");
    b.say(disk(1, 45, 0));
    assert_eq!(b.evicts().await, [nar("b's")], "the last copy is older or newer as any other");
    case.house.stop().await;
}

#[tokio::test]
async fn the_other_one_may_not_count_on_a_copy_whose_end_is_not_answered_yet() {
    let (case, mut a, mut b) = scene().await;
    a.say(disk(1, 45, 0));
    let told = a.eviction().await;
    assert_eq!(told.victims[0].name, nar("both"));
    // Nobody answers, and the session ends: control goes on with the other edge, which holds the only copy to count on.
    b.say(disk(1, 45, 0));
    drop(a);
    assert_eq!(b.evicts().await, [nar("b's")]);
    case.house.stop().await;
}

#[tokio::test]
async fn what_stayed_since_it_was_in_use_counts_again() {
    let (case, mut a, mut b) = scene().await;
    a.say(disk(1, 45, 0));
    assert_eq!(a.evicts_but(&[nar("both")]).await, [nar("both")]);
    // Nothing more is wanted of it.
    a.say(disk(2, 40, 0));
    let is_heard = || case.house.control.sessions.disks().iter().any(|disk| disk.report.number == 2);
    while !is_heard() {
        tokio::task::yield_now().await;
    }
    b.say(disk(1, 45, 0));
    assert_eq!(b.evicts().await, [nar("both")]);
    case.house.stop().await;
}

/// Obeys the next eviction, whatever else it is told.
async fn evicts(edge: &mut Edge) -> Vec<NarFileName> {
    loop {
        if let Directive::Evict(Eviction { victims, number, .. }) = edge.next().await.expect("attached") {
            let gone: Vec<_> = victims.iter().map(|victim| victim.name).collect();
            edge.say(EdgeReport::Evicted { number, gone: gone.clone() });
            return gone;
        }
    }
}

#[tokio::test]
async fn a_copy_on_a_disk_that_is_not_kept_saves_no_upload() {
    let case = limited(|settings| {
        settings.max_size = Some(40 * BLOCK);
        settings.writing = ncps_proto::Writing { put: true, ..settings.writing };
    });
    let case = case.await;
    let mut kept = Edge::attach_as(case.control(), Hello { durable: true, ..an_edge("a") }).await.answering();
    let mut lent =
        Edge::attach_as(case.control(), Hello { durable: false, ..an_edge("b") }).await.answering();
    kept.holds(&[nar("fetched")]);
    lent.holds(&[]);
    let narinfo = case.upstream.narinfo(1);
    let name = file_of(&narinfo);
    kept.say(EdgeReport::Committed(held(name)));
    let commit = Commit { uploaded: true, ..commit(&narinfo) };
    case.control().commit_nar("a", commit).await.expect("committed");
    let writer = ncps_proto::Writer { instance: "b".to_owned(), secret: None };
    let upload = ncps_proto::Upload { narinfo: narinfo.clone(), nar: name, held: false, writer };
    case.control().publish_upload(upload).await.expect("it rests at the other edge");
    lent.say(EdgeReport::Committed(held(name)));
    while case.house.control.holders(name).len() < 2 {
        tokio::task::yield_now().await;
    }
    kept.say(disk(1, 41, 0));
    assert_eq!(evicts(&mut kept).await, [nar("fetched")], "the upload goes last");
    kept.say(disk(2, 41, 0));
    assert_eq!(evicts(&mut kept).await, [name], "nothing else is left");
    while case.known(&narinfo).await.is_some() {
        tokio::task::yield_now().await;
    }
    let removal = loop {
        if let Some(Directive::Remove(removal)) = lent.next().await {
            break removal;
        }
    };
    assert_eq!((removal.nars, removal.store_paths), (vec![name], vec![narinfo.store_path.hash()]));
    case.house.stop().await;
}
