//! What every option does, seen from outside a running `ncps serve`: given by flags, by variables and in each kind of
//! file; and what is done where none of them is given.

use std::net::SocketAddr;

use data_encoding::BASE64;
use ncps_nix::{Compression, NarInfo, SecretKey};
use ncps_tests::scrape::Scrape;
use ncps_tests::{Collector, Fixture, Process, Request, ReservedPort, Upstream, UpstreamKey, eventually};

use super::*;

const LIMIT: u64 = 300 << 10;

/// A process, and all that it was told of.
struct World {
    places: Places,
    upstream: Upstream,
    collector: Collector,
    small: Fixture,
    /// Larger than the store may be.
    large: Fixture,
    own_key: SecretKey,
    port: ReservedPort,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (key, port, collector) =
            (UpstreamKey::new("theirs-1"), ReservedPort::new(), Collector::start().await);
        let file = |name, size| Fixture::new(name).size(size).compression(Compression::None).build(&key);
        let (small, large) = (file("small-1.0", 1000), file("large-1.0", 2 * LIMIT));
        let upstream = Upstream::with(&[&small, &large]).await;
        let own_key = SecretKey::generate("seed.example").expect("a good name");
        let places = Places {
            upstream: upstream.url(),
            public_key: key.public().to_string(),
            collector: collector.url(),
            addr: port.addr().to_string(),
            dir,
        };
        write(&places.path("key"), &own_key.to_text());
        write(&places.path("temp/somebodys"), "file");
        std::fs::create_dir(places.path("home")).expect("room");
        World { places, upstream, collector, small, large, own_key, port }
    }

    /// The upstream wants a login, which is in a netrc file of this name.
    fn with_login(self, netrc: &str) -> World {
        write(&self.places.path(netrc), "machine 127.0.0.1\n login me\n password hunter2\n");
        let login = format!("Basic {}", BASE64.encode(b"me:hunter2"));
        self.upstream.require_authorization(Some(&login));
        self
    }

    async fn start(&self, by: By, rows: &[Row]) -> Process {
        let mut command = command(by, rows, &["serve"], &self.places);
        // Not the original's: the usual one may be another test's.
        command.env("CONTROL_HTTP_ADDR", "127.0.0.1:0");
        let mut process = Process::spawn_command(command);
        process.ready(self.addr()).await;
        process
    }

    fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    async fn text(&self, path: &str) -> String {
        ncps_tests::get(self.addr(), path).await.expect("it answers").text().await
    }

    async fn status(&self, request: Request) -> u16 {
        request.send(self.addr()).await.expect("it answers").status
    }

    async fn narinfo(&self, fixture: &Fixture) -> NarInfo {
        let text = self.text(&fixture.narinfo_path()).await;
        NarInfo::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Whose signatures a narinfo has.
    async fn signers(&self) -> Vec<String> {
        let narinfo = self.narinfo(&self.small).await;
        narinfo.signatures.iter().map(|signature| signature.key_name.clone()).collect()
    }

    /// Fetches both NARs, and waits until all that will be kept is.
    async fn fetches_all(&self, data: &str) {
        for fixture in [&self.large, &self.small] {
            self.narinfo(fixture).await;
            let mut response = ncps_tests::get(self.addr(), &fixture.nar_path()).await.expect("it answers");
            assert!(response.outcome().await.whole() == fixture.file.to_bytes());
        }
        let spool = self.places.path(data).join("spool");
        let is_done = async || {
            let is_empty = std::fs::read_dir(&spool).expect("it is there").next().is_none();
            is_empty && self.stores(data, &self.small)
        };
        eventually("all that is kept is in the store", is_done).await;
    }

    fn stores(&self, data: &str, fixture: &Fixture) -> bool {
        self.places.path(data).join("store").join(fixture.nar_path().trim_start_matches('/')).exists()
    }
}

/// All that one option does, shown. Signing is off in a run of its own.
async fn effect(option: &str, world: &World, process: &mut Process) {
    match option {
        "otel-enabled" | "otel-grpc-url" => {
            eventually("telemetry is sent", async || !world.collector.is_empty()).await;
        }
        "prometheus-enabled" => {
            let metrics = Scrape::parse(&world.text("/metrics").await);
            assert_eq!(metrics.get("ncps_transfers_started_total", &[]), Some(2.0), "one for each NAR");
        }
        "log-level" => drop(process.line_with("\"level\":\"DEBUG\"").await),
        "cache-hostname" => assert!(world.text("/").await.contains("\"hostname\":\"seed.example\"")),
        "cache-data-path" => {
            assert!(world.places.path("data/lock").exists() && world.places.path("data/store").exists());
            assert!(!world.places.path("state").exists(), "nothing is where it would be by default");
        }
        "upstream-cache" => assert!(world.upstream.count("GET", &world.small.narinfo_path()) > 0),
        "upstream-public-key" => {
            assert_eq!(world.status(Request::get(&world.small.narinfo_path())).await, 200);
        }
        "cache-database-url" => assert!(world.places.path("var/ncps/db/index.sqlite").exists()),
        "cache-max-size" => assert!(!world.stores("data", &world.large), "it does not fit"),
        // 04:30 in Kolkata, where it is five and a half hours later than in Greenwich.
        "cache-lru-schedule" | "cache-lru-schedule-timezone" => {
            let line = process.line_with("evicts on schedule").await;
            assert!(line.contains("-12-31T23:00:00Z"), "{line}");
        }
        "cache-temp-path" => {
            process.line_with("--cache-temp-path is not needed").await;
            assert!(world.places.path("temp/somebodys").exists());
        }
        "cache-sign-narinfo" => assert_eq!(world.signers().await, ["theirs-1"]),
        "cache-secret-key-path" => {
            assert_eq!(world.text("/pubkey").await.trim(), world.own_key.public().to_string());
            assert!(world.signers().await.contains(&"seed.example".to_owned()));
        }
        "cache-allow-put-verb" => {
            process.line_with("anybody may upload (PUT)").await;
            for prefix in ["", "/upload"] {
                let log = format!("{prefix}/log/{}.drv", world.small.store_path());
                assert_eq!(world.status(Request::put(&log, "a log")).await, 204);
                assert_eq!(world.text(&log).await, "a log");
                let unsigned = world.small.changed(|narinfo| narinfo.signatures.clear());
                let narinfo = format!("{prefix}{}", unsigned.narinfo_path());
                assert_eq!(world.status(Request::put(&narinfo, unsigned.narinfo_text())).await, 422);
            }
            assert_eq!(world.status(Request::put("/nix-cache-info", "x")).await, 405);
        }
        "cache-allow-delete-verb" => {
            process.line_with("anybody may delete (DELETE)").await;
            let path = world.small.narinfo_path();
            assert_eq!(world.status(Request::get(&path)).await, 200);
            assert_eq!(world.status(Request::delete(&path)).await, 204);
            assert_eq!(world.status(Request::delete(&path)).await, 404);
            assert_eq!(world.status(Request::get(&path)).await, 200, "the upstream has it");
        }
        // The upstream has let nobody in without.
        "netrc-file" => assert_eq!(world.upstream.count("GET", &world.small.nar_path()), 1),
        "server-addr" => assert_eq!(world.status(Request::get("/healthz")).await, 200),
        other => panic!("--{other} is shown nowhere"),
    }
}

/// All options at once, signing as it is by default.
async fn all_have_effect(by: By) {
    let world = World::new().await.with_login("netrc");
    let mut rows = table(&world.places);
    rows.retain(|row| row.flag != "cache-sign-narinfo");
    let mut process = world.start(by, &rows).await;
    world.fetches_all("data").await;
    for row in &rows {
        effect(row.flag, &world, &mut process).await;
    }
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn every_flag_has_its_effect() {
    all_have_effect(By::Flags).await;
}

#[tokio::test]
async fn every_variable_has_its_effect() {
    all_have_effect(By::Variables).await;
}

#[tokio::test]
async fn every_key_has_its_effect_in_yaml() {
    all_have_effect(By::Yaml).await;
}

#[tokio::test]
async fn every_key_has_its_effect_in_toml() {
    all_have_effect(By::Toml).await;
}

#[tokio::test]
async fn every_key_has_its_effect_in_json() {
    all_have_effect(By::Json).await;
}

#[tokio::test]
async fn signing_can_be_off() {
    for by in ALL {
        let world = World::new().await.with_login("netrc");
        let mut rows = table(&world.places);
        rows.retain(|row| row.flag != "cache-secret-key-path");
        let mut process = world.start(by, &rows).await;
        effect("cache-sign-narinfo", &world, &mut process).await;
        assert_eq!(process.terminate().await.code(), Some(0));
    }
}

#[tokio::test]
async fn the_host_names_the_key_that_is_made() {
    for by in ALL {
        let world = World::new().await;
        let mut rows = table(&world.places);
        rows.retain(|row| {
            ["upstream-cache", "upstream-public-key", "server-addr", "cache-hostname"].contains(&row.flag)
        });
        let mut process = world.start(by, &rows).await;
        assert!(world.text("/pubkey").await.starts_with("seed.example:"), "{by:?}");
        assert_eq!(world.signers().await, ["theirs-1", "seed.example"], "{by:?}");
        assert_eq!(process.terminate().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_schedule_is_kept() {
    let world = World::new().await;
    let mut rows = table(&world.places);
    rows.retain(|row| ["cache-lru-schedule", "prometheus-enabled", "server-addr"].contains(&row.flag));
    let schedule = rows.iter_mut().find(|row| row.flag == "cache-lru-schedule").expect("it was kept");
    schedule.value = "@every 1s".into();
    let mut process = world.start(By::Flags, &rows).await;
    let runs = async || {
        let metrics = Scrape::parse(&world.text("/metrics").await);
        metrics.number("ncps_lru_cleanup_runs_total", &[("trigger", "schedule")])
    };
    eventually("two runs", async || runs().await >= 2.0).await;
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_netrc_file_that_is_not_there_is_a_warning() {
    let world = World::new().await;
    let mut rows = table(&world.places);
    rows.retain(|row| {
        ["upstream-cache", "upstream-public-key", "server-addr", "netrc-file"].contains(&row.flag)
    });
    let mut process = world.start(By::Flags, &rows).await;
    let line = process.line_with("upstreams are asked without a login").await;
    assert!(line.contains("\"WARN\"") && line.contains(&world.places.text("netrc")), "{line}");
    assert_eq!(world.signers().await.len(), 2, "who wants no login is asked all the same");
    assert_eq!(process.terminate().await.code(), Some(0));
}

/// Upstream, its key and the address have to be said, since by default they are no test's.
#[tokio::test]
async fn defaults_have_their_effects() {
    let world = World::new().await.with_login("home/.netrc");
    let mut rows = table(&world.places);
    rows.retain(|row| ["upstream-cache", "upstream-public-key", "server-addr"].contains(&row.flag));
    let mut process = world.start(By::Flags, &rows).await;
    world.fetches_all("state").await;
    let host = ncps_runtime::paths::hostname();
    assert!(world.text("/").await.contains(&format!("\"hostname\":\"{host}\"")));
    assert_eq!(world.signers().await, ["theirs-1".to_owned(), host]);
    assert!(world.stores("state", &world.large), "there is no limit");
    for made in ["state/db/db.sqlite", "state/secret.key", "state/lock"] {
        assert!(world.places.path(made).exists(), "{made}");
    }
    assert_eq!(world.status(Request::get("/metrics")).await, 404);
    assert_eq!(world.status(Request::put(&world.small.narinfo_path(), "x")).await, 405);
    assert_eq!(world.status(Request::delete(&world.small.narinfo_path())).await, 405);
    assert_eq!(process.terminate().await.code(), Some(0));
    assert_eq!(process.printed(), Vec::<String>::new(), "telemetry is off");
    let unsaid = ["\"level\":\"DEBUG\"", "anybody may", "--cache-temp-path", "evicts on schedule"];
    let lines = process.lines().join("\n");
    assert!(unsaid.iter().all(|text| !lines.contains(text)), "{lines}");
}
