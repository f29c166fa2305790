//! Pins and evictions on demand, as an administrator makes them with `ncps-cli` while the cache is in use.

use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, UpstreamKey, both_modes, eventually};

use crate::cli::cli;
use crate::eviction::{MIB, assert_no_orphans, fetch, fixtures, limited, stored, upstream_of};

/// A path of a mebibyte that references these.
fn dependent(key: &UpstreamKey, seed: u64, references: &[&Fixture]) -> Fixture {
    let references: Vec<_> = references.iter().map(|fixture| fixture.narinfo.store_path.clone()).collect();
    let fixture = Fixture::new("pinned").seed(seed).size(MIB).compression(Compression::None);
    fixture.references(&references).build(key)
}

fn path(fixture: &Fixture) -> String {
    fixture.narinfo.store_path.absolute()
}

both_modes! {
    async fn a_pinned_closure_is_whole_after_eviction_under_pressure(mode) {
        let key = UpstreamKey::new("upstream-1");
        let deep = dependent(&key, 1, &[]);
        let late = dependent(&key, 2, &[&deep]);
        let root = dependent(&key, 3, &[&late]);
        let mut all = vec![root, late, deep];
        all.extend(fixtures(&key, 6, MIB));
        let upstream = upstream_of(&all).await;
        let cluster = limited(mode, &upstream, &key, 5 * MIB).start().await;
        fetch(&cluster, &all[0]).await;
        let pinned = cli(&cluster).json(&["pin", "add", &path(&all[0]), "--label=release", "--expires=30d"]).await;
        assert_eq!((&pinned["paths"], &pinned["unknown"]), (&1.into(), &1.into()));
        // What it needs comes later than the pin.
        for fixture in &all[1..] {
            fetch(&cluster, fixture).await;
        }
        for _ in 0..2 {
            for fixture in &all[3..] {
                fetch(&cluster, fixture).await;
            }
        }
        assert_eq!(stored(&cluster, &all)[..3], [0, 1, 2], "the oldest of all, and pinned");
        assert_no_orphans(&cluster.store_dir());
        cli(&cluster).ok(&["pin", "remove", "release"]).await;
        for fixture in &all[3..] {
            fetch(&cluster, fixture).await;
        }
        assert_eq!(stored(&cluster, &all).iter().filter(|n| **n < 3).count(), 0, "free again");
        cluster.end().await;
    }

    async fn where_pins_fill_the_store_nothing_new_is_kept_and_that_is_said(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 4, MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 2 * MIB + MIB / 2).prometheus().start().await;
        for fixture in &fixtures[..2] {
            fetch(&cluster, fixture).await;
            cli(&cluster).ok(&["pin", "add", &path(fixture)]).await;
        }
        for fixture in &fixtures[2..] {
            fetch(&cluster, fixture).await;
        }
        assert_eq!(stored(&cluster, &fixtures), [0, 1]);
        let number = |name| crate::eviction::metric(&cluster, name, &[]);
        eventually("it is counted", async || number("ncps_lru_shortfall_bytes") > 0.0).await;
        assert_eq!((number("ncps_pins"), number("ncps_pinned_paths")), (2.0, 2.0));
        let ran = cli(&cluster).run(&["evict", "--to=0B"]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.printed.contains("pins keep 2.0 MiB"), "{ran:?}");
        cluster.end().await;
    }

    async fn pins_are_listed_and_ended(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 2, 1000);
        let upstream = upstream_of(&fixtures).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        cluster.narinfo(&fixtures[0]).await;
        let cli = cli(&cluster);
        let ran = cli.run(&["pin", "add", &path(&fixtures[1])]).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.said.contains("fetch it through this cache first"), "{ran:?}");
        let label = |label: &str| format!("--label={label}");
        for (bad, said) in [
            (&["pin", "add", "/nix/store/eeee-x"][..], "without e, o, t and u"),
            (&["pin", "add", &path(&fixtures[0]), "--expires=soon"], "expected a duration with its unit"),
            (&["pin", "add", &path(&fixtures[0]), &label(&fixtures[0].hash_part())], "is a store path"),
            (&["pin", "add", &path(&fixtures[0]), &label("")], "a value is required for '--label"),
            (&["pin", "add", &path(&fixtures[0]), &label(&"x".repeat(256))], "is longer than 255 bytes"),
            (&["pin", "remove", "nothing"], "no pin has the label nothing"),
        ] {
            let ran = cli.run(bad).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
            assert!(ran.said.contains(said), "{bad:?}: {ran:?}");
        }
        assert_eq!(cli.json(&["pin", "list"]).await, serde_json::json!([]));
        cli.ok(&["pin", "add", &fixtures[0].hash_part()]).await;
        let listed = cli.json(&["pin", "list"]).await;
        assert_eq!((&listed[0]["path"], &listed[0]["expires_at"]), (&path(&fixtures[0]).into(), &serde_json::Value::Null));
        assert!(listed[0]["made_by"].as_str().expect("somebody").starts_with("uid "), "{listed}");
        assert!(cli.ok(&["pin", "list"]).await.contains("never"));
        cli.ok(&["pin", "remove", &path(&fixtures[0])]).await;
        assert_eq!(cli.json(&["pin", "list"]).await, serde_json::json!([]));
        let audit = cli.ok(&["events", "--audit"]).await;
        assert!(audit.contains("pinned") && audit.contains("unpinned"), "{audit}");
        cluster.end().await;
    }

    async fn an_eviction_is_foreseen_and_then_done(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 3, MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = limited(mode, &upstream, &key, 100 * MIB).start().await;
        for fixture in &fixtures {
            fetch(&cluster, fixture).await;
        }
        // What was read is known, and how full the disk is.
        let cli = cli(&cluster);
        cluster.edge.accesses.report_now();
        let foreseen = async || cli.json(&["evict", "--to=2M", "--dry-run"]).await;
        eventually("the edge has said what it holds", async || {
            foreseen().await["edges"][0]["plan"].as_array().is_some_and(|plan| plan.len() == 2)
        }).await;
        let edge = &foreseen().await["edges"][0];
        assert_eq!(edge["plan"][0]["paths"][0], path(&fixtures[0]), "{edge}");
        assert!(edge["plan"][0]["because"].as_str().expect("a reason").starts_with("not read since"), "{edge}");
        assert!(edge["plan"][0]["bytes"].as_u64() > Some(MIB), "{edge}");
        assert!(cli.ok(&["evict", "--to=2M", "--dry-run"]).await.contains("would be evicted"));
        assert_eq!(stored(&cluster, &fixtures), [0, 1, 2], "a dry run changes nothing");
        assert_eq!(cli.json(&["evict"]).await["edges"], serde_json::json!([]), "the limits ask for nothing");
        let size = "expected a whole number and a unit out of B, K, M, G, T, such as 50G";
        for (bad, said) in [
            (&["evict", "--to=2"][..], size),
            (&["evict", "--free=much"], size),
            (&["evict", "--free=1M", "--to=1M"], "cannot be used with"),
            (&["evict", "--free=1M", "--edge=nobody"], "no edge nobody is attached; attached: edge"),
        ] {
            let ran = cli.run(bad).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
            assert!(ran.said.contains(said), "{bad:?}: {ran:?}");
        }
        let done = cli.json(&["evict", "--free=1M", "--edge=edge"]).await;
        assert_eq!(done["edges"][0]["files"], 1, "{done}");
        assert_eq!(stored(&cluster, &fixtures), [1, 2]);
        let asked = upstream.total();
        cluster.narinfo(&fixtures[0]).await;
        assert_eq!(upstream.total(), asked, "a narinfo outlives its NAR");
        // And it is said where its NAR went, and where it comes from.
        let why = cli.json(&["paths", "why", &path(&fixtures[0])]).await;
        assert_eq!((&why["state"], &why["path"]), (&"known".into(), &path(&fixtures[0]).into()), "{why}");
        let again = format!("; it is fetched from {} when asked for", upstream.url());
        let because = why["because"].as_str().expect("words");
        assert!(because.starts_with("its NAR was evicted at 20") && because.ends_with(&again), "{why}");
        let history = why["history"].as_array().expect("a list");
        let evicted = history.iter().find(|event| event["kind"] == "evicted").expect("it was");
        assert_eq!(evicted["detail"], "from edge edge, to make room", "{why}");
        let text = cli.ok(&["paths", "why", &path(&fixtures[0])]).await;
        assert!(text.contains(&format!("\nknown: {because}\n")), "{text}");
        cluster.end().await;
    }
}

#[tokio::test]
async fn without_control_commands_end_with_3() {
    let nowhere = ncps_tests::Cli::new(crate::processes::UNDER_TEST).flag("--control=unix:/no/such/socket");
    for command in [&["pin", "list"][..], &["evict"], &["purge", "--name=x", "--yes"]] {
        assert_eq!(nowhere.run(command).await.code, 3, "{command:?}");
    }
}
