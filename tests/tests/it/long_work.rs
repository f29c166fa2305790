//! How far long work is, as `ncps-cli` shows it on standard error: lines where nobody looks, a bar on a terminal.

use ncps_tests::{Cli, Cluster, Fixture, Mode, Upstream, UpstreamKey, both_modes};

use crate::cli::cli;
use crate::scene::{is_served, plain};

/// A cluster that has this path.
async fn with_one(mode: Mode) -> (Cluster, Upstream, Fixture) {
    let key = UpstreamKey::new("upstream-1");
    let fixture = plain(300_000).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    let cluster = Cluster::of(mode, &upstream, &key).await;
    cluster.narinfo(&fixture).await;
    is_served(&cluster, &fixture).await;
    (cluster, upstream, fixture)
}

/// A line of it on standard error, and none of it in the answer.
async fn says(cli: &Cli, command: &[&str], line: &str) {
    let ran = cli.run(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.said.lines().any(|said| said.starts_with(line)), "{command:?}: {ran:?}");
    assert!(!ran.printed.contains(line), "{command:?}: {ran:?}");
}

both_modes! {
    async fn off_a_terminal_long_work_says_lines(mode) {
        let (cluster, _upstream, fixture) = with_one(mode).await;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("index.backup").display().to_string();
        let cli = cli(&cluster);
        says(&cli, &["scrub", "--rate=1M"], "scrub: ").await;
        says(&cli, &["index", "rebuild"], "index rebuild: 1").await;
        says(&cli, &["prefetch", &fixture.hash_part()], "prefetch: ").await;
        says(&cli, &["backup", &file], "backup: ").await;
        says(&cli, &["restore", &file], "restore: ").await;
        says(&cli, &["evict", "--free=100K"], "evict: 0 of ").await;
        assert_eq!(cluster.stored_files(), [""; 0], "it was evicted");
        cluster.end().await;
    }

    async fn where_nothing_is_to_go_no_eviction_is_shown(mode) {
        let (cluster, _upstream, _fixture) = with_one(mode).await;
        for command in [&["evict"][..], &["evict", "--free=100K", "--dry-run"]] {
            let ran = cli(&cluster).run(command).await;
            assert_eq!((ran.code, ran.said.as_str()), (0, ""), "{command:?}: {ran:?}");
        }
        cluster.end().await;
    }

    async fn on_a_terminal_a_bar_moves_and_is_gone_at_the_end(mode) {
        let (cluster, _upstream, _fixture) = with_one(mode).await;
        // A second or two, so that it is seen on its way.
        let Some(ran) = cli(&cluster).on_a_terminal(&["scrub", "--rate=200K"], "").await else {
            return drop(cluster.end().await);
        };
        assert_eq!(ran.code, 0, "{ran:?}");
        let bar = ran.printed.find("scrub ").expect("a bar");
        let answer = ran.printed.find("EDGE").expect("its answer after that");
        assert!(bar < answer && ran.printed[..answer].contains("KiB/"), "{ran:?}");
        assert!(!ran.printed[answer..].contains("scrub "), "nothing of it is left: {ran:?}");
        cluster.end().await;
    }
}
