//! What is not here yet: fetched once however many ask, streamed while it comes, and held back at its end until
//! it is proven. (PROTOCOL.md §11, lines 34, 35, 39 and 40.)

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use ncps_nix::Compression;
use ncps_tests::client::{BodyError, Connection};
use ncps_tests::upstream::End;
use ncps_tests::{Cut, Framing, Gate, Mode, Request, Response, Rule, always, both_modes, eventually};

use crate::scene::{HELD_BACK, empty, is_served, known, learn, plain};

/// For what must not happen, where only time can show it.
const A_WHILE: Duration = Duration::from_millis(200);

both_modes! {
    async fn line_34_fifty_clients_cost_one_upstream_request(mode) {
        crowd(mode, 50).await;
    }

    async fn two_hundred_clients_cost_one_upstream_request(mode) {
        crowd(mode, 200).await;
    }

    async fn fifty_clients_of_a_narinfo_cost_one_upstream_request(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixture = plain(1000).build(&key);
        upstream.add(&fixture);
        let (path, gate) = (fixture.narinfo_path(), Gate::new());
        upstream.script(Rule::on("*.narinfo").gate(&gate));
        let clients = join_all((0..50).map(|_| async { cluster.get(&path).await.whole().await }));
        let upstream_side = async {
            gate.reached().await;
            always("it is asked once", A_WHILE, async || upstream.total() == 1).await;
            gate.open();
        };
        let (bodies, ()) = tokio::join!(clients, upstream_side);
        assert!(!bodies[0].is_empty() && bodies.iter().all(|body| *body == bodies[0]));
        assert_eq!(upstream.total(), 1);
        cluster.end().await;
    }

    async fn a_cold_narinfo_costs_one_upstream_request_and_a_warm_one_nothing(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1000)).await;
        assert_eq!((upstream.total(), upstream.count("GET", &fixture.narinfo_path())), (1, 1));
        let mut connection = Connection::open(cluster.addr).await.expect("connected");
        let passed = || cluster.link.as_ref().map_or(0, |link| link.bytes_passed());
        // What came with the cold one may still be on its way, and the link has pings of its own: but were
        // anything asked for a warm one, then every time.
        eventually("twenty warm ones without disk and control", async || {
            let before = (cluster.edge.store.opens(), passed());
            for _ in 0..20 {
                let mut warm = connection.get(&fixture.narinfo_path()).await.expect("answered");
                assert_eq!((warm.status, warm.whole().await.is_empty()), (200, false));
            }
            (cluster.edge.store.opens(), passed()) == before
        })
        .await;
        assert_eq!(upstream.total(), 1);
        drop(connection);
        cluster.end().await;
    }

    async fn line_35_the_first_bytes_come_before_the_upstream_has_finished(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for compression in [Compression::None, Compression::Xz, Compression::Bzip2, Compression::Zstd] {
            let fixture = plain(300_000).seed(compression as u64).compression(compression).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            let gate = Gate::new();
            upstream.script(Rule::on(&fixture.nar_path()).pause_at(150_000, &gate));
            let mut response = cluster.get(&fixture.nar_path()).await;
            assert_eq!(response.headers.number("Content-Length"), Some(fixture.file.len()));
            let begin = response.bytes(150_000).await.expect("all that the upstream gave");
            assert!(!gate.is_open());
            gate.open();
            let whole = [begin, response.whole().await].concat();
            assert!(whole == fixture.file.to_bytes(), "{compression:?}");
        }
        cluster.end().await;
    }

    async fn line_39_a_slow_reader_slows_nobody(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(16 << 20)).await;
        // More than the sockets hold: the slow one's body stands still in the middle.
        let mut connection = Connection::with_small_buffer(cluster.addr, 4096).await.expect("connected");
        let mut slow = connection.get(&fixture.nar_path()).await.expect("answered");
        let begin = slow.bytes(1024).await.expect("its beginning");
        is_served(&cluster, &fixture).await;
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        let whole = [begin, slow.whole().await].concat();
        assert!(whole == fixture.file.to_bytes());
        drop(connection);
        cluster.end().await;
    }

    async fn line_40_a_reader_that_leaves_cancels_nothing(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(500_000)).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(200_000, &gate));
        let mut leaver = cluster.get(&fixture.nar_path()).await;
        leaver.bytes(200_000).await.expect("what there is");
        leaver.into_connection().reset();
        always("it goes on", A_WHILE, async || cluster.edge.engine.running() == 1).await;
        assert!(cluster.stored_files().is_empty(), "nothing is visible in part");
        gate.open();
        cluster.quiet().await;
        assert_eq!(upstream.requests_to("/nar/")[0].end, End::Complete);
        is_served(&cluster, &fixture).await;
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn a_range_that_ends_inside_waits_for_the_proof_and_an_open_one_streams(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(500_000)).await;
        let (path, file, gate) = (fixture.nar_path(), fixture.file.to_bytes(), Gate::new());
        let len = file.len();
        upstream.script(Rule::on("/nar/*").pause_at(len as u64 - 1, &gate));
        let inside = [("0-9", 0..10), ("100000-100009", 100_000..100_010), ("-10", len - 10..len)];
        let inside = inside.map(|(range, span)| {
            (tokio::spawn(Request::get(&path).range(range).send(cluster.addr)), file.slice(span))
        });
        let mut open = cluster.send(Request::get(&path).range("5-")).await;
        assert_eq!((open.status, open.headers.number("Content-Length")), (206, Some(len as u64 - 5)));
        assert_eq!(open.header("Content-Range"), Some(&*format!("bytes 5-{}/{len}", len - 1)));
        let begin = open.bytes(len - HELD_BACK - 5).await.expect("all but what is held back");
        let waits = async || inside.iter().all(|(asked, _)| !asked.is_finished());
        always("ranges inside wait", A_WHILE, waits).await;
        gate.open();
        assert!([begin, open.whole().await].concat() == file[5..]);
        for (asked, span) in inside {
            let mut told = asked.await.expect("no panic").expect("answered");
            assert_eq!((told.status, told.whole().await), (206, span));
        }
        assert_eq!(upstream.count("GET", "/nar/"), 1);
        cluster.end().await;
    }

    async fn the_last_64_kib_are_held_back_until_proven(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(300_000)).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(fixture.file.len() - 1, &gate));
        let (response, file) = (cluster.get(&fixture.nar_path()).await, fixture.file.to_bytes());
        all_but_the_tail(response, &file, file.len() - HELD_BACK, &gate).await;
        cluster.end().await;
    }

    async fn of_a_file_of_unknown_length_the_last_64_kib_are_held_back_too(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        // Nobody mentioned its name, and the upstream does not say how long it is.
        let fixture = plain(300_000).build(&key);
        upstream.add(&fixture);
        let (gate, last) = (Gate::new(), fixture.file.len() - 1);
        upstream.script(Rule::on("/nar/*").framing(Framing::Chunked).pause_at(last, &gate));
        let response = cluster.get(&fixture.nar_path()).await;
        assert_eq!(response.header("Content-Length"), None);
        all_but_the_tail(response, &fixture.file.to_bytes(), last as usize - HELD_BACK, &gate).await;
        cluster.end().await;
    }

    async fn a_small_file_is_held_back_whole(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(10_000)).await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(fixture.file.len() - 1, &gate));
        let asked = tokio::spawn(Request::get(&fixture.nar_path()).send(cluster.addr));
        gate.reached().await;
        always("its status is open", A_WHILE, async || !asked.is_finished()).await;
        gate.open();
        let mut told = asked.await.expect("no panic").expect("answered");
        assert_eq!((told.status, told.whole().await), (200, fixture.file.to_bytes()));
        cluster.end().await;
    }

    async fn a_file_that_somebody_removed_is_fetched_again(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(100_000)).await;
        for fetches in 1..=3 {
            is_served(&cluster, &fixture).await;
            assert_eq!(upstream.count("GET", "/nar/"), fetches);
            let file = cluster.store_dir().join(fixture.nar_path().trim_start_matches('/'));
            std::fs::remove_file(file).expect("it was there");
        }
        cluster.end().await;
    }

    async fn a_transfer_that_failed_does_not_stand_in_the_way_of_the_next(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(300_000)).await;
        let outage = upstream.script(Rule::on("/nar/*").drop_connection(Cut::Fin));
        assert_eq!(cluster.get(&fixture.nar_path()).await.status, 502);
        outage.remove();
        let served = async || cluster.get(&fixture.nar_path()).await.status == 200;
        eventually("it is asked again", served).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }
}

/// All of them are in the middle of the body at the same time.
async fn crowd(mode: Mode, clients: usize) {
    let (cluster, [upstream], fixture) = known(mode, plain(300_000)).await;
    let gate = Gate::new();
    upstream.script(Rule::on("/nar/*").pause_at(150_000, &gate));
    let begun = (0..clients).map(|_| async {
        let mut response = cluster.get(&fixture.nar_path()).await;
        let begin = response.bytes(150_000).await.expect("what there is");
        (response, begin)
    });
    let begun = join_all(begun).await;
    gate.open();
    let whole = fixture.file.to_bytes();
    let ended = begun.into_iter().map(async |(mut response, begin): (Response, Bytes)| {
        let rest = response.whole().await;
        assert!(begin == whole[..150_000] && rest == whole[150_000..]);
    });
    join_all(ended).await;
    assert_eq!(upstream.count("GET", "/nar/"), 1);
    cluster.end().await;
}

/// This many bytes come before the gate is open, and not one more.
async fn all_but_the_tail(mut response: Response, file: &Bytes, released: usize, gate: &Gate) {
    let begin = response.bytes(released).await.expect("all but the tail");
    gate.reached().await;
    assert_eq!(response.chunk_within(A_WHILE).await, Err(BodyError::Stalled));
    gate.open();
    assert!([begin, response.whole().await].concat() == file[..]);
}
