//! Each kind of cache as the upstream: cold, with the upstream gone, cut in the middle, and with wrong bytes. What a
//! client takes for whole is right, always.

use ncps_tests::zoo::{self, AfterCut, Kind};
use ncps_tests::{Cut, Mode, Rule, Seen, both_modes, kinds};

use crate::zoo_scene::{Came, Scene, closure, fetch, is_absent, is_headed, is_served, is_told};

/// More than is held back before the proof, twice.
const LARGE: u64 = 300_000;
/// Where a NAR file of that size is cut.
const SOMEWHERE: u64 = 150_000;

macro_rules! each {
    ($($kind:ident)*) => {$(
        mod $kind {
            use super::*;

            both_modes! {
                async fn is_served_cold_and_without_it(mode) {
                    is_served_cold_and_without_it_of(mode, zoo::$kind()).await;
                }

                async fn a_cut_is_mended_or_seen(mode) {
                    a_cut_is_mended_or_seen_of(mode, zoo::$kind()).await;
                }

                async fn what_is_wrong_never_looks_whole(mode) {
                    what_is_wrong_never_looks_whole_of(mode, zoo::$kind()).await;
                }
            }
        }
    )*};
}

kinds!(each);

async fn is_served_cold_and_without_it_of(mode: Mode, kind: Kind) {
    let Scene { pen, cluster, key } = Scene::new(mode, kind).await;
    let fixtures = closure(&kind, &key);
    fixtures.iter().for_each(|fixture| pen.add(fixture));
    is_absent(&cluster).await;
    is_headed(&cluster, &fixtures[0]).await;
    for fixture in &fixtures[1..] {
        is_served(&cluster, fixture).await;
    }
    assert_eq!(pen.nar_requests().len(), fixtures.len(), "each was fetched once");
    let logged_in = |seen: &Seen| seen.headers.has("Authorization");
    assert!(pen.cache.requests().iter().all(|seen| logged_in(seen) == kind.login.is_some()));
    assert!(!pen.bucket.requests().iter().any(logged_in), "no login goes to another host");
    pen.down().await;
    cluster.edge.lookups.near.clear();
    for fixture in &fixtures {
        is_served(&cluster, fixture).await;
    }
    cluster.end().await;
}

async fn a_cut_is_mended_or_seen_of(mode: Mode, kind: Kind) {
    let scene = Scene::new(mode, kind).await;
    for (nth, how) in [Cut::Fin, Cut::Rst].into_iter().enumerate() {
        let fixture = scene.has(LARGE, nth);
        let narinfo = is_told(&scene.cluster, &fixture).await;
        let once = scene.pen.script_nars(|rule: Rule| rule.times(1).cut_after(SOMEWHERE, how));
        let came = fetch(&scene.cluster, &narinfo, &fixture).await;
        scene.cluster.quiet().await;
        once.remove();
        let again = scene.pen.nar_requests().pop().expect("it was asked for");
        match kind.after_cut {
            // What is decoded on its way, since nobody said what file it is, has no place to go on at.
            AfterCut::Resumes if narinfo.compression == fixture.narinfo.compression => {
                assert!(matches!(came, Came::Whole), "{how:?}");
                assert_eq!(again.status, Some(206), "{how:?}: only the rest was asked for");
            }
            AfterCut::Resumes | AfterCut::BeginsAnew => assert!(matches!(came, Came::Whole), "{how:?}"),
            AfterCut::MustNotResume => {}
        }
        is_served(&scene.cluster, &fixture).await;
    }
    scene.cluster.end().await;
}

async fn what_is_wrong_never_looks_whole_of(mode: Mode, kind: Kind) {
    let scene = Scene::new(mode, kind).await;
    let wrongs: [fn(Rule) -> Rule; 3] =
        [|rule| rule.flip(SOMEWHERE), |rule| rule.shorten_to(SOMEWHERE), |rule| rule.extra(8)];
    for (nth, wrong) in wrongs.into_iter().enumerate() {
        let fixture = scene.has(LARGE, nth);
        let narinfo = is_told(&scene.cluster, &fixture).await;
        let rules = scene.pen.script_nars(wrong);
        let came = fetch(&scene.cluster, &narinfo, &fixture).await;
        scene.cluster.quiet().await;
        // Decoded on its way, a file may well have more at its end than the NAR needs: then it is right.
        let may_be_right = nth == 2 && matches!(came, Came::Whole);
        assert!(matches!(came, Came::Failed(_)) || may_be_right, "{nth}");
        assert!(!scene.cluster.stores(&narinfo.url) || may_be_right, "{nth}");
        rules.remove();
    }
    scene.cluster.end().await;
}
