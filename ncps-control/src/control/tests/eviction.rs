//! Eviction as an edge sees it: what it is told to remove, in which order, and when it is over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ncps_proto::admin::EvictionOrder;
use ncps_proto::{Code, Directive, EdgeReport, Eviction, Victim};
use ncps_runtime::clock::UnixTime;
use ncps_runtime::exit::Exit;
use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::telemetry::Telemetry;

use super::*;
use crate::metrics::ControlMetrics;
use crate::{Control, Db, Parts, Schedule, Scrubs, Trigger, Zone};

#[tokio::test]
async fn past_the_limit_the_least_recently_read_go_with_their_narinfos() {
    let case = limited(|settings| settings.max_size = Some(40 * BLOCK)).await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let named = file_of(&ours);
    case.house.clock.advance(Duration::from_secs(10));
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[nar("old"), named, nar("older"), nar("new")]);
    edge.reads(nar("old"));
    edge.say(EdgeReport::Committed(held(nar("newest"))));
    edge.reads(nar("older"));
    edge.say(disk(1, 50, 0));
    // "new" was never read: the index does not even know it.
    assert_eq!(edge.evicts().await, [nar("new"), named]);
    edge.say(disk(2, 41, 0));
    assert_eq!(edge.evicts().await, [nar("old")], "one second, but a known order");
    edge.say(disk(3, 30, 11));
    let Some(Directive::Evict(step)) = edge.next().await else { panic!("41 are too much") };
    assert_eq!(step.victims, [Victim { name: nar("newest"), narinfos: vec![] }]);
    case.house.stop().await;
}

#[tokio::test]
async fn an_edge_s_own_limit_counts_instead_of_the_one_of_all() {
    for (all, own, evicts) in
        [(Some(40), Some(60), false), (Some(60), Some(40), true), (None, Some(40), true)]
    {
        let case = limited(|settings| settings.max_size = all.map(|blocks: u64| blocks * BLOCK)).await;
        let hello = Hello { capacity: own.map(|blocks: u64| blocks * BLOCK), ..an_edge("a") };
        let mut edge = Edge::attach_as(case.control(), hello).await;
        edge.holds(&[nar("held")]);
        edge.say(disk(1, 50, 0));
        if evicts {
            assert_eq!(edge.evicts().await, [nar("held")], "{all:?} {own:?}");
        }
        let order = EvictionOrder { dry_run: true, ..EvictionOrder::default() };
        while case.house.control.sessions.disks().is_empty() {
            tokio::task::yield_now().await;
        }
        let report = case.house.control.evict(order).await.expect("it runs");
        assert!(evicts || report.edges.is_empty(), "{all:?} {own:?}: {report:?}");
        case.house.stop().await;
    }
}

#[tokio::test]
async fn victims_say_which_narinfos_name_them() {
    let case = limited(|settings| settings.max_size = Some(5 * BLOCK)).await;
    let ours = case.publish(case.upstream.narinfo(1)).await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[file_of(&ours)]);
    edge.say(disk(1, 10, 0));
    let victim = Victim { name: file_of(&ours), narinfos: vec![ours.store_path.hash()] };
    let Eviction { victims, settles, number } = edge.eviction().await;
    assert_eq!((victims, settles), (vec![victim], None));
    edge.say(EdgeReport::Evicted { number, gone: vec![file_of(&ours)] });
    while case.house.control.last_eviction().is_none() {
        tokio::task::yield_now().await;
    }
    assert!(case.house.control.holders(file_of(&ours)).is_empty());
    assert_eq!(case.known(&ours).await, Some(ours), "a narinfo outlives its NAR");
    case.house.stop().await;
}

#[tokio::test]
async fn who_waits_for_room_is_told_when_there_is_no_more() {
    let case = limited(|settings| settings.max_size = Some(100 * BLOCK)).await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[nar("held"), nar("in flight")]);
    case.control().begin_fetch("a", nar("in flight"), &[]).await.expect("answers");
    edge.say(disk(7, 95, 10));
    assert_eq!(edge.evicts().await, [nar("held")], "15 are missing, but that is all");
    let over = Eviction { settles: Some(7), ..Eviction::default() };
    assert_eq!(edge.next().await, Some(Directive::Evict(over)));
    while case.house.control.last_eviction().is_none() {
        tokio::task::yield_now().await;
    }
    let report = case.house.control.last_eviction().expect("it ran");
    assert_eq!(report.trigger, Trigger::Pressure);
    let did = &report.edges[0];
    assert_eq!((did.files, did.bytes, did.shortfall), (1, 9 * BLOCK, 5 * BLOCK));
    case.house.stop().await;
}

#[tokio::test]
async fn on_demand_it_reports_even_that_there_was_nothing_to_do() {
    let case = limited(|settings| settings.max_size = Some(100 * BLOCK)).await;
    let edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[nar("held")]);
    edge.say(disk(1, 10, 0));
    let report = case.house.control.evict(EvictionOrder::default()).await.expect("it runs");
    assert_eq!((report.trigger, report.edges.len()), (Trigger::Demand, 0));
    assert_eq!(case.house.control.last_eviction(), Some(report));
    case.house.stop().await;
}

#[tokio::test]
async fn on_schedule_what_is_too_much_is_planned_for_anew() {
    let (upstream, key, folder) = (Upstream::new(), own_key(), folder());
    let mut settings = settings(upstream.key.public());
    settings.max_size = Some(40 * BLOCK);
    let schedule = Schedule::parse("@every 1s", Zone::Local).ok();
    let house = House::scheduled(folder.path(), key, settings, Duration::from_secs(60), schedule).await;
    let mut edge = Edge::attach(&*house.control, "a").await;
    edge.holds(&[nar("held")]);
    edge.say(disk(1, 50, 0));
    assert_eq!(edge.evicts_but(&[nar("held")]).await, [nar("held")], "it is too much");
    // In use there, and nothing more is said of the disk: no limit is passed anew.
    assert_eq!(edge.evicts().await, [nar("held")], "the schedule asks again");
    let freed = || house.control.last_eviction().is_some_and(|r| r.edges.iter().any(|e| e.files == 1));
    while !freed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(house.control.last_eviction().expect("it ran").trigger, Trigger::Schedule);
    house.stop().await;
}

#[tokio::test]
async fn a_job_that_panics_ends_the_process() {
    let folder = folder();
    let life = Lifecycle::new(Timing { delay: Duration::ZERO, grace: Duration::from_secs(20) });
    let tasks = life.tasks();
    let clock = Arc::new(BreakingClock::default());
    let db = Db::open(&folder.path().join("db.sqlite"), UnixTime(1)).await.expect("opens");
    let parts = Parts {
        tokens: crate::Tokens::open(&db).await.expect("read"),
        scrubs: Scrubs::default(),
        db,
        key: None,
        settings: settings(Upstream::new().key.public()),
        admission: crate::Admission::default(),
        negative_ttl: Duration::from_secs(60),
        eviction_schedule: None,
        clock: clock.clone(),
        key_place: crate::keys::KeyPlace::default(),
        shown: Vec::new(),
        metrics: ControlMetrics::new(&Telemetry::off()),
        keep: (),
    };
    let control = Control::start(parts, &tasks);
    let running = tokio::spawn(life.run_until_stopped(tasks));
    // The housekeeping has asked; the writer of the index has nothing to do. So the job is next.
    while clock.asked.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    clock.broken.store(true, Ordering::SeqCst);
    assert_eq!(
        control.evict(EvictionOrder::default()).await.expect_err("it broke").code(),
        Code::Unavailable
    );
    let exit = tokio::time::timeout(Duration::from_secs(20), running).await.expect("it stops by itself");
    assert_eq!(exit.expect("no panic"), Exit::Failure);
}

#[tokio::test]
async fn a_clock_that_is_set_back_leaves_the_order_right() {
    let case = limited(|settings| settings.max_size = Some(45 * BLOCK)).await;
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[nar("never")]);
    for name in ["first", "second", "third"] {
        edge.say(EdgeReport::Committed(held(nar(name))));
    }
    edge.reads(nar("first"));
    // A report is heard before what follows it.
    edge.say(disk(1, 50, 0));
    assert_eq!(edge.evicts().await, [nar("never")]);
    case.house.clock.set(UnixTime(1000));
    edge.say(EdgeReport::Committed(held(nar("newest"))));
    edge.reads(nar("second"));
    edge.say(disk(2, 50, 0));
    assert_eq!(edge.evicts().await, [nar("third")], "it was read before the clock was set");
    edge.say(disk(3, 50, 0));
    assert_eq!(edge.evicts().await, [nar("first")]);
    case.house.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_order() {
    let case = limited(|settings| settings.max_size = Some(15 * BLOCK)).await;
    let (first, second) = (case.upstream.narinfo(1), case.upstream.narinfo(2));
    let (first, second) = (file_of(&case.publish(first).await), file_of(&case.publish(second).await));
    let mut edge = Edge::attach(case.control(), "a").await;
    edge.holds(&[first, second]);
    case.house.clock.advance(Duration::from_secs(1));
    edge.reads(first);
    edge.say(disk(1, 16, 0));
    edge.evicts().await;
    let Case { upstream, key, folder, house } = case;
    house.stop().await;

    let mut settings = settings(upstream.key.public());
    settings.max_size = Some(15 * BLOCK);
    let house = House::open(folder.path(), key, settings, Duration::from_secs(60)).await;
    let mut edge = Edge::attach(&*house.control, "a").await;
    edge.holds(&[first, second]);
    edge.say(disk(1, 20, 0));
    assert_eq!(edge.evicts().await, [second]);
    house.stop().await;
}
