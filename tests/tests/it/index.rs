//! The index, lost and restored: who is right, what comes back, and what is not believed. And its copies.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ncps_nix::Compression;
use ncps_proto::admin::{EvictionOrder, Goal};
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, both_modes, eventually};
use serde_json::json;
use tempfile::TempDir;

use crate::asking::ask;
use crate::cli::cli;
use crate::scene::{is_served, plain};
use crate::uploads;

fn database(data: &TempDir, mode: Mode) -> PathBuf {
    let folder = if mode == Mode::Combined { "data" } else { "control" };
    data.path().join(folder).join("db")
}

fn builder(mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> ClusterBuilder {
    Cluster::builder(mode).upstream(upstream).trust(key)
}

async fn store(cluster: &Cluster, fixture: &Fixture) {
    cluster.narinfo(fixture).await;
    is_served(cluster, fixture).await;
    let file = narinfo_file(&cluster.store_dir(), fixture);
    eventually("its narinfo file is there", async || file.exists()).await;
}

fn narinfo_file(store: &Path, fixture: &Fixture) -> PathBuf {
    store.join(fixture.narinfo_path().trim_start_matches('/'))
}

/// As if control had been heard so many seconds before it was.
fn heard_before(state: &Path, seconds: i64) {
    let bytes = std::fs::read(state).expect("read");
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let heard: i64 = String::from_utf8_lossy(&lines[3]).parse().expect("a time");
    lines[3] = (heard - seconds).to_string().into_bytes();
    std::fs::write(state, lines.join(&b'\n')).expect("written");
}

async fn status(cluster: &Cluster, fixture: &Fixture) -> u16 {
    cluster.get(&fixture.narinfo_path()).await.status
}

both_modes! {
    async fn a_lost_index_is_rebuilt_from_what_edges_hold(mode) {
        let key = UpstreamKey::new("upstream-1");
        let ours = plain(300_000).build(&key);
        let forged = plain(1_000).seed(7).build(&UpstreamKey::new("stranger"));
        let upstream = Upstream::with(&[&ours]).await;
        let cluster = builder(mode, &upstream, &key).start().await;
        store(&cluster, &ours).await;
        let store_dir = cluster.store_dir();
        let data = cluster.end().await;

        std::fs::remove_dir_all(database(&data, mode)).expect("the database is lost");
        // Somebody puts a path of his own there, with its NAR.
        std::fs::write(narinfo_file(&store_dir, &forged), forged.narinfo.render()).expect("written");
        let forged_nar = store_dir.join(forged.canonical_nar_path().trim_start_matches('/'));
        std::fs::write(&forged_nar, forged.file.to_bytes()).expect("written");
        upstream.remove_fixture(&ours);

        let cluster = builder(mode, &upstream, &key).negative_ttl(std::time::Duration::from_millis(1)).on(data);
        let cluster = cluster.start().await;
        assert_eq!(status(&cluster, &ours).await, 404, "nobody knows it");
        let told = cli(&cluster).json(&["index", "rebuild"]).await;
        let edge = &told["edges"][0];
        assert_eq!((&edge["adopted"], &edge["refused"]), (&json!(1), &json!(1)), "{told}");
        let narinfo = cluster.narinfo(&ours).await;
        assert_eq!(narinfo.signatures.len(), 2, "the upstream's and ours");
        is_served(&cluster, &ours).await;
        assert_eq!(status(&cluster, &forged).await, 404, "a stranger's signature proves nothing");
        assert!(narinfo_file(&store_dir, &ours).exists() && forged_nar.exists(), "nothing was removed");
        let again = cli(&cluster).json(&["index", "rebuild"]).await;
        assert_eq!((&again["edges"][0]["adopted"], &again["edges"][0]["known"]), (&json!(0), &json!(1)), "{again}");
        cluster.end().await;
    }

    async fn what_no_upstream_signed_is_an_upload_again(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (plain(300_000).build(&key), uploads::fixture(Compression::Zstd));
        let upstream = Upstream::with(&[&fetched]).await;
        let builder = || uploads::closed(mode).upstream(&upstream).trust(&key);
        let cluster = builder().start().await;
        store(&cluster, &fetched).await;
        uploads::upload(&cluster, "", &brought).await;
        let file = narinfo_file(&cluster.store_dir(), &brought);
        eventually("its narinfo file is there", async || file.exists()).await;
        let data = cluster.end().await;
        std::fs::remove_dir_all(database(&data, mode)).expect("the database is lost");
        let cluster = builder().on(data).start().await;
        let cli = cli(&cluster);
        let told = cli.json(&["index", "rebuild"]).await;
        assert_eq!(told["edges"][0]["adopted"], 2, "{told}");
        let listed = cli.json(&["paths", "list", "--uploaded"]).await;
        let paths: Vec<_> = listed.as_array().expect("a list").iter().map(|row| row["path"].as_str()).collect();
        assert_eq!(paths, [Some(brought.store_path().absolute().as_str())]);
        let order = EvictionOrder { goal: Goal::To(0), dry_run: true, ..EvictionOrder::default() };
        let plan = &cluster.control().evict(order).await.expect("planned").edges[0].plan;
        assert_eq!(plan.iter().map(|file| file.uploaded).collect::<Vec<_>>(), [false, true], "it goes last");
        cluster.end().await;
    }

    async fn for_another_index_an_edge_removes_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = builder(mode, &upstream, &key).start().await;
        store(&cluster, &fixture).await;
        let data = cluster.end().await;
        std::fs::remove_dir_all(database(&data, mode)).expect("the database is lost");
        let limited = builder(mode, &upstream, &key).settings(|settings| settings.max_size = Some(4096));
        let cluster = limited.writable().on(data).start().await;
        for path in [fixture.narinfo_path(), fixture.nar_path()] {
            // Ready by what it was told before, which did not let it delete.
            let refused = async || {
                let told = ask(&cluster, Request::delete(&path)).await;
                assert!(matches!(told.status, 405 | 422), "{}", told.status);
                told.text().contains("another index")
            };
            eventually("it refuses to delete for another index", refused).await;
        }
        assert!(narinfo_file(&cluster.store_dir(), &fixture).exists());
        for _ in 0..3 {
            cluster.control().evict(EvictionOrder::default()).await.expect("control lives");
        }
        assert!(cluster.stores(&fixture.canonical_nar_path()), "it belongs to another index");
        cli(&cluster).ok(&["index", "rebuild"]).await;
        let evicted = async || {
            cluster.control().evict(EvictionOrder::default()).await.expect("control lives");
            !cluster.stores(&fixture.canonical_nar_path())
        };
        eventually("it is evicted by the index that it belongs to now", evicted).await;
        cluster.end().await;
    }

    async fn after_more_than_90_days_away_an_edges_narinfo_files_bring_nothing_back(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (known, forgotten) = (plain(300_000).build(&key), plain(1_000).seed(7).build(&key));
        let upstream = Upstream::with(&[&known]).await;
        let cluster = builder(mode, &upstream, &key).start().await;
        store(&cluster, &known).await;
        let store_dir = cluster.store_dir();
        let data = cluster.end().await;

        // What was removed so long ago that nobody remembers it.
        let file = narinfo_file(&store_dir, &forgotten);
        std::fs::write(&file, forgotten.narinfo.render()).expect("written");
        let nar = store_dir.join(forgotten.canonical_nar_path().trim_start_matches('/'));
        std::fs::write(&nar, forgotten.file.to_bytes()).expect("written");
        heard_before(&store_dir.with_file_name("edge.state"), 91 * 24 * 3600);

        let cluster = builder(mode, &upstream, &key).on(data).start().await;
        eventually("its narinfo file is dropped", async || !file.exists()).await;
        let known_file = narinfo_file(&store_dir, &known);
        eventually("control gives what it knows anew", async || known_file.exists()).await;
        assert_eq!(status(&cluster, &forgotten).await, 404);
        is_served(&cluster, &known).await;
        cluster.end().await;
    }

    async fn after_an_old_backup_what_is_newer_is_taken_over(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (old, new) = (plain(300_000).build(&key), plain(300_000).seed(1).build(&key));
        let upstream = Upstream::with(&[&old, &new]).await;
        let cluster = builder(mode, &upstream, &key).start().await;
        store(&cluster, &old).await;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("index.backup");
        let path = file.to_str().expect("UTF-8");
        cli(&cluster).ok(&["pin", "add", &old.hash_part(), "--label=release"]).await;
        cli(&cluster).ok(&["token", "create", "ops", "--scope=admin"]).await;
        cli(&cluster).ok(&["backup", path]).await;
        assert_eq!(cli(&cluster).run(&["backup", path]).await.code, 2, "it is there already");
        cli(&cluster).ok(&["backup", "--force", path]).await;
        store(&cluster, &new).await;
        // What is changed after the backup is not in it.
        cli(&cluster).ok(&["pin", "remove", "release"]).await;
        cli(&cluster).ok(&["token", "revoke", "ops"]).await;
        cli(&cluster).ok(&["token", "create", "later", "--scope=admin"]).await;
        let staged = cli(&cluster).json(&["restore", path]).await;
        assert_eq!(staged["narinfos"], 1, "{staged}");
        assert_eq!(staged["index_id"].as_str(), Some(cluster.control().settings().index_id.as_str()));
        upstream.remove_fixture(&old);
        upstream.remove_fixture(&new);
        let cluster = cluster.restart(builder(mode, &upstream, &key).negative_ttl(std::time::Duration::from_millis(1)));
        let cluster = cluster.await;
        assert_eq!(status(&cluster, &old).await, 200);
        eventually("the newer path is taken over", async || status(&cluster, &new).await == 200).await;
        for fixture in [&old, &new] {
            is_served(&cluster, fixture).await;
        }
        let pins = cli(&cluster).json(&["pin", "list"]).await;
        let pin = (&pins[0]["path"], &pins[0]["label"], pins.as_array().map(Vec::len));
        assert_eq!(pin, (&old.store_path().absolute().into(), &"release".into(), Some(1)), "{pins}");
        let tokens = cli(&cluster).json(&["token", "list"]).await;
        let token = (&tokens[0]["name"], &tokens[0]["revoked_at"], tokens.as_array().map(Vec::len));
        assert_eq!(token, (&"ops".into(), &json!(null), Some(1)), "{tokens}");
        let data = cluster.end().await;
        let kept = std::fs::read_dir(database(&data, mode)).expect("listed");
        let kept = kept.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains(".before-"))
        });
        assert_eq!(kept.count(), 1, "the former database is kept");
    }

    async fn what_is_no_backup_is_refused(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        let good = at("good");
        cli(&cluster).ok(&["backup", good.to_str().expect("UTF-8")]).await;
        let whole = std::fs::read(&good).expect("read");
        let mut flipped = whole.clone();
        // In the middle of a page of a table, and the number that says whose file it is.
        let middle = flipped.len() / 2;
        flipped[middle..middle + 4000.min(whole.len() - middle)].fill(0xff);
        let mut foreign = whole.clone();
        foreign[68..72].fill(0);
        let files = [
            ("empty", Vec::new()),
            ("garbage", b"not a database".repeat(1_000)),
            ("cut", whole[..whole.len() / 2].to_vec()),
            ("flipped", flipped),
            ("foreign", foreign),
        ];
        for (name, bytes) in files {
            std::fs::write(at(name), bytes).expect("written");
            let ran = cli(&cluster).run(&["restore", at(name).to_str().expect("UTF-8")]).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{name}: {ran:?}");
        }
        assert_eq!(cli(&cluster).run(&["restore", "/no/such/file"]).await.code, 2);
        let data = cluster.end().await;
        let left = std::fs::read_dir(database(&data, mode)).expect("listed").map(|entry| {
            entry.expect("listed").file_name().to_string_lossy().into_owned()
        });
        let left: Vec<_> = left.filter(|name| name.contains("restor") || name.contains("backup")).collect();
        assert_eq!(left, [""; 0], "nothing is left of them");
    }

    async fn a_backup_beside_writers_is_consistent(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixtures: Vec<_> = (0..200).map(|seed| plain(100).seed(seed).build(&key)).collect();
        let upstream = Upstream::with(&fixtures.iter().collect::<Vec<_>>()).await;
        let cluster = builder(mode, &upstream, &key).start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let written = AtomicBool::new(false);
        let write = async {
            for fixture in &fixtures {
                cluster.narinfo(fixture).await;
            }
            written.store(true, Ordering::SeqCst);
        };
        let back_up = async {
            let mut sizes = Vec::new();
            while !written.load(Ordering::SeqCst) || sizes.is_empty() {
                let file = folder.path().join(format!("{}", sizes.len()));
                let path = file.to_str().expect("UTF-8");
                cli(&cluster).ok(&["backup", path]).await;
                // It is checked from end to end.
                let staged = cli(&cluster).json(&["restore", path]).await;
                sizes.push(staged["narinfos"].as_u64().expect("a number"));
            }
            sizes
        };
        let ((), sizes) = tokio::join!(write, back_up);
        assert!(sizes.is_sorted() && *sizes.last().expect("one at least") <= 200, "{sizes:?}");
        cluster.end().await;
    }
}
