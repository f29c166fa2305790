//! What pins keep from eviction, and until when.

use ncps_proto::Code;

use super::*;
use ncps_proto::admin::{EvictionOrder, Goal};

use crate::Extent;

const HOUR: Duration = Duration::from_secs(3600);

impl Case {
    /// A path with these references, published; its seed names it.
    async fn depends(&self, seed: u8, references: &[u8]) -> NarInfo {
        let mut narinfo = self.upstream.narinfo(seed);
        narinfo.references = references.iter().map(|seed| path(*seed)).collect();
        self.upstream.sign(&mut narinfo);
        self.publish(narinfo).await
    }

    async fn pin(&self, seed: u8, label: Option<&str>, lasts: Option<Duration>) -> Extent {
        let (label, who) = (label.map(str::to_owned), somebody());
        self.house.control.pin(path(seed).hash(), label, lasts, &who).await.expect("pinned").1
    }

    /// What would go if all had to.
    async fn may_go(&self) -> Vec<NarFileName> {
        let order = EvictionOrder { goal: Goal::To(0), dry_run: true, ..EvictionOrder::default() };
        let report = self.house.control.evict(order).await.expect("planned");
        report.edges.iter().flat_map(|edge| &edge.plan).map(|planned| planned.name).collect()
    }
}

/// A case whose edge holds the files of these.
async fn holding(narinfos: &[&NarInfo], case: &Case) -> Edge {
    let edge = Edge::attach(case.control(), "a").await;
    edge.holds(&narinfos.iter().map(|narinfo| file_of(narinfo)).collect::<Vec<_>>());
    edge.say(disk(1, 10 * narinfos.len() as u64, 0));
    while case
        .house
        .control
        .evict(EvictionOrder { goal: Goal::To(0), dry_run: true, edge: Some("a".to_owned()) })
        .await
        .is_err()
    {
        tokio::task::yield_now().await;
    }
    edge
}

#[tokio::test]
async fn a_pin_protects_all_that_its_root_needs() {
    let case = Case::new().await;
    let (root, needed) = (case.depends(1, &[1, 2]).await, case.depends(2, &[1]).await);
    let other = case.depends(3, &[1]).await;
    let _edge = holding(&[&root, &needed, &other], &case).await;
    assert_eq!(case.may_go().await.len(), 3);
    assert_eq!(case.pin(1, None, None).await, Extent { paths: 2, unknown: 0 });
    assert_eq!(case.may_go().await, [file_of(&other)]);
    case.house.control.unpin(&path(1).to_string(), &somebody()).await.expect("it was pinned");
    assert_eq!(case.may_go().await.len(), 3);
    case.house.stop().await;
}

#[tokio::test]
async fn what_is_referenced_and_comes_later_is_protected_at_once_also_after_a_restart() {
    let case = Case::new().await;
    let root = case.depends(1, &[2]).await;
    assert_eq!(case.pin(1, Some("late"), None).await, Extent { paths: 1, unknown: 1 });
    let case = case.restart().await;
    let needed = case.depends(2, &[3]).await;
    let (deeper, other) = (case.depends(3, &[]).await, case.depends(4, &[]).await);
    let _edge = holding(&[&root, &needed, &deeper, &other], &case).await;
    assert_eq!(case.may_go().await, [file_of(&other)]);
    case.house.stop().await;
}

#[tokio::test]
async fn a_pin_ends_with_its_time_or_by_its_label() {
    let case = Case::new().await;
    let (short, long) = (case.depends(1, &[]).await, case.depends(2, &[]).await);
    let _edge = holding(&[&short, &long], &case).await;
    case.pin(1, Some("short"), Some(HOUR)).await;
    case.pin(2, Some("long"), Some(2 * HOUR)).await;
    assert_eq!(case.may_go().await, []);
    case.house.clock.advance(HOUR);
    assert_eq!(case.may_go().await, [file_of(&short)]);
    let listed = case.house.control.list_pins().await.expect("listed");
    let labels: Vec<_> = listed.iter().filter_map(|pin| pin.label.as_deref()).collect();
    assert_eq!(labels, ["long"]);
    assert_eq!(listed[0].made_by, somebody().who);
    // The same path under the same label: it lasts longer now.
    case.pin(2, Some("long"), Some(5 * HOUR)).await;
    case.house.clock.advance(2 * HOUR);
    assert_eq!(case.may_go().await, [file_of(&short)]);
    case.house.control.unpin("long", &somebody()).await.expect("it is pinned");
    assert_eq!(case.may_go().await.len(), 2);
    case.house.stop().await;
}

#[tokio::test]
async fn a_path_with_two_pins_is_free_when_both_are_gone() {
    let case = Case::new().await;
    let root = case.depends(1, &[]).await;
    let _edge = holding(&[&root], &case).await;
    case.pin(1, Some("one"), None).await;
    case.pin(1, Some("two"), None).await;
    case.house.control.unpin("one", &somebody()).await.expect("it is pinned");
    assert_eq!(case.may_go().await, []);
    case.house.control.unpin("two", &somebody()).await.expect("it is pinned");
    assert_eq!(case.may_go().await, [file_of(&root)]);
    case.house.stop().await;
}

#[tokio::test]
async fn what_cant_be_pinned_or_unpinned_is_refused() {
    let case = Case::new().await;
    case.depends(1, &[]).await;
    let control = &case.house.control;
    let refused = async |seed: u8, label: &str| {
        let pinned = control.pin(path(seed).hash(), Some(label.to_owned()), None, &somebody()).await;
        pinned.expect_err("refused").code()
    };
    assert_eq!(refused(2, "x").await, Code::Absent, "not in the index");
    for label in ["", "a\nb", &"x".repeat(256), &path(1).to_string()] {
        assert_eq!(refused(1, label).await, Code::Invalid, "{label:?}");
    }
    assert_eq!(control.list_pins().await.expect("listed"), []);
    for what in [path(1).to_string(), "label".to_owned()] {
        assert_eq!(control.unpin(&what, &somebody()).await.expect_err("no pin").code(), Code::Absent);
    }
    case.house.stop().await;
}
