//! Purges with `ncps-cli`: what goes, who reads on, and edges that were away.

use std::collections::BTreeSet;

use ncps_nix::Compression;
use ncps_tests::{Cluster, Fixture, Gate, Mode, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::cli::cli;
use crate::eviction::{MIB, fetch, fixtures, stored, upstream_of};
use crate::uploads;
use crate::uploads_last::brought;

fn narinfo_file(cluster: &Cluster, fixture: &Fixture) -> std::path::PathBuf {
    cluster.store_dir().join(fixture.narinfo_path().trim_start_matches('/'))
}

both_modes! {
    async fn who_reads_what_is_purged_reads_on_and_it_is_fetched_anew(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures = fixtures(&key, 2, 6 * MIB);
        let upstream = upstream_of(&fixtures).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in &fixtures {
            fetch(&cluster, fixture).await;
        }
        let mut readers = Vec::new();
        for _ in 0..5 {
            let mut reading = cluster.get(&fixtures[0].nar_path()).await;
            let head = reading.bytes(1000).await.expect("it has begun");
            readers.push((reading, head));
        }
        let cli = cli(&cluster);
        let report = cli.json(&["purge", "--yes", &fixtures[0].hash_part()]).await;
        assert_eq!((&report["count"], &report["files"]), (&1.into(), &1.into()), "{report}");
        assert!(report["bytes"].as_u64() >= Some(6 * MIB), "{report}");
        assert_eq!(stored(&cluster, &fixtures), [1], "gone when it is answered");
        assert!(!narinfo_file(&cluster, &fixtures[0]).exists());
        let by = format!("purged: by uid {}", rustix::process::getuid().as_raw());
        let why = cli.json(&["paths", "why", &fixtures[0].hash_part()]).await;
        assert_eq!((&why["state"], &why["because"]), (&"gone".into(), &by.as_str().into()), "{why}");
        let text = cli.ok(&["paths", "why", &fixtures[0].hash_part()]).await;
        assert!(text.starts_with(&format!("{}\ngone: {by}\n", fixtures[0].hash_part())), "{text}");
        for (mut reading, head) in readers {
            assert!([head, reading.whole().await].concat() == fixtures[0].file.to_bytes(), "other bytes");
        }
        let asked = upstream.count("GET", &fixtures[0].narinfo_path());
        fetch(&cluster, &fixtures[0]).await;
        assert_eq!(upstream.count("GET", &fixtures[0].narinfo_path()), asked + 1, "not near, not in the index");
        assert_eq!(stored(&cluster, &fixtures), [0, 1]);
        let why = cli.json(&["paths", "why", &fixtures[0].hash_part()]).await;
        assert_eq!((&why["state"], &why["because"]), (&"stored".into(), &"its NAR is held by edge".into()), "{why}");
        assert!(cli.ok(&["events", "--audit"]).await.contains("purged"));
        cluster.end().await;
    }

    async fn what_is_on_its_way_is_served_and_not_kept(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("coming").size(MIB).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        cluster.narinfo(&fixture).await;
        let gate = Gate::new();
        let pause = upstream.script(Rule::on(&fixture.nar_path()).pause_at(MIB / 2, &gate));
        let mut reading = cluster.get(&fixture.nar_path()).await;
        let head = reading.bytes(1000).await.expect("it has begun");
        cli(&cluster).ok(&["purge", "--yes", &fixture.hash_part()]).await;
        gate.open();
        assert!([head, reading.whole().await].concat() == fixture.file.to_bytes(), "other bytes");
        cluster.quiet().await;
        assert_eq!(cluster.stored_files(), [""; 0], "it was purged");
        pause.remove();
        fetch(&cluster, &fixture).await;
        assert!(cluster.stores(&fixture.nar_path()), "who asks again has it fetched and kept");
        cluster.end().await;
    }

    async fn each_selector_chooses_and_bad_input_changes_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let named = |name: &str, seed| Fixture::new(name).seed(seed).size(1000).build(&key);
        let all = [named("hello-1.0", 1), named("hello-2.0", 2), named("world-1.0", 3), named("other-1.0", 4)];
        let upstream = upstream_of(&all).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        for fixture in &all {
            fetch(&cluster, fixture).await;
        }
        let cli = cli(&cluster);
        let path = |n: usize| all[n].narinfo.store_path.absolute();
        for (bad, said) in [
            (&["purge", "--yes", "--name=nothing-*"][..], "nothing in the index fits"),
            (&["purge", "--yes", "eeee"], "without e, o, t and u"),
            (&["purge", "--yes", "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c", &path(0)], "is not in the index"),
            (&["purge", "--yes", "--older-than=30"], "expected a duration"),
            (&["purge", "--yes", "--upstream=http://elsewhere.test"], "nothing in the index fits"),
            (&["purge", "--yes", "--older-than=30d"], "nothing in the index fits"),
            (&["purge", "--yes"], "say what is to be purged"),
            (&["purge", &path(0)], "--yes"),
        ] {
            let ran = cli.run(bad).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
            assert!(ran.said.contains(said), "{bad:?}: {ran:?}");
        }
        let foreseen = cli.json(&["purge", "--dry-run", "--name=*-1.0"]).await;
        assert_eq!(foreseen["count"], 3, "{foreseen}");
        assert!(cli.ok(&["purge", "--dry-run", "--name=hello-?.0"]).await.contains("2 paths would be purged"));
        assert_eq!(stored(&cluster, &all), [0, 1, 2, 3], "nothing was changed");

        cli.ok(&["pin", "add", &path(3)]).await;
        let ran = cli.run(&["purge", "--yes", &path(3)]).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.said.contains("is pinned"), "{ran:?}");
        cli.ok(&["purge", "--yes", "--name=hello-*", "--older-than=0s"]).await;
        assert_eq!(stored(&cluster, &all), [2, 3]);
        let report = cli.json(&["purge", "--yes", "--upstream", &upstream.url()]).await;
        assert_eq!((&report["count"], &report["pinned"]), (&1.into(), &1.into()), "{report}");
        assert_eq!(stored(&cluster, &all), [3]);
        cli.ok(&["purge", "--yes", "--force", &all[3].hash_part()]).await;
        assert_eq!(stored(&cluster, &all), [0; 0]);
        cluster.end().await;
    }

    async fn what_nobody_can_give_back_is_named(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (fixtures(&key, 1, 1000), brought(7, 1000));
        let upstream = upstream_of(&fetched).await;
        let cluster = uploads::closed(mode).upstream(&upstream).trust(&key).start().await;
        fetch(&cluster, &fetched[0]).await;
        for fixture in &brought {
            uploads::upload(&cluster, "", fixture).await;
        }
        let cli = cli(&cluster);
        let all = ["purge", "--older-than=0s"];
        let foreseen = cli.json(&[&all[..], &["--dry-run"]].concat()).await;
        let names = |value: &serde_json::Value| -> BTreeSet<String> {
            let names = value.as_array().expect("a list").iter();
            names.map(|path| path.as_str().expect("a path").to_owned()).collect()
        };
        let expected = brought.iter().map(|fixture| fixture.store_path().absolute()).collect();
        assert_eq!(names(&foreseen["uploads"]), expected, "{foreseen}");
        let marked = foreseen["paths"].as_array().expect("a list").iter().filter(|path| path["uploaded"] == true);
        assert_eq!((foreseen["count"].as_u64(), marked.count()), (Some(8), 7), "{foreseen}");
        let said = "7 of them are uploads that nobody can give back";
        let text = cli.ok(&[&all[..], &["--dry-run"]].concat()).await;
        assert!(text.contains(said) && text.contains("and 2 more"), "{text}");
        let done = cli.run(&[&all[..], &["--yes"]].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.printed.contains("8 paths purged") && done.printed.contains(said), "{done:?}");
        assert!(done.said.contains("purge: 0 of 8"), "{done:?}");
        assert_eq!((stored(&cluster, &fetched), stored(&cluster, &brought)), (vec![], vec![]));
        cluster.end().await;
    }

    async fn an_absence_is_forgotten(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("late").build(&key);
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        assert_eq!(cluster.get(&fixture.narinfo_path()).await.status, 404);
        upstream.add(&fixture);
        assert_eq!(cluster.get(&fixture.narinfo_path()).await.status, 404, "it is believed for a while");
        let report = cli(&cluster).json(&["purge", "--yes", &fixture.hash_part()]).await;
        assert_eq!((&report["count"], &report["absences"]), (&0.into(), &1.into()));
        cluster.narinfo(&fixture).await;
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_cut_off_drops_what_was_purged_when_it_is_back() {
    let key = UpstreamKey::new("upstream-1");
    let fixtures = fixtures(&key, 2, MIB);
    let upstream = upstream_of(&fixtures).await;
    let cluster = Cluster::of(Mode::Split, &upstream, &key).await;
    for fixture in &fixtures {
        fetch(&cluster, fixture).await;
    }
    let link = cluster.link.as_ref().expect("split");
    link.refuse().await;
    cli(&cluster).ok(&["purge", "--yes", &fixtures[0].hash_part()]).await;
    assert_eq!(stored(&cluster, &fixtures), [0, 1], "it can't know");
    let (status, body) = cluster.fetch(&fixtures[0].nar_path()).await;
    assert_eq!(status, 200, "what it has, it serves");
    assert!(body.whole() == fixtures[0].file.to_bytes(), "other bytes");
    link.mend().await;
    eventually("it is dropped", async || {
        stored(&cluster, &fixtures) == [1] && !narinfo_file(&cluster, &fixtures[0]).exists()
    })
    .await;
    assert!(narinfo_file(&cluster, &fixtures[1]).exists(), "only that");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_it_says_what_would_go_and_asks() {
    let cluster = uploads::closed(Mode::Split).start().await;
    let brought = brought(1, 1000);
    uploads::upload(&cluster, "", &brought[0]).await;
    let (cli, path) = (cli(&cluster), brought[0].store_path().absolute());
    for no in ["n\n", "\n", "no\n"] {
        let Some(ran) = cli.on_a_terminal(&["purge", &path], no).await else { return };
        assert_eq!(ran.code, 2, "{no:?}: {ran:?}");
        for said in ["1 paths would be purged", "1 of them is an upload", "[y/N]", "nothing was purged"] {
            assert!(ran.printed.contains(said), "{said}: {ran:?}");
        }
    }
    assert_eq!(stored(&cluster, &brought), [0], "nothing was changed");
    let ran = cli.on_a_terminal(&["purge", &path], "y\n").await.expect("it could before");
    assert!(ran.code == 0 && ran.printed.contains("1 paths purged"), "{ran:?}");
    assert_eq!(stored(&cluster, &brought), [0; 0]);

    let reads = ["token", "create", "reader", "--scope=read"];
    let ran = cli.on_a_terminal(&reads, "n\n").await.expect("it could before");
    assert!(ran.code == 2 && ran.printed.contains("Nothing was changed"), "{ran:?}");
    assert_eq!(cli.json(&["token", "list"]).await.as_array().map(Vec::len), Some(0));
    let ran = cli.on_a_terminal(&reads, "yes\n").await.expect("it could before");
    assert!(ran.code == 0 && ran.printed.contains("ncps_"), "{ran:?}");
    cluster.end().await;
}
