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
