//! `ncps-cli paths` and `ncps-cli events` beside a cache that is in use.

use std::process::Stdio;

use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, Process, Upstream, UpstreamKey, both_modes, eventually};

use crate::cli::cli;
use crate::uploads;

struct Scene {
    upstream: Upstream,
    cluster: Cluster,
    read: Fixture,
    known: Fixture,
}

/// One path whose NAR was read, and one whose narinfo is known.
async fn scene(mode: ncps_tests::Mode) -> Scene {
    let key = UpstreamKey::new("upstream-1");
    let read = Fixture::new("hello-1.0").seed(1).compression(Compression::Zstd).build(&key);
    let known = Fixture::new("world-2.0").seed(2).build(&key);
    let upstream = Upstream::with(&[&read, &known]).await;
    let cluster = Cluster::of(mode, &upstream, &key).await;
    cluster.narinfo(&read).await;
    cluster.fetch(&read.nar_path()).await;
    cluster.narinfo(&known).await;
    cluster.quiet().await;
    Scene { upstream, cluster, read, known }
}

/// Without the times of last reads, of which control hears while it is asked.
fn unread(mut rows: serde_json::Value) -> serde_json::Value {
    for row in rows.as_array_mut().expect("a list") {
        row.as_object_mut().expect("a row").remove("last_read").expect("each has one");
    }
    rows
}

both_modes! {
    async fn paths_are_listed_page_by_page_and_by_name(mode) {
        let Scene { cluster, read, known, .. } = scene(mode).await;
        let cli = cli(&cluster);
        eventually("both rows", async || cli.json(&["paths", "list"]).await.as_array().expect("a list").len() == 2).await;
        let listed = async |args: &[&str]| unread(cli.json(&[&["paths", "list"], args].concat()).await);
        let all = listed(&[]).await;
        let first = listed(&["--limit=1"]).await;
        assert_eq!(first.as_array().expect("a list").len(), 1);
        assert_eq!(first[0], all[0]);
        let after = first[0]["path"].as_str().expect("a path");
        let second = listed(&["--after", after]).await;
        assert_eq!((second.as_array().expect("a list").len(), &second[0]), (1, &all[1]));
        let hello = cli.json(&["paths", "list", "hello-*"]).await;
        assert_eq!(hello[0]["path"], read.store_path().absolute());
        assert_eq!((&hello[0]["copies"], &hello[0]["nar_size"]), (&1.into(), &read.narinfo.nar_size.into()));
        let text = cli.ok(&["paths", "list", "world-?.0"]).await;
        assert!(text.contains(&known.store_path().absolute()) && text.lines().count() == 2, "{text}");
        let none = cli.run(&["paths", "list", "no-such-*"]).await;
        assert_eq!((none.code, none.printed.as_str()), (2, ""), "{none:?}");
        cluster.end().await;
    }

    async fn a_path_is_shown_and_explained(mode) {
        let Scene { cluster, read, known, upstream } = scene(mode).await;
        let cli = cli(&cluster);
        let path = read.store_path().absolute();
        let shown = cli.json(&["paths", "show", &path]).await;
        assert_eq!((&shown["path"], &shown["held_by"][0]), (&path.clone().into(), &"edge".into()));
        assert!(shown["origins"][0].as_str().expect("an origin").starts_with(&upstream.url()));
        assert!(cli.ok(&["paths", "show", &path]).await.contains("Sig: cache.test:"));
        let why = cli.json(&["paths", "why", &path]).await;
        assert_eq!((&why["state"], &why["history"][0]["kind"]), (&"stored".into(), &"published".into()));
        let hash = known.store_path().hash().to_string();
        let why = cli.ok(&["paths", "why", &hash]).await;
        assert!(why.contains("known: its NAR is not stored") && why.contains("published"), "{why}");

        let nowhere = Fixture::new("nowhere-1.0").build(&UpstreamKey::new("x"));
        let hash = nowhere.store_path().hash().to_string();
        let ran = cli.run(&["paths", "why", &hash]).await;
        assert!(ran.code == 2 && ran.said.contains("nothing is known"), "{ran:?}");
        assert_eq!(cluster.get(&nowhere.narinfo_path()).await.status, 404);
        assert_eq!(cli.json(&["paths", "why", &hash]).await["state"], "absent");
        let ran = cli.run(&["paths", "show", &hash]).await;
        assert!(ran.code == 2 && ran.said.contains("paths why"), "{ran:?}");
        cluster.end().await;
    }

    async fn what_is_pinned_or_uploaded_is_listed_and_explained(mode) {
        let key = UpstreamKey::new("upstream-1");
        let needed = Fixture::new("needed-1.0").seed(1).build(&key);
        let root = Fixture::new("root-1.0").seed(2).references(&[needed.store_path().clone()]).build(&key);
        let other = Fixture::new("other-1.0").seed(3).build(&key);
        let upstream = Upstream::with(&[&needed, &root, &other]).await;
        let cluster = uploads::closed(mode).upstream(&upstream).trust(&key).start().await;
        let fetched = [&needed, &root, &other];
        for fixture in fetched {
            cluster.narinfo(fixture).await;
        }
        let brought = uploads::fixture(Compression::Zstd);
        uploads::upload(&cluster, "", &brought).await;
        let cli = cli(&cluster);
        let listed = async |flags: &[&str]| {
            let rows = cli.json(&[&["paths", "list"], flags].concat()).await;
            let path = |row: &serde_json::Value| row["path"].as_str().expect("a path").to_owned();
            rows.as_array().expect("a list").iter().map(path).collect::<Vec<_>>()
        };
        eventually("every row", async || listed(&[]).await.len() == 4).await;
        let absolute = |fixture: &Fixture| fixture.store_path().absolute();
        assert_eq!(listed(&["--uploaded"]).await, [absolute(&brought)]);
        assert_eq!(listed(&["--pinned"]).await, [""; 0]);
        cli.ok(&["pin", "add", &absolute(&root), "--label=release"]).await;
        let pinned = listed(&["--pinned"]).await;
        let expected = [absolute(&needed), absolute(&root)];
        assert!(pinned.len() == 2 && expected.iter().all(|path| pinned.contains(path)), "{pinned:?}");
        assert_eq!(listed(&["--pinned", "needed-*"]).await, [absolute(&needed)]);
        assert_eq!(listed(&["--pinned", "--limit=1"]).await, pinned[..1]);
        assert_eq!(listed(&["--pinned", "--after", &pinned[0]]).await, pinned[1..]);
        assert_eq!(listed(&["--pinned", "--uploaded"]).await, [""; 0]);
        let why = cli.json(&["paths", "why", &absolute(&needed)]).await;
        let pin = &why["pinned_by"][0];
        assert_eq!((&pin["path"], &pin["label"]), (&absolute(&root).into(), &"release".into()), "{why}");
        assert_eq!(why["uploaded"], false);
        cli.ok(&["pin", "add", &absolute(&brought)]).await;
        assert_eq!(listed(&["--pinned", "--uploaded"]).await, [absolute(&brought)]);
        let why = cli.ok(&["paths", "why", &absolute(&brought)]).await;
        let by = format!("pinned by uid {}: {}\n", rustix::process::getuid().as_raw(), absolute(&brought));
        assert!(why.contains(&by) && why.contains("uploaded by a client"), "{why}");
        let why = cli.ok(&["paths", "why", &absolute(&other)]).await;
        assert!(!why.contains("pinned") && !why.contains("by a client"), "{why}");
        cluster.end().await;
    }

    async fn a_path_that_is_lost_upstream_is_explained(mode) {
        let Scene { cluster, known, upstream, .. } = scene(mode).await;
        let cli = cli(&cluster);
        upstream.remove_fixture(&known);
        assert_eq!(cluster.get(&known.nar_path()).await.status, 404);
        let hash = known.store_path().hash().to_string();
        let why = cli.json(&["paths", "why", &hash]).await;
        let history = why["history"].as_array().expect("a list");
        let kinds: Vec<_> = history.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
        assert_eq!((why["state"].as_str(), kinds), (Some("absent"), vec!["published", "retracted"]));
        cluster.end().await;
    }

    async fn events_are_told_and_followed(mode) {
        let Scene { cluster, known, upstream, .. } = scene(mode).await;
        let cli = cli(&cluster);
        let lines = cli.clone().flag("--output=json").ok(&["events"]).await;
        let events: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect();
        assert!(events.len() == 2 && events.iter().all(|event| event["kind"] == "published"), "{events:?}");
        assert_eq!(cli.ok(&["events", "--audit"]).await, "", "nobody changed anything");

        let mut command = cli.command(&["events", "--follow", "--last=1"]);
        command.stdin(Stdio::null());
        let mut follower = Process::spawn_command(command);
        follower.line_with("published").await;
        upstream.remove_fixture(&known);
        assert_eq!(cluster.get(&known.nar_path()).await.status, 404);
        follower.line_with("retracted").await;
        cluster.end().await;
        assert_eq!(follower.exit().await.code(), Some(0), "control's stop ends it");
    }
}

#[tokio::test]
async fn a_mistyped_path_is_told_what_would_be_one() {
    let cli = ncps_tests::Cli::new(crate::processes::UNDER_TEST);
    for bad in ["hello", "0c0c", "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-x", ""] {
        let ran = cli.run(&["paths", "show", bad]).await;
        assert!(ran.code == 2 && ran.said.contains("without e, o, t and u"), "{ran:?}");
    }
}
