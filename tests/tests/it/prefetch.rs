//! `ncps-cli prefetch`: what is fetched before anybody asks for it.

use std::io::Write;
use std::process::Stdio;

use ncps_proto::EdgeSettings;
use ncps_tests::{Cluster, Fixture, Mode, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::cli::cli;

const MISSING: &str = "/nix/store/00000000000000000000000000000000-nowhere";

/// A closure of ten, each of which needs the two after it, and one path that nobody needs.
struct Scene {
    cluster: Cluster,
    upstream: Upstream,
    closure: Vec<Fixture>,
    alone: Fixture,
}

async fn scene(mode: Mode) -> Scene {
    scene_of(mode, |_| {}).await
}

/// The same with other settings.
async fn scene_of(mode: Mode, change: impl FnOnce(&mut EdgeSettings)) -> Scene {
    let key = UpstreamKey::new("upstream-1");
    let mut closure: Vec<Fixture> = Vec::new();
    for seed in 0..10 {
        let needed: Vec<_> =
            closure.iter().rev().take(2).map(|fixture| fixture.narinfo.store_path.clone()).collect();
        closure.push(Fixture::new("closure").seed(seed).size(20_000).references(&needed).build(&key));
    }
    closure.reverse();
    let alone = Fixture::new("alone").size(20_000).build(&key);
    let upstream = Upstream::with(&closure.iter().chain([&alone]).collect::<Vec<_>>()).await;
    let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).settings(change).start().await;
    Scene { cluster, upstream, closure, alone }
}

impl Scene {
    fn stored(&self) -> usize {
        let stored = |fixture: &&Fixture| self.cluster.stores(&fixture.canonical_nar_path());
        self.closure.iter().filter(stored).count()
    }
}

both_modes! {
    async fn a_closure_is_here_before_anybody_asks(mode) {
        let scene = scene(mode).await;
        let (cli, root) = (cli(&scene.cluster), scene.closure[0].store_path());
        let report = cli.json(&["prefetch", &root.to_string()]).await;
        assert_eq!((&report["fetched"], &report["here"], &report["absent"]), (&10.into(), &0.into(), &0.into()));
        let bytes: u64 = scene.closure.iter().map(|fixture| fixture.file.len()).sum();
        assert_eq!(report["fetched_bytes"], bytes);
        assert_eq!(scene.stored(), 10);
        assert_eq!(scene.upstream.count("GET", &scene.alone.nar_path()), 0);
        // Again it finds it done, with the upstream gone, and so do clients.
        scene.upstream.down().await;
        let report = cli.json(&["prefetch", &root.to_string()]).await;
        assert_eq!((&report["fetched"], &report["here"]), (&0.into(), &10.into()));
        for fixture in &scene.closure {
            scene.cluster.narinfo(fixture).await;
            let (status, body) = scene.cluster.fetch(&fixture.canonical_nar_path()).await;
            assert!(status == 200 && body.whole() == fixture.file.to_bytes());
        }
        scene.cluster.end().await;
    }

    async fn paths_alone_and_from_a_file_or_a_pipe(mode) {
        let scene = scene(mode).await;
        let cli = cli(&scene.cluster);
        let root = scene.closure[0].store_path().to_string();
        let report = cli.json(&["prefetch", "--no-closure", &root]).await;
        assert_eq!((&report["fetched"], scene.stored()), (&1.into(), 1));
        let list = tempfile::NamedTempFile::new().expect("a file");
        let base = scene.alone.narinfo.store_path.to_string();
        std::fs::write(list.path(), format!("# wanted\n\n{base}\n{root}\n")).expect("written");
        let from = format!("--from={}", list.path().display());
        let report = cli.json(&["prefetch", &from, "--no-closure"]).await;
        assert_eq!((&report["fetched"], &report["here"]), (&1.into(), &1.into()));
        let mut piped = cli.command(&["--output=json", "prefetch", "--from=-"]);
        piped.stdin(Stdio::piped()).stdout(Stdio::piped());
        let piped = tokio::task::spawn_blocking(move || {
            let mut child = piped.spawn().expect("it starts");
            child.stdin.take().expect("piped").write_all(format!("{root}\n").as_bytes()).expect("written");
            child.wait_with_output().expect("it ends")
        });
        let output = piped.await.expect("no panic");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&report["fetched"], &report["here"]), (&9.into(), &1.into()));
        scene.cluster.end().await;
    }

    async fn what_nobody_has_is_named_and_keeps_nothing_else_from_coming(mode) {
        let scene = scene(mode).await;
        let cli = cli(&scene.cluster);
        scene.upstream.script(Rule::on(&scene.closure[3].narinfo_path()).status(404));
        let root = scene.closure[0].store_path().to_string();
        let ran = cli.clone().flag("--output=json").run(&["prefetch", &root, MISSING]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let report: serde_json::Value = serde_json::from_str(&ran.printed).expect("JSON");
        assert_eq!((&report["fetched"], &report["absent"], &report["failed"]), (&9.into(), &2.into(), &0.into()));
        for hash in [&scene.closure[3].hash_part(), "00000000000000000000000000000000"] {
            let problems = report["problems"].as_array().expect("a list");
            assert!(problems.iter().any(|p| p["hash"] == hash && p["absent"] == true), "{report}");
            assert!(ran.said.contains(hash), "{}", ran.said);
        }
        scene.cluster.end().await;
    }

    async fn an_outage_is_a_failure_and_the_same_command_helps_after_it(mode) {
        let scene = scene(mode).await;
        let cli = cli(&scene.cluster);
        scene.upstream.down().await;
        let alone = scene.alone.store_path().to_string();
        let ran = cli.clone().flag("--output=json").run(&["prefetch", &alone]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let report: serde_json::Value = serde_json::from_str(&ran.printed).expect("JSON");
        assert_eq!((&report["absent"], &report["failed"]), (&0.into(), &1.into()));
        scene.upstream.up().await;
        let again = async || cli.run(&["prefetch", &alone]).await.code == 0;
        eventually("the path", again).await;
        assert!(scene.cluster.stores(&scene.alone.canonical_nar_path()));
        scene.cluster.end().await;
    }

    async fn it_takes_half_of_the_downloads_and_clients_have_the_rest(mode) {
        let scene = scene_of(mode, |settings| settings.max_downloads = 4).await;
        let Scene { cluster, upstream, closure, alone } = scene;
        let gate = ncps_tests::Gate::new();
        for fixture in &closure {
            upstream.script(Rule::on(&fixture.nar_path()).pause_at(100, &gate));
        }
        let cli = cli(&cluster);
        let paths: Vec<_> = closure.iter().map(|fixture| fixture.store_path().to_string()).collect();
        let command: Vec<_> = ["prefetch", "--no-closure"].into_iter().chain(paths.iter().map(|path| &**path)).collect();
        let begun = || closure.iter().filter(|fixture| upstream.count("GET", &fixture.nar_path()) > 0).count();
        let watch = async {
            eventually("two are in flight", async || begun() == 2).await;
            cluster.narinfo(&alone).await;
            let (status, body) = cluster.fetch(&alone.canonical_nar_path()).await;
            assert!(status == 200 && body.whole() == alone.file.to_bytes(), "a client gets through");
            // Longer than a third one would take to begin.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert_eq!(begun(), 2, "half of the four downloads that there may be");
            gate.open();
        };
        let (report, ()) = tokio::join!(cli.json(&command), watch);
        assert_eq!((&report["fetched"], &report["failed"]), (&10.into(), &0.into()), "{report}");
        cluster.end().await;
    }

    async fn bad_input_changes_nothing(mode) {
        let scene = scene(mode).await;
        let cli = cli(&scene.cluster);
        for (bad, said) in [
            (&["prefetch", "/nix/store/short-name"][..], "HASH-NAME"),
            (&["prefetch", "--edge=nobody", MISSING], "no edge nobody is attached"),
            (&["prefetch", "--from=/no/such/file"], "/no/such/file"),
            (&["prefetch"], "PATH"),
        ] {
            let ran = cli.run(bad).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
            assert!(ran.said.contains(said), "{bad:?}: {}", ran.said);
        }
        assert_eq!(scene.upstream.total(), 0);
        scene.cluster.end().await;
    }

    async fn who_leaves_calls_it_off_and_begins_where_it_was(mode) {
        let scene = scene(mode).await;
        let gate = ncps_tests::Gate::new();
        scene.upstream.script(Rule::on(&scene.closure[9].nar_path()).pause_at(100, &gate));
        let cli = cli(&scene.cluster);
        let root = scene.closure[0].store_path().to_string();
        let mut child = cli.command(&["prefetch", &root]).stderr(Stdio::null()).spawn().expect("it starts");
        gate.reached().await;
        eventually("all the others", async || scene.stored() == 9).await;
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        gate.open();
        // Where the first is not called off, one of its kind runs, and this is refused.
        let again = async || cli.run(&["prefetch", &root]).await.code == 0;
        eventually("another prefetch", again).await;
        assert_eq!(scene.stored(), 10);
        for fixture in &scene.closure {
            assert_eq!(scene.upstream.count("GET", &fixture.nar_path()), 1, "nothing is fetched twice");
        }
        scene.cluster.end().await;
    }
}
