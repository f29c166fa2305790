//! Uploads to a fleet: at any edge, resting on those whose disks are kept, and known at every edge when the client is
//! told so.

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::Scope;
use ncps_tests::cluster::EdgeNode;
use ncps_tests::{Cluster, ClusterBuilder, Fixture, Gate, Mode, Request, Rule, Upstream, eventually};

use crate::asking::Answer;
use crate::cli::cli;
use crate::uploads::{SIGNER, closed, put, refused};

/// Edges of which those `durable` keep their disks; clients may write with a token.
pub(crate) fn of(edges: usize, durable: &'static [usize]) -> ClusterBuilder {
    let builder = closed(Mode::Split).edges(edges);
    (0..edges).fold(builder, |builder, edge| {
        builder.edge_at(edge, move |config| config.durable = durable.contains(&edge))
    })
}

/// All of them are attached.
pub(crate) async fn start(builder: ClusterBuilder) -> Cluster {
    let cluster = builder.start().await;
    let all = cluster.edges.len();
    eventually("all are attached", async || cluster.attached().await.len() == all).await;
    cluster
}

pub(crate) async fn ask(edge: &EdgeNode, request: Request) -> Answer {
    let mut response = edge.send(request).await;
    let body = response.whole().await;
    Answer { status: response.status, headers: response.headers, body }
}

async fn status(edge: &EdgeNode, request: Request) -> u16 {
    ask(edge, request).await.status
}

pub(crate) fn fixture(name: &str) -> Fixture {
    Fixture::new(name).size(300_000).compression(Compression::Zstd).build_unsigned()
}

/// Its NAR at one edge, its narinfo at another one.
pub(crate) async fn upload(cluster: &Cluster, door: &str, fixture: &Fixture, nar: usize, narinfo: usize) {
    let told =
        ask(cluster.at(nar), put(&format!("{door}{}", fixture.nar_path()), fixture.file.clone())).await;
    assert_eq!(told.status, 204, "the NAR at {nar}: {}", told.text());
    let text = put(&format!("{door}{}", fixture.narinfo_path()), fixture.narinfo_text());
    let told = ask(cluster.at(narinfo), text).await;
    assert_eq!(told.status, 204, "the narinfo at {narinfo}: {}", told.text());
}

/// What every edge answers at once, at both doors.
async fn is(cluster: &Cluster, status_is: u16, fixture: &Fixture) {
    for edge in &cluster.edges {
        for door in ["", "/upload"] {
            for path in [fixture.narinfo_path(), fixture.nar_path()] {
                let path = format!("{door}{path}");
                assert_eq!(
                    status(edge, Request::head(&path)).await,
                    status_is,
                    "HEAD {path} at {}",
                    edge.name()
                );
            }
            let path = format!("{door}{}", fixture.narinfo_path());
            assert_eq!(status(edge, Request::get(&path)).await, status_is, "GET {path} at {}", edge.name());
        }
    }
}

/// Its bytes, from the edges that hold it.
async fn is_read(cluster: &Cluster, fixture: &Fixture) {
    for edge in cluster.edges.iter().filter(|edge| edge.stores(&fixture.nar_path())) {
        for door in ["/upload", ""] {
            let nar = ask(edge, Request::get(&format!("{door}{}", fixture.nar_path()))).await;
            assert!(nar.status == 200 && nar.body == fixture.file.to_bytes(), "{door} at {}", edge.name());
        }
    }
}

fn delete(path: &str) -> Request {
    Request::delete(path).header("Authorization", SIGNER)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_any_edge_rests_on_the_one_that_keeps_its_disk() {
    let cluster = start(of(3, &[1])).await;
    for (door, nar, narinfo) in [("", 0, 2), ("/upload", 2, 1), ("", 1, 0)] {
        let fixture = fixture(&format!("from-{nar}-{narinfo}"));
        is(&cluster, 404, &fixture).await;
        upload(&cluster, door, &fixture, nar, narinfo).await;
        is(&cluster, 200, &fixture).await;
        let holders: Vec<_> = cluster.edges.iter().map(|edge| edge.stores(&fixture.nar_path())).collect();
        assert_eq!(holders, [false, true, false], "passed on by {nar}");
        is_read(&cluster, &fixture).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_as_by_the_edge_that_keeps_it() {
    let cluster = start(of(2, &[1]).settings(|settings| settings.writing.max_upload_bytes = 1 << 20)).await;
    let (one, other) = (fixture("one"), fixture("other"));
    let passing = cluster.at(0);
    for request in [
        Request::put(&one.nar_path(), one.file.clone()).expect_continue(),
        Request::put(&one.nar_path(), one.file.clone())
            .expect_continue()
            .header("Authorization", "Bearer guess"),
    ] {
        let told = passing.send(request).await;
        assert_eq!((told.status, told.continued), (401, false));
    }
    refused(&ask(passing, put(&one.nar_path(), other.file.clone())).await, 422, "another hash");
    refused(&ask(passing, put(&one.nar_path(), vec![7; 300_000])).await, 422, "is not one NAR");
    let huge = passing.send(put(&one.nar_path(), vec![7; 2 << 20]).expect_continue()).await;
    assert_eq!((huge.status, huge.continued), (413, false));
    refused(&ask(passing, put(&one.nar_path(), vec![7; 2 << 20]).chunked()).await, 413, "--max-upload-size");
    refused(&ask(passing, put(&one.narinfo_path(), one.narinfo_text())).await, 422, "upload the NAR first");
    assert!(cluster.edges.iter().all(|edge| edge.stored_files().is_empty()));
    let told = passing.send(put(&one.nar_path(), one.file.clone()).expect_continue()).await;
    assert_eq!((told.status, told.continued), (204, true));
    // It is there: nobody wants to see it again.
    let told = passing.send(put(&one.nar_path(), one.file.clone()).expect_continue()).await;
    assert_eq!((told.status, told.continued), (204, false));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_where_the_upload_arrives_whatever_edge_keeps_it() {
    let bound =
        of(2, &[1]).token("bound", &[Scope::Write, Scope::Delete, Scope::Sign]).settings(|settings| {
            settings.tokens.iter_mut().filter(|token| token.id == "bound").for_each(|token| {
                token.edges = vec!["edge-0".to_owned()];
            });
        });
    let cluster = start(bound).await;
    let (fixture, log) = (fixture("bound"), "/log/00000000000000000000000000000000-a.drv");
    for (edge, expected) in [(1, 401), (0, 204)] {
        for request in [
            Request::put(&fixture.nar_path(), fixture.file.clone()),
            Request::put(&fixture.narinfo_path(), fixture.narinfo_text()),
            Request::put(log, "what was built"),
            Request::delete(log),
        ] {
            let told = ask(cluster.at(edge), request.header("Authorization", "Bearer bound")).await;
            assert_eq!(told.status, expected, "at {edge}: {}", told.text());
        }
    }
    is(&cluster, 200, &fixture).await;
    assert!(cluster.at(1).stores(&fixture.nar_path()));
    let audit = cli(&cluster).ok(&["events", "--audit"]).await;
    assert!(audit.lines().filter(|line| line.contains("token bound")).count() >= 3, "{audit}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_edge_that_keeps_it_an_upload_is_refused() {
    let cluster = start(of(2, &[])).await;
    let fixture = fixture("homeless");
    let told = ask(cluster.at(0), put(&fixture.nar_path(), fixture.file.clone())).await;
    refused(&told, 405, "--edge-durable");
    assert_eq!(told.header("Allow"), Some("GET, HEAD, DELETE"));
    cluster.end().await;

    let mut cluster = start(of(2, &[1])).await;
    cluster.edges[1].stop().await;
    eventually("it is gone", async || cluster.attached().await.len() == 1).await;
    let told = ask(cluster.at(0), put(&fixture.nar_path(), fixture.file.clone())).await;
    assert_eq!(told.status, 503, "{}", told.text());
    assert!(told.header("Retry-After").is_some());
    cluster.edges[1].start().await;
    eventually("it is back", async || cluster.attached().await.len() == 2).await;
    upload(&cluster, "", &fixture, 0, 0).await;
    is(&cluster, 200, &fixture).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_breaks_under_an_upload_is_an_outage_and_one_that_is_not_there_is_passed_over() {
    let cluster = start(of(2, &[1])).await;
    let large = Fixture::new("large").size(3 << 20).compression(Compression::None).build_unsigned();
    let front = cluster.at(1).front.as_ref().expect("it is reached over a link");
    front.break_after(1 << 20);
    let told = ask(cluster.at(0), put(&large.nar_path(), large.file.clone())).await;
    assert_eq!(told.status, 503, "{}", told.text());
    assert!(told.header("Retry-After").is_some() && cluster.at(1).stored_files().is_empty());
    upload(&cluster, "", &large, 0, 0).await;
    is(&cluster, 200, &large).await;
    cluster.end().await;

    let cluster = start(of(3, &[1, 2])).await;
    for broken in [1, 2] {
        let fixture = fixture(&format!("beside-{broken}"));
        let front = cluster.at(broken).front.as_ref().expect("it is reached over a link");
        front.refuse().await;
        upload(&cluster, "", &fixture, 0, 0).await;
        front.mend().await;
        is(&cluster, 200, &fixture).await;
        assert!(cluster.at(3 - broken).stores(&fixture.nar_path()));
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lookup_that_began_before_answers_after_an_upload() {
    let upstream = Upstream::start().await;
    let cluster = start(of(3, &[1]).upstream(&upstream)).await;
    let fixture = fixture("awaited");
    let gate = Gate::new();
    let asked = upstream.script(Rule::on(&fixture.narinfo_path()).gate(&gate));
    let late = {
        let (path, addr) = (fixture.narinfo_path(), cluster.at(2).addr);
        tokio::spawn(async move { Request::get(&path).send(addr).await.expect("answered").status })
    };
    eventually("the upstream is asked", async || asked.hits() > 0).await;
    upload(&cluster, "", &fixture, 0, 0).await;
    let asked_again = tokio::time::timeout(Duration::from_secs(20), is(&cluster, 200, &fixture));
    asked_again.await.expect("nobody waits for the lookup that runs");
    gate.open();
    late.await.expect("no panic");
    is(&cluster, 200, &fixture).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_at_one_edge_is_gone_at_all() {
    let cluster = start(of(3, &[1])).await;
    for edge in 0..3 {
        let fixture = fixture(&format!("deleted-at-{edge}"));
        upload(&cluster, "", &fixture, 0, 1).await;
        is(&cluster, 200, &fixture).await;
        assert_eq!(status(cluster.at(edge), delete(&fixture.nar_path())).await, 204);
        is(&cluster, 404, &fixture).await;
        assert!(!cluster.at(1).stores(&fixture.nar_path()), "{edge}");
        upload(&cluster, "", &fixture, 0, 1).await;
        is(&cluster, 200, &fixture).await;
        assert_eq!(status(cluster.at(edge), delete(&fixture.narinfo_path())).await, 204);
        for at in &cluster.edges {
            assert_eq!(
                status(at, Request::get(&fixture.narinfo_path())).await,
                404,
                "{edge} at {}",
                at.name()
            );
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_objects_rest_there_and_are_deleted_anywhere() {
    let upstream = Upstream::start().await;
    let cluster = start(of(3, &[1]).upstream(&upstream)).await;
    let log = "/log/00000000000000000000000000000000-a.drv";
    for edge in 0..3 {
        is_everywhere(&cluster, log, None).await;
        for text in ["what was built", "what was built again"] {
            assert_eq!(status(cluster.at(edge), put(log, text)).await, 204, "{edge}");
            is_everywhere(&cluster, log, Some(text)).await;
        }
        assert_eq!(status(cluster.at((edge + 1) % 3), delete(log)).await, 204, "{edge}");
        assert_eq!(status(cluster.at(edge), delete(log)).await, 404);
    }
    is_everywhere(&cluster, log, None).await;
    cluster.end().await;
}

/// What every edge says of an object at once, at both doors.
async fn is_everywhere(cluster: &Cluster, path: &str, text: Option<&str>) {
    for edge in &cluster.edges {
        for path in [path.to_owned(), format!("/upload{path}")] {
            let (head, get) = (ask(edge, Request::head(&path)).await, ask(edge, Request::get(&path)).await);
            let expected = if text.is_some() { 200 } else { 404 };
            assert_eq!((head.status, get.status), (expected, expected), "{path} at {}", edge.name());
            assert!(text.is_none_or(|text| get.text() == text), "{path} at {}: {}", edge.name(), get.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_keeper_is_away_is_not_said_to_be_absent() {
    let upstream = Upstream::start().await;
    let mut cluster = start(of(2, &[1]).upstream(&upstream)).await;
    let log = |name: &str| format!("/log/00000000000000000000000000000000-{name}.drv");
    upstream.put(&log("upstreams"), "an upstream has it");
    assert_eq!(status(cluster.at(0), put(&log("brought"), "a client brought it")).await, 204);
    cluster.edges[1].stop().await;
    eventually("it is gone", async || cluster.attached().await.len() == 1).await;
    assert_eq!(status(cluster.at(0), Request::get(&log("brought"))).await, 503);
    let upstreams = ask(cluster.at(0), Request::get(&log("upstreams"))).await;
    assert_eq!((upstreams.status, upstreams.text()), (200, "an upstream has it"));
    cluster.edges[1].start().await;
    eventually("it is back", async || cluster.attached().await.len() == 2).await;
    let there = ask(cluster.at(0), Request::get(&log("brought"))).await;
    assert_eq!((there.status, there.text()), (200, "a client brought it"));
    assert_eq!(status(cluster.at(0), Request::get(&log("nobodys"))).await, 404);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_59_what_is_written_through_one_edge_is_read_through_another_at_once() {
    for (edges, durable) in [(2, &[0, 1][..]), (2, &[1]), (3, &[1])] {
        let upstream = Upstream::start().await;
        let cluster = start(of(edges, durable).upstream(&upstream)).await;
        for writer in 0..edges {
            let reader = cluster.at((writer + 1) % edges);
            let fixture = fixture(&format!("written-at-{writer}-of-{edges}-{}", durable.len()));
            for path in [fixture.narinfo_path(), fixture.nar_path()] {
                assert_eq!(status(reader, Request::get(&path)).await, 404, "{path} is known to be absent");
            }
            let told = ask(cluster.at(writer), put(&fixture.nar_path(), fixture.file.clone())).await;
            assert_eq!(told.status, 204, "{}", told.text());
            let nar = ask(reader, Request::get(&fixture.nar_path())).await;
            assert!(
                nar.status == 200 && nar.body == fixture.file.to_bytes(),
                "the NAR alone: {}",
                nar.status
            );
            let told = ask(cluster.at(writer), put(&fixture.narinfo_path(), fixture.narinfo_text())).await;
            assert_eq!(told.status, 204, "{}", told.text());
            for door in ["", "/upload"] {
                let narinfo = ask(reader, Request::get(&format!("{door}{}", fixture.narinfo_path()))).await;
                assert_eq!(narinfo.status, 200, "{door} {}", narinfo.text());
                let nar = ask(reader, Request::get(&format!("{door}{}", fixture.nar_path()))).await;
                assert!(nar.status == 200 && nar.body == fixture.file.to_bytes(), "{door} {}", nar.status);
            }
        }
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_or_deleted_lies_at_no_edge_when_that_is_answered() {
    let cluster = start(of(3, &[1])).await;
    for purges in [true, false] {
        let fixture = fixture(&format!("purged-{purges}"));
        upload(&cluster, "", &fixture, 0, 2).await;
        for edge in &cluster.edges {
            assert_eq!(status(edge, Request::get(&fixture.narinfo_path())).await, 200);
            assert_eq!(status(edge, Request::get(&fixture.nar_path())).await, 200);
            edge.quiet().await;
        }
        assert!(cluster.edges.iter().all(|edge| edge.stores(&fixture.nar_path())), "each has a copy");
        match purges {
            true => drop(cli(&cluster).ok(&["purge", "--yes", &fixture.hash_part()]).await),
            false => assert_eq!(status(cluster.at(2), delete(&fixture.nar_path())).await, 204),
        }
        assert!(cluster.edges.iter().all(|edge| !edge.stores(&fixture.nar_path())), "purged: {purges}");
        is(&cluster, 404, &fixture).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_edge_is_away_is_an_outage_until_it_is_back() {
    let upstream = Upstream::start().await;
    let mut cluster = start(of(2, &[1]).upstream(&upstream)).await;
    let fixture = fixture("away");
    upload(&cluster, "", &fixture, 0, 0).await;
    cluster.edges[1].stop().await;
    eventually("it is gone", async || cluster.attached().await.len() == 1).await;
    for request in [Request::get(&fixture.nar_path()), Request::head(&fixture.nar_path())] {
        assert_eq!(status(cluster.at(0), request).await, 503);
    }
    assert_eq!(status(cluster.at(0), Request::get(&fixture.narinfo_path())).await, 200);
    cluster.edges[1].launch().await;
    eventually("it is back", async || cluster.attached().await.len() == 2).await;
    let has = async || status(cluster.at(0), Request::get(&fixture.nar_path())).await == 200;
    eventually("control has heard what it holds", has).await;
    assert_eq!(status(cluster.at(0), Request::get(&fixture.narinfo_path())).await, 200);
    cluster.end().await;
}
