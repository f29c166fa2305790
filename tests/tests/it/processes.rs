//! Real processes that are killed, started in any order, and started where they must not be. Stopping in order is
//! in `stopping.rs`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use ncps_nix::{Compression, NarInfo};
use ncps_tests::{
    Body, Fixture, Gate, Installation, Mode, Request, ReservedPort, Rule, Upstream, UpstreamKey, both_modes,
    client, eventually, eventually_some,
};

pub(crate) const UNDER_TEST: &str = env!("CARGO_BIN_EXE_under_test");

/// An upstream with one NAR of a megabyte, and its key.
async fn one() -> (Upstream, Fixture, UpstreamKey) {
    let key = UpstreamKey::new("upstream-1");
    let fixture = Fixture::new("hello-1.0").size(1_000_000).compression(Compression::Zstd).build(&key);
    (Upstream::with(&[&fixture]).await, fixture, key)
}

async fn narinfo(ncps: &Installation, fixture: &Fixture) -> NarInfo {
    let mut response = ncps.get(&fixture.narinfo_path()).await;
    assert_eq!(response.status, 200, "narinfo of {}", fixture.store_path());
    NarInfo::parse(&response.whole().await).expect("what we serve parses strictly")
}

/// Both are served, and the store has just them.
async fn is_whole_and_stored(ncps: &Installation, fixture: &Fixture) {
    let served = narinfo(ncps, fixture).await;
    assert_eq!(
        (&served.nar_hash, &served.file_hash),
        (&fixture.narinfo.nar_hash, &fixture.narinfo.file_hash)
    );
    let (status, body) = ncps.fetch(&fixture.nar_path()).await;
    assert!(status == 200 && body.whole() == fixture.file.to_bytes());
    ncps.stores(&fixture.narinfo_path(), &fixture.nar_path()).await;
    let on_disk = std::fs::read(ncps.stored(&fixture.narinfo_path())).expect("it is there");
    assert_eq!(NarInfo::parse(&on_disk).expect("it parses"), served);
    let nar_on_disk = std::fs::read(ncps.stored(&fixture.nar_path())).expect("it is there");
    assert_eq!(nar_on_disk, fixture.file.to_bytes());
    assert_eq!(ncps.files("store/nar").len(), 1);
    eventually("an empty spool", async || ncps.files("spool").is_empty()).await;
}

async fn status(ncps: &Installation, path: &str) -> u16 {
    ncps.get(path).await.status
}

fn spooled_bytes(ncps: &Installation) -> u64 {
    let spool = ncps.edge_data().join("spool");
    let files = std::fs::read_dir(spool).expect("it is there").map(|file| file.expect("listed"));
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

both_modes! {
    async fn a_kill_in_the_middle_of_a_download_leaves_nothing_half(mode) {
        let (upstream, fixture, key) = one().await;
        let gate = Gate::new();
        upstream.script(Rule::on("/nar/*").pause_at(500_000, &gate));
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        narinfo(&ncps, &fixture).await;
        let mut response = ncps.get(&fixture.nar_path()).await;
        response.bytes(400_000).await.expect("the first part comes while the rest is held");
        assert_eq!(ncps.files("spool").len(), 1);
        ncps.kill().await;
        let more = response.outcome().await.truncated();
        assert!(400_000 + more.len() < 500_001);
        assert_eq!((ncps.files("spool").len(), ncps.files("store/nar").len()), (1, 0));

        ncps.start().await;
        assert!(ncps.files("spool").is_empty(), "what was left is removed at start");
        gate.open();
        is_whole_and_stored(&ncps, &fixture).await;
        upstream.down().await;
        ncps.restart().await;
        is_whole_and_stored(&ncps, &fixture).await;
        ncps.terminate().await;
    }

    async fn a_kill_in_the_middle_of_an_upload_leaves_nothing_half(mode) {
        let (upstream, _, key) = one().await;
        let own = Fixture::new("own-1.0").size(1_000_000).compression(Compression::Zstd).build(&key);
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        let mut ncps = ncps.control_flag("--cache-allow-put-verb").started().await;
        let (path, file) = (own.nar_path(), own.file.to_bytes());
        let mut sending = client::Connection::open(ncps.addr()).await.expect("connected");
        let head = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", file.len());
        sending.write(head.as_bytes()).await.expect("written");
        sending.write(&file[..500_000]).await.expect("the first part is taken while the rest is held");
        eventually("most of it in the spool", async || spooled_bytes(&ncps) > 400_000).await;
        ncps.kill().await;
        assert!(sending.read().await.is_err(), "nobody said that it is there");
        assert_eq!((ncps.files("spool").len(), ncps.files("store/nar").len()), (1, 0));

        ncps.start().await;
        assert!(ncps.files("spool").is_empty(), "what was left is removed at start");
        let put = async |path: &str, body: Body| {
            Request::put(path, body).send(ncps.addr()).await.expect("answered").status
        };
        let narinfo = || Body::from(own.narinfo_text());
        assert_eq!(put(&own.narinfo_path(), narinfo()).await, 422, "its NAR did not come");
        assert_eq!(status(&ncps, &own.narinfo_path()).await, 404);
        assert_eq!(put(&path, own.file.clone()).await, 204);
        assert_eq!(put(&own.narinfo_path(), narinfo()).await, 204);
        is_whole_and_stored(&ncps, &own).await;
        ncps.restart().await;
        is_whole_and_stored(&ncps, &own).await;
        ncps.terminate().await;
    }

    async fn what_was_stored_survives_a_kill(mode) {
        let (upstream, fixture, key) = one().await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        narinfo(&ncps, &fixture).await;
        ncps.get(&fixture.nar_path()).await.whole().await;
        eventually("the NAR in the store", async || ncps.stored(&fixture.nar_path()).exists()).await;
        ncps.kill().await;
        upstream.down().await;
        ncps.start().await;
        let (status, body) = ncps.fetch(&fixture.nar_path()).await;
        assert!(status == 200 && body.whole() == fixture.file.to_bytes());
        // The narinfo's row may have died with the process, the path may not.
        upstream.up().await;
        eventually("its narinfo", async || ncps.get(&fixture.narinfo_path()).await.status == 200).await;
        assert_eq!(narinfo(&ncps, &fixture).await.file_hash, fixture.narinfo.file_hash);
        assert_eq!(upstream.count("GET", "/nar/"), 1, "nothing is fetched again");
        ncps.terminate().await;
    }

    async fn many_kills_do_no_harm(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures: Vec<_> =
            (0..8).map(|seed| Fixture::new("many-1.0").seed(seed).size(300_000).build(&key)).collect();
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        for (asked, fixture) in fixtures.iter().enumerate() {
            ncps.start().await;
            for fixture in &fixtures[..asked] {
                let stored = std::fs::read(ncps.stored(&fixture.nar_path()));
                assert!(stored.is_err() || stored.is_ok_and(|nar| nar == fixture.file.to_bytes()));
                narinfo(&ncps, fixture).await;
            }
            // Killed at a moment that nobody chose.
            let _narinfo = ncps.get(&fixture.narinfo_path()).await;
            let _begun = ncps.get(&fixture.nar_path()).await;
            ncps.kill().await;
        }
        ncps.start().await;
        for fixture in &fixtures {
            assert_eq!(narinfo(&ncps, fixture).await.nar_hash, fixture.narinfo.nar_hash);
            assert_eq!(ncps.get(&fixture.nar_path()).await.whole().await, fixture.file.to_bytes());
        }
        ncps.terminate().await;
    }

    async fn a_second_process_says_who_has_the_data_path(mode) {
        let (upstream, fixture, key) = one().await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        let elsewhere = ReservedPort::new();
        let mut second = ncps.edge_command(&ncps.edge_data());
        second.push(format!("--server-addr={}", elsewhere.addr()));
        let mut second = ncps.spawn(&second);
        assert_eq!(second.exit().await.code(), Some(2));
        let holder = format!("is locked by process {} (under_test)", ncps.edge().id());
        second.line_with(&holder).await;
        let mut second = ncps.spawn(&ncps.control_command(&ncps.control_data()));
        assert_eq!(second.exit().await.code(), Some(2));
        let holder = format!("is locked by process {} (under_test)", ncps.control().id());
        second.line_with(&holder).await;
        is_whole_and_stored(&ncps, &fixture).await;
        ncps.terminate().await;
    }

    async fn a_start_does_not_wait_for_an_upstream(mode) {
        let (_, fixture, key) = one().await;
        let upstream = Upstream::start_down();
        upstream.add(&fixture);
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        assert_eq!(status(&ncps, &fixture.narinfo_path()).await, 502);
        upstream.up().await;
        eventually("its narinfo", async || status(&ncps, &fixture.narinfo_path()).await == 200).await;
        is_whole_and_stored(&ncps, &fixture).await;
        ncps.terminate().await;
    }

    async fn each_request_is_one_line_of_json_on_standard_error(mode) {
        let (upstream, fixture, key) = one().await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        is_whole_and_stored(&ncps, &fixture).await;
        status(&ncps, "/nowhere").await;
        let line = |ncps: &mut Installation, path: &str| {
            let lines = ncps.edge().lines();
            let parsed = lines.iter().map(|line| serde_json::from_str(line).expect("every line is an object"));
            let about = |line: &serde_json::Value| line["message"] == "request" && line["path"] == path;
            let mut found: Vec<serde_json::Value> = parsed.filter(about).collect();
            (found.len() == 1).then(|| found.remove(0))
        };
        let nar = eventually_some("the NAR's line", async || line(&mut ncps, &fixture.nar_path())).await;
        assert_eq!((&nar["method"], &nar["status"]), (&"GET".into(), &200.into()));
        assert_eq!((&nar["bytes"], &nar["outcome"]), (&fixture.file.len().into(), &"Whole".into()));
        assert!(nar["ms"].is_u64() && nar["timestamp"].is_string() && nar["level"] == "INFO");
        let nowhere = eventually_some("the other line", async || line(&mut ncps, "/nowhere")).await;
        assert_eq!(nowhere["status"], 404);
        assert!(ncps.edge().printed().is_empty(), "standard output stays clean");
        ncps.terminate().await;
    }

    async fn a_killed_process_does_not_keep_the_data_path(mode) {
        let (upstream, fixture, key) = one().await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        assert_eq!(ncps.edge().kill().await.signal(), Some(9));
        ncps.control().kill().await;
        ncps.start().await;
        is_whole_and_stored(&ncps, &fixture).await;
        ncps.terminate().await;
    }
}

#[tokio::test]
async fn an_edge_waits_for_its_first_control() {
    let (upstream, fixture, key) = one().await;
    let mut ncps = Installation::of(Mode::Split, UNDER_TEST, &upstream, &key);
    ncps.start_edge();
    let addr = ncps.addr();
    ncps.edge().answers(addr, "/healthz").await;
    // It answers from the first moment on, so that it may still be starting otherwise, too.
    eventually("it waits for control alone", async || {
        let mut response = ncps.get("/readyz").await;
        assert_eq!(response.status, 503);
        response.text().await == "starting: configuration from control\n"
    })
    .await;
    assert_eq!(status(&ncps, &fixture.narinfo_path()).await, 503);
    ncps.start_control();
    ncps.ready().await;
    is_whole_and_stored(&ncps, &fixture).await;
    ncps.terminate().await;
}

#[tokio::test]
async fn an_edge_serves_while_control_is_killed_and_started_again() {
    let (upstream, fixture, key) = one().await;
    let other = Fixture::new("other-1.0").build(&key);
    upstream.add(&other);
    let mut ncps = Installation::of(Mode::Split, UNDER_TEST, &upstream, &key).started().await;
    is_whole_and_stored(&ncps, &fixture).await;
    let known = narinfo(&ncps, &fixture).await;

    let gate = Gate::new();
    upstream.script(Rule::on(&other.nar_path()).pause_at(500, &gate));
    narinfo(&ncps, &other).await;
    let (addr, path) = (ncps.addr(), other.nar_path());
    let running = tokio::spawn(async move { client::get(addr, &path).await });
    gate.reached().await;
    ncps.control().kill().await;
    gate.open();
    let mut running = running.await.expect("no panic").expect("it is answered");
    assert_eq!(running.whole().await, other.file.to_bytes(), "a download goes on without control");

    upstream.down().await;
    let unknown = Fixture::new("unknown-1.0").build(&key);
    assert_eq!(status(&ncps, &unknown.narinfo_path()).await, 502, "the upstreams are asked, which are down");
    assert_eq!(narinfo(&ncps, &fixture).await, known);
    assert_eq!(ncps.get(&fixture.nar_path()).await.whole().await, fixture.file.to_bytes());
    assert_eq!(status(&ncps, "/readyz").await, 200);

    upstream.up().await;
    upstream.add(&unknown);
    ncps.control_back().await;
    eventually("a new path", async || status(&ncps, &unknown.narinfo_path()).await == 200).await;
    // What control could not be told, it is told now.
    ncps.stores(&other.narinfo_path(), &other.nar_path()).await;
    assert_eq!(narinfo(&ncps, &fixture).await, known);
    ncps.terminate().await;
}

#[tokio::test]
async fn an_edge_that_starts_without_control_serves_what_it_has() {
    let (upstream, fixture, key) = one().await;
    let ncps = Installation::of(Mode::Split, UNDER_TEST, &upstream, &key);
    let mut ncps = ncps.control_flag("--when-control-away=stored-only").started().await;
    is_whole_and_stored(&ncps, &fixture).await;
    let known = narinfo(&ncps, &fixture).await;
    let ours = ncps.public_key().await;
    ncps.terminate().await;
    upstream.down().await;
    let state = std::fs::metadata(ncps.edge_data().join("edge.state")).expect("it is there");
    assert_eq!(state.permissions().mode() & 0o777, 0o600);

    ncps.start_edge();
    ncps.ready().await;
    assert_eq!(narinfo(&ncps, &fixture).await, known);
    assert_eq!(ncps.get(&fixture.nar_path()).await.whole().await, fixture.file.to_bytes());
    assert_eq!(ncps.public_key().await, ours);
    assert_eq!(status(&ncps, "/nix-cache-info").await, 200);
    assert_eq!(status(&ncps, &Fixture::new("unknown-1.0").build(&key).narinfo_path()).await, 503);
    assert_eq!(ncps.edge().terminate().await.code(), Some(0));
}

#[tokio::test]
async fn an_edge_that_starts_without_control_asks_the_upstreams_and_control_hears_of_it_later() {
    let (upstream, fixture, key) = one().await;
    let mut ncps = Installation::of(Mode::Split, UNDER_TEST, &upstream, &key).started().await;
    let ours = ncps.public_key().await;
    ncps.terminate().await;

    ncps.start_edge();
    ncps.ready().await;
    let is_ours = |narinfo: &NarInfo| narinfo.signatures.iter().any(|s| s.key_name == ours.name());
    assert!(!is_ours(&narinfo(&ncps, &fixture).await), "control alone has the key");
    is_whole_and_stored(&ncps, &fixture).await;
    // It dies before it could tell control.
    ncps.edge().kill().await;
    ncps.start_edge();
    ncps.ready().await;
    is_whole_and_stored(&ncps, &fixture).await;
    upstream.down().await;
    ncps.start_control();
    // Until it is taken over nobody can say what it is, with the upstream down; before the edge is attached it can itself.
    let adopted = async || {
        let mut response = ncps.get(&fixture.narinfo_path()).await;
        let served = (response.status == 200).then_some(response.whole().await);
        served.is_some_and(|served| is_ours(&NarInfo::parse(&served).expect("it parses")))
    };
    eventually("it is in the index", adopted).await;
    is_whole_and_stored(&ncps, &fixture).await;
    assert_eq!(upstream.count("GET", "/nar/"), 1, "nothing is fetched twice");
    ncps.terminate().await;
}
