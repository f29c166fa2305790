//! Attached edges: takeover, slowness, what they report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::{Accesses, Code, Directive, EdgeReport, HeldNar, PROTOCOL, Turn};
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn a_new_session_of_an_instance_takes_over_with_its_turns() {
    let case = Case::new().await;
    let name = file("x", Compression::Xz);
    let mut old = Edge::attach(case.control(), "a").await;
    let _b = Edge::attach(case.control(), "b").await;
    assert_eq!(case.control().begin_fetch("a", name, &[]).await.expect("answers"), Turn::Yours(Vec::new()));
    let _new = Edge::attach(case.control(), "a").await;
    assert_eq!(old.next().await, None, "the old session ends");
    drop(old);
    let theirs = Turn::Theirs(Some("http://a:8501".to_owned()));
    assert_eq!(case.control().begin_fetch("b", name, &[]).await.expect("answers"), theirs);
    assert_eq!(case.house.control.edges(), 2);
    case.house.stop().await;
}

#[tokio::test]
async fn an_edge_that_can_not_be_is_refused() {
    let case = Case::new().await;
    let bad = [
        Hello { name: "a\nb".to_owned(), ..an_edge("a") },
        Hello { instance: String::new(), ..an_edge("a") },
        Hello { zone: Some("\u{1b}[2J".to_owned()), ..an_edge("a") },
        Hello { url: Some("host:8501".to_owned()), ..an_edge("a") },
        Hello { capacity: Some(0), ..an_edge("a") },
        Hello { capacity: Some(u64::MAX), ..an_edge("a") },
    ];
    for hello in bad {
        let refused = Edge::try_attach(case.control(), hello.clone()).await.err();
        assert!(refused.is_some_and(|error| error.code() == Code::Invalid), "{hello:?}");
    }
    assert_eq!(case.house.control.edges(), 0);
    let refused = case.house.control.refusals.recent();
    assert!(refused.iter().all(|r| r.reason == "hello") && refused[0].why.contains("a store of"));
    case.house.stop().await;
}

#[tokio::test]
async fn another_edge_of_a_name_is_refused_while_the_first_is_attached() {
    let case = Case::new().await;
    let named = |instance: &str| Hello { name: "a".to_owned(), ..an_edge(instance) };
    let first = Edge::attach_as(case.control(), named("first")).await;
    for _ in 0..2 {
        let refused = Edge::try_attach(case.control(), named("second")).await.err().expect("refused");
        assert_eq!(refused.code(), Code::Refused);
        let why = refused.to_string();
        assert!(why.contains("instance first at http://first:8501") && why.contains("--edge-name"), "{why}");
    }
    let seen = case.house.control.refusals.recent();
    assert_eq!((seen.len(), seen[0].name.as_deref(), &*seen[0].reason), (1, Some("a"), "name"));
    assert_eq!(seen[0].times, 2);
    let again = Edge::attach_as(case.control(), named("first")).await;
    drop((first, again));
    while case.house.control.edges() > 0 {
        tokio::task::yield_now().await;
    }
    // As after a wipe: the data is new, the name is not.
    let _second = Edge::attach_as(case.control(), named("second")).await;
    case.house.stop().await;
}

#[tokio::test]
async fn releases_that_differ_by_more_than_one_are_refused() {
    let case = Case::new().await;
    let speaking = |protocol| Hello { protocol, ..an_edge(&format!("e{protocol}")) };
    for protocol in [PROTOCOL - 1, PROTOCOL, PROTOCOL + 1] {
        Edge::try_attach(case.control(), speaking(protocol)).await.map(drop).expect("understood");
    }
    for protocol in [PROTOCOL + 2, u32::MAX] {
        // What it says besides is not judged.
        let hello = Hello { capacity: Some(0), ..speaking(protocol) };
        let refused = Edge::try_attach(case.control(), hello).await.err().expect("not understood");
        assert!(refused.code() == Code::Refused && refused.to_string().contains("may differ by one"));
    }
    assert_eq!(case.house.control.refusals.recent()[0].reason, "protocol");
    case.house.stop().await;
}

#[tokio::test]
async fn a_hello_that_is_said_again_ends_the_session() {
    let case = Case::new().await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.reports.send(EdgeReport::Hello(an_edge("b"))).expect("open");
    assert_eq!(edge.next().await, None);
    assert_eq!(case.house.control.refusals.recent()[0].name.as_deref(), Some("a"));
    case.house.stop().await;
}

/// Reports are heard one by one, and nobody else waits for who says them without end.
#[tokio::test]
async fn an_edge_that_never_stops_talking_delays_nobody() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let said = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&said);
    let flood = futures::stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        EdgeReport::Accesses(Accesses { narinfos: vec![(path(1).hash(), 1)], nars: Vec::new() })
    });
    let reports = futures::stream::iter([EdgeReport::Hello(an_edge("flood"))]).chain(flood).map(Said::from);
    let mut flooding = case.control().attach(Box::pin(reports)).await.expect("attaches");
    flooding.next().await.expect("a directive").expect("no break");
    let _other = Edge::attach(case.control(), "other").await;
    let before = said.load(Ordering::Relaxed);
    while said.load(Ordering::Relaxed) < before + 10_000 {
        assert_eq!(case.known(&ours).await.as_ref(), Some(&ours));
        tokio::task::yield_now().await;
    }
    case.house.stop().await;
}

#[tokio::test]
async fn an_edge_that_does_not_keep_up_is_cut() {
    let case = Case::new().await;
    let mut slow = Edge::attach(case.control(), "slow").await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut replacement = publication(case.upstream.narinfo(1));
    replacement.replaces = true;
    case.control().publish_narinfo(replacement.clone()).await.expect("trusted");
    slow.invalidated(&ours).await;
    let mut waiting = 0;
    while case.house.control.edges() == 1 {
        case.control().publish_narinfo(replacement.clone()).await.expect("trusted");
        waiting += 1;
    }
    assert!(waiting >= 1000, "the queue holds {waiting}");
    assert_eq!(slow.next().await, None, "what waited is of no use to a session that is over");
    case.house.stop().await;
}

#[tokio::test]
async fn holdings_and_accesses_are_heard() {
    let case = Case::new().await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let held = HeldNar { name: file_of(&ours), file_size: 1, disk_bytes: 4096 };
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

#[tokio::test]
async fn settings_that_change_are_heard_by_all_past_all_else() {
    let case = Case::new().await;
    let (mut quick, mut slow) =
        (Edge::attach(case.control(), "quick").await, Edge::attach(case.control(), "slow").await);
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut replacement = publication(case.upstream.narinfo(1));
    replacement.replaces = true;
    for _ in 0..1000 {
        case.control().publish_narinfo(replacement.clone()).await.expect("trusted");
    }
    for priority in 20..=30 {
        case.house.control.change_settings(|settings| settings.priority = priority);
    }
    case.house.control.change_settings(|settings| settings.priority = 30);
    for edge in [&mut quick, &mut slow] {
        let Some(Directive::Configure(settings)) = edge.next().await else { panic!("first of all") };
        assert_eq!(settings.priority, 30, "of many changes the last");
        edge.invalidated(&ours).await;
    }
    let mut later = Edge::attach(case.control(), "later").await;
    case.house.control.change_settings(|settings| settings.hostname = "renamed".to_owned());
    let Some(Directive::Configure(settings)) = later.next().await else { panic!("again") };
    assert_eq!((settings.hostname.as_str(), settings.priority), ("renamed", 30));
    case.house.stop().await;
}
