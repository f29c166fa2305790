//! Upstreams that cut, stall and fall silent in the middle of a NAR: it is resumed where it was cut, there or
//! at another upstream; where it can't be, nobody takes what came for the whole. (PROTOCOL.md §11, line 36.)

use std::time::{Duration, Instant};

use ncps_nix::Compression;
use ncps_tests::{Cluster, Cut, Fixture, Framing, Gate, Rule, Upstream, both_modes};

use crate::scene::{
    empty, empty_with, impatient, is_aborted, is_refused, is_served, known, known_with, learn, plain,
};

const FRAMINGS: [Framing; 3] = [Framing::Length, Framing::Chunked, Framing::Close];
const CUT_AT: u64 = 400_000;

both_modes! {
    async fn line_36_a_cut_body_is_resumed_where_it_was_cut(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for framing in FRAMINGS {
            let fixture = plain(1_000_000).seed(framing as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            upstream.script(Rule::on(&fixture.nar_path()).framing(framing));
            upstream.script(Rule::on(&fixture.nar_path()).ranged(false).cut_after(CUT_AT, Cut::Fin));
            is_served(&cluster, &fixture).await;
            assert_eq!(ranges(&upstream, &fixture), [None, Some(format!("bytes={CUT_AT}-"))], "{framing:?}");
        }
        cluster.end().await;
    }

    async fn line_36_compressed_files_are_resumed_like_others(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for compression in [Compression::Xz, Compression::Bzip2, Compression::Zstd] {
            let fixture = plain(300_000).compression(compression).seed(compression as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            upstream.script(Rule::on(&fixture.nar_path()).ranged(false).cut_after(100_000, Cut::Fin));
            is_served(&cluster, &fixture).await;
            let asked = ranges(&upstream, &fixture);
            assert_eq!(asked, [None, Some("bytes=100000-".to_owned())], "{compression:?}");
        }
        cluster.end().await;
    }

    async fn line_36_a_reset_is_as_good_as_a_cut(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1_000_000)).await;
        // What the kernel had is lost: where it goes on is not known here.
        upstream.script(Rule::on("/nar/*").times(2).cut_after(CUT_AT, Cut::Rst));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&upstream, &fixture).len(), 3);
        cluster.end().await;
    }

    async fn line_36_a_body_that_is_cut_again_and_again_comes_as_long_as_it_goes_forward(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1_000_000)).await;
        upstream.script(Rule::on("/nar/*").cut_after(150_000, Cut::Fin));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&upstream, &fixture).len(), 7);
        cluster.end().await;
    }

    async fn line_36_a_body_that_never_comes_whole_never_looks_complete(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for framing in FRAMINGS {
            let fixture = plain(1_000_000).seed(framing as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            upstream.script(Rule::on("/nar/*").framing(framing));
            upstream.script(Rule::on("/nar/*").ranged(false).cut_after(CUT_AT, Cut::Fin));
            upstream.script(Rule::on("/nar/*").ranged(true).cut_after(0, Cut::Fin));
            let came = is_aborted(&cluster, &upstream, &fixture).await;
            assert!(fixture.file.read(0, CUT_AT as usize).starts_with(&came), "{framing:?}");
            upstream.behave();
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn line_36_a_small_body_that_never_comes_whole_is_a_502(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for framing in FRAMINGS {
            let fixture = plain(10_000).seed(framing as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            upstream.script(Rule::on("/nar/*").framing(framing).cut_after(0, Cut::Fin));
            is_refused(&cluster, &fixture, 502).await;
            upstream.behave();
            is_served(&cluster, &fixture).await;
        }
        cluster.end().await;
    }

    async fn line_36_of_unknown_length_a_cut_that_looks_like_an_end_is_seen_by_the_hash(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        // Nobody mentioned its name, so that nothing but the name says what must come.
        let fixture = plain(1_000_000).build(&key);
        upstream.add(&fixture);
        upstream.script(Rule::on("/nar/*").framing(Framing::Close).cut_after(CUT_AT, Cut::Fin));
        let came = is_aborted(&cluster, &upstream, &fixture).await;
        assert!(fixture.file.read(0, CUT_AT as usize).starts_with(&came));
        cluster.end().await;
    }

    async fn a_cut_body_is_resumed_at_another_upstream_that_has_the_same_name(mode) {
        let (cluster, [cutting, other], fixture) = known(mode, plain(1_000_000)).await;
        cutting.script(Rule::on("/nar/*").ranged(false).cut_after(CUT_AT, Cut::Fin));
        cutting.script(Rule::on("/nar/*").ranged(true).drop_connection(Cut::Fin));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&other, &fixture), [Some(format!("bytes={CUT_AT}-"))]);
        cluster.end().await;
    }

    async fn an_upstream_that_lost_it_midway_is_replaced_by_another(mode) {
        let (cluster, [forgetful, other], fixture) = known(mode, plain(1_000_000)).await;
        forgetful.script(Rule::on("/nar/*").ranged(false).cut_after(CUT_AT, Cut::Fin));
        forgetful.script(Rule::on("/nar/*").ranged(true).status(404));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&other, &fixture), [Some(format!("bytes={CUT_AT}-"))]);
        cluster.end().await;
    }

    async fn an_upstream_that_ignores_ranges_is_read_past_what_is_there(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1_000_000)).await;
        upstream.script(Rule::on("/nar/*").ignore_range());
        upstream.script(Rule::on("/nar/*").times(1).cut_after(CUT_AT, Cut::Fin));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&upstream, &fixture), [None, Some(format!("bytes={CUT_AT}-"))]);
        assert_eq!(upstream.requests_to("/nar/")[1].status, Some(200));
        cluster.end().await;
    }

    async fn what_does_not_continue_where_it_was_cut_is_not_used(mode) {
        let (cluster, [wrong, other], key) = empty(mode).await;
        let last = plain(1_000_000).build(&key).file.len() - 1;
        let values = [
            format!("bytes {}-{last}/{}", CUT_AT - 1, last + 1),
            format!("bytes 0-{last}/{}", last + 1),
            format!("bytes {CUT_AT}-{}/{}", last - 1, last + 1),
            format!("bytes {CUT_AT}-{last}/{}", last + 2),
            format!("bytes {CUT_AT}-{}/{}", last + 1, last + 2),
            format!("bytes */{}", last + 1),
            "nonsense".to_owned(),
        ];
        for (seed, value) in values.iter().enumerate() {
            let fixture = plain(1_000_000).seed(seed as u64).build(&key);
            wrong.script(Rule::on(&fixture.nar_path()).ranged(false).cut_after(CUT_AT, Cut::Fin));
            wrong.script(Rule::on(&fixture.nar_path()).ranged(true).header("Content-Range", value));
            learn(&cluster, std::slice::from_ref(&wrong), &fixture).await;
            is_aborted(&cluster, &wrong, &fixture).await;
            other.add(&fixture);
            is_served(&cluster, &fixture).await;
            assert_eq!(ranges(&other, &fixture).last(), Some(&Some(format!("bytes={CUT_AT}-"))), "{value}");
        }
        cluster.end().await;
    }

    async fn a_stalled_body_is_resumed(mode) {
        let (cluster, [upstream], fixture) = known_with(mode, plain(1_000_000), impatient).await;
        upstream.script(Rule::on("/nar/*").times(1).stall_after(CUT_AT));
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&upstream, &fixture)[..2], [None, Some(format!("bytes={CUT_AT}-"))]);
        cluster.end().await;
    }

    async fn a_body_that_stalls_for_good_is_aborted_and_a_small_one_is_a_504(mode) {
        let (cluster, [upstream], key) = empty_with(mode, impatient).await;
        let (large, small) = (plain(1_000_000).build(&key), plain(10_000).seed(1).build(&key));
        for fixture in [&large, &small] {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        upstream.script(Rule::on("/nar/*").ranged(false).stall_after(CUT_AT));
        upstream.script(Rule::on("/nar/*").ranged(true).stall_after(0));
        assert!(is_aborted(&cluster, &upstream, &large).await.len() <= CUT_AT as usize);
        upstream.script(Rule::on("/nar/*").ranged(false).stall_after(5_000));
        is_refused(&cluster, &small, 504).await;
        cluster.end().await;
    }

    async fn an_upstream_that_drips_is_left_for_another_one(mode) {
        let (cluster, [dripping, other], fixture) = known_with(mode, plain(1_000_000), impatient).await;
        // A byte every now and then would last for days, and no pause is ever long.
        dripping.script(Rule::on("/nar/*").throttle(1_000));
        is_served(&cluster, &fixture).await;
        assert_eq!(other.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn a_narinfo_that_drips_is_found_at_another_upstream(mode) {
        let (cluster, [dripping, other], key) = empty_with(mode, impatient).await;
        let fixture = plain(1000).build(&key);
        // No pause is long, and the whole would last for minutes.
        dripping.script(Rule::on("*.narinfo").throttle(4));
        let started = Instant::now();
        learn(&cluster, &[dripping, other], &fixture).await;
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        cluster.end().await;
    }

    async fn an_upstream_that_stalls_is_left_for_another_one(mode) {
        let (cluster, [stalling, other], fixture) = known_with(mode, plain(1_000_000), impatient).await;
        stalling.script(Rule::on("/nar/*").ranged(false).stall_after(CUT_AT));
        stalling.script(Rule::on("/nar/*").ranged(true).hang());
        is_served(&cluster, &fixture).await;
        assert_eq!(ranges(&other, &fixture), [Some(format!("bytes={CUT_AT}-"))]);
        cluster.end().await;
    }

    async fn an_upstream_that_goes_down_in_the_middle_is_resumed_when_it_is_back(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1_000_000)).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").ranged(false).pause_at(CUT_AT, &gate));
        let reader = is_served(&cluster, &fixture);
        let upstream_side = async {
            gate.reached().await;
            upstream.down().await;
            upstream.up().await;
        };
        tokio::join!(reader, upstream_side);
        assert_eq!(upstream.count("GET", "/nar/"), 2);
        cluster.end().await;
    }

    async fn a_transfer_that_takes_too_long_is_given_up(mode) {
        let limit = Duration::from_millis(1500);
        let (cluster, [upstream], fixture) =
            known_with(mode, plain(1_000_000), |settings| settings.transfer_timeout = limit).await;
        // It never stalls, and would take a minute.
        upstream.script(Rule::on("/nar/*").throttle(20_000));
        is_given_up(&cluster, &fixture).await;
        upstream.behave();
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }
}

/// Refused or aborted, whichever comes first: what is released before the limit depends on the machine.
async fn is_given_up(cluster: &Cluster, fixture: &Fixture) {
    let (status, outcome) = cluster.fetch(&fixture.nar_path()).await;
    match status {
        200 => drop(outcome.truncated()),
        status => assert_eq!(status, 504),
    }
    cluster.quiet().await;
    assert!(cluster.stored_files().is_empty());
}

/// The Range header of each request for a fixture's file.
fn ranges(upstream: &Upstream, fixture: &Fixture) -> Vec<Option<String>> {
    let seen = upstream.requests_to(&fixture.nar_path());
    seen.iter().map(|seen| seen.range().map(ToOwned::to_owned)).collect()
}
