//! The audit log: who had what done, also in a database that was restored.

use ncps_tests::{Cli, Cluster, Upstream, UpstreamKey, both_modes};
use serde_json::Value;

use crate::cli::cli;
use crate::scene::{is_served, plain};

/// All of it, oldest first.
async fn audit(cli: &Cli) -> Vec<Value> {
    let lines = cli.clone().flag("--output=json").ok(&["events", "--audit"]).await;
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The command is noted once, as this kind, with what of it and by whom.
async fn is_noted(cli: &Cli, command: &[&str], kind: &str, detail: &str) {
    let before = audit(cli).await.len();
    cli.ok(command).await;
    let noted = audit(cli).await.split_off(before);
    let [entry] = &noted[..] else { panic!("{command:?}: {noted:?}") };
    is_entry(entry, kind, detail);
}

fn is_entry(entry: &Value, kind: &str, detail: &str) {
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    assert_eq!((&entry["kind"], &entry["actor"]), (&kind.into(), &uid.into()), "{entry}");
    assert!(entry["detail"].as_str().is_some_and(|text| text.starts_with(detail)), "{entry}");
}

both_modes! {
    async fn every_command_that_does_something_is_noted_and_a_restore_in_what_is_restored(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(10_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let builder = || Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder().start().await;
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("index.backup").display().to_string();
        let path = fixture.store_path().to_string();
        let commands: [(&[&str], &str, &str); 6] = [
            (&["scrub", "--rate=0", "--edge=edge"], "job-run", "scrub of edge edge"),
            (&["index", "rebuild"], "job-run", "index rebuild"),
            (&["prefetch", &path], "job-run", "prefetch of 1 paths with all that they refer to at edge edge"),
            (&["evict", "--free=1K"], "evicted", "1024 bytes on every edge"),
            (&["backup", &file], "backed-up", ""),
            (&["restore", &file], "restored", "staged for the next start: 1 narinfos of index "),
        ];
        let asked = cli(&cluster);
        for (command, kind, detail) in commands {
            is_noted(&asked, command, kind, detail).await;
        }
        let before = audit(&asked).await;
        asked.ok(&["evict", "--free=1K", "--dry-run"]).await;
        assert_eq!(audit(&asked).await, before, "a dry run changes nothing");

        // The backup knows nothing of its restore, until that took effect.
        let mut cluster = cluster.restart(builder()).await;
        for _ in 0..2 {
            let restored = audit(&cli(&cluster)).await;
            assert_eq!(restored[..5], before[..5]);
            let [entry] = &restored[5..] else { panic!("{restored:?}") };
            is_entry(entry, "restored", "this backup is the database from here on");
            assert_eq!(entry["id"].as_u64(), before[4]["id"].as_u64().map(|id| id + 1), "in its order: {entry}");
            cluster = cluster.restart(builder()).await;
        }
        cluster.end().await;
    }
}
