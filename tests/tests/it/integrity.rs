//! What lies in the store and is wrong: found, fetched again, and never passed off as right.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ncps_nix::Compression;
use ncps_proto::Code;
use ncps_proto::admin::ScrubOrder;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{
    Cluster, Fixture, Mode, Upstream, UpstreamKey, both_modes, eventually, eventually_some, in_time,
};
use serde_json::json;

use crate::cli::cli;
use crate::scene::{is_served, plain};

/// Slow enough that it never ends by itself.
const CRAWL: u64 = 1;

/// A cluster that scrubs again and again, and an upstream.
fn scrubbing(mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> ClusterBuilder {
    Cluster::builder(mode).upstream(upstream).trust(key).scrub_schedule("@every 1s")
}

/// A cluster that has a path, scrubbing, and what gave it.
async fn stored(mode: Mode, fixture: Fixture, key: &UpstreamKey) -> (Cluster, Upstream, Fixture) {
    let upstream = Upstream::with(&[&fixture]).await;
    let cluster = scrubbing(mode, &upstream, key).start().await;
    cluster.narinfo(&fixture).await;
    is_served(&cluster, &fixture).await;
    narinfo_file_is(&cluster, &fixture, true).await;
    (cluster, upstream, fixture)
}

fn nar_file(cluster: &Cluster, fixture: &Fixture) -> PathBuf {
    cluster.store_dir().join(fixture.canonical_nar_path().trim_start_matches('/'))
}

fn quarantined(cluster: &Cluster, fixture: &Fixture) -> bool {
    let name = nar_file(cluster, fixture);
    let name = name.file_name().expect("it has a name");
    cluster.store_dir().with_file_name("quarantine").join(name).exists()
}

fn flip(cluster: &Cluster, fixture: &Fixture) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(nar_file(cluster, fixture))
        .expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5_000).expect("read");
    file.write_all_at(&[byte[0] ^ 1], 5_000).expect("written");
    file.sync_all().expect("synced");
}

fn is_right(cluster: &Cluster, fixture: &Fixture) -> bool {
    std::fs::read(nar_file(cluster, fixture)).is_ok_and(|bytes| bytes == fixture.file.to_bytes())
}

async fn narinfo_file_is(cluster: &Cluster, fixture: &Fixture, there: bool) {
    let path = cluster.store_dir().join(fixture.narinfo_path().trim_start_matches('/'));
    eventually("the narinfo file follows its NAR", async || path.exists() == there).await;
}

both_modes! {
    async fn a_flipped_bit_is_found_and_healed_while_readers_go_on(mode) {
        let key = UpstreamKey::new("upstream-1");
        for compression in [Compression::None, Compression::Xz] {
            let fixture = plain(300_000).compression(compression).build(&key);
            let (cluster, upstream, fixture) = stored(mode, fixture, &key).await;
            let mut reader = cluster.get(&fixture.nar_path()).await;
            let begin = reader.bytes(1_000).await.expect("its first bytes");
            flip(&cluster, &fixture);
            eventually("it is healed", async || quarantined(&cluster, &fixture) && is_right(&cluster, &fixture)).await;
            let rest = reader.whole().await;
            assert_eq!(begin.len() + rest.len(), fixture.file.to_bytes().len(), "who reads it goes on");
            is_served(&cluster, &fixture).await;
            narinfo_file_is(&cluster, &fixture, true).await;
            assert_eq!(upstream.count("GET", &fixture.nar_path()), 2, "once at first, once to heal it");
            cluster.end().await;
        }
    }

    async fn a_file_that_no_upstream_has_any_more_is_missing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (cluster, upstream, fixture) = stored(mode, plain(300_000).build(&key), &key).await;
        upstream.remove_fixture(&fixture);
        flip(&cluster, &fixture);
        eventually("it is in quarantine", async || quarantined(&cluster, &fixture)).await;
        let gone = async || cluster.get(&fixture.narinfo_path()).await.status == 404;
        eventually("the path is absent", gone).await;
        assert_eq!(cluster.get(&fixture.nar_path()).await.status, 404);
        narinfo_file_is(&cluster, &fixture, false).await;
        assert!(!cluster.stores(&fixture.canonical_nar_path()));
        cluster.end().await;
    }

    async fn while_the_upstream_is_down_it_is_a_502_and_healed_when_it_is_back(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (cluster, upstream, fixture) = stored(mode, plain(300_000).build(&key), &key).await;
        upstream.down().await;
        flip(&cluster, &fixture);
        eventually("it is in quarantine", async || quarantined(&cluster, &fixture)).await;
        cluster.quiet().await;
        let status = cluster.get(&fixture.nar_path()).await.status;
        assert!([502, 504].contains(&status), "{status}");
        assert_eq!(cluster.get(&fixture.narinfo_path()).await.status, 200, "nobody said that it is absent");
        upstream.up().await;
        eventually("the next scrub heals it", async || is_right(&cluster, &fixture)).await;
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn a_file_that_was_cut_short_is_found_at_the_start(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let builder = || Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder().start().await;
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        let file = nar_file(&cluster, &fixture);
        let data = cluster.end().await;
        let cut = std::fs::File::options().write(true).open(&file).expect("it is there");
        cut.set_len(100_000).expect("cut");
        let cluster = builder().on(data).start().await;
        eventually("it is healed", async || quarantined(&cluster, &fixture) && is_right(&cluster, &fixture)).await;
        cluster.end().await;
    }

    async fn a_job_ends_with_its_session(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(3_000_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).start().await;
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        let order = || ScrubOrder { rate: Some(CRAWL), ..ScrubOrder::default() };
        let mut scrub = cluster.control().begin_scrub(order()).expect("an edge is attached");
        in_time("it is under way", scrub.progress.changed()).await.expect("it runs");
        let second = cluster.control().begin_scrub(order()).expect_err("one runs");
        assert_eq!(second.code(), Code::Overloaded);
        cluster.control().cut_sessions();
        let report = in_time("its end", scrub.report).await.expect("control lives");
        let [edge] = &report[..] else { panic!("one edge: {report:?}") };
        assert!(edge.failure.as_deref().is_some_and(|why| why.contains("session ended")), "{edge:?}");
        // The next session does jobs again.
        let again = eventually_some("the edge is back", async || cluster.control().begin_scrub(ScrubOrder::default()).ok());
        let report = again.await.report.await.expect("control lives");
        assert!(report.iter().all(ncps_proto::admin::EdgeScrub::is_sound), "{report:?}");
        cluster.end().await;
    }

    async fn scrub_and_verify_tell_what_they_found(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (first, second) = (plain(300_000).build(&key), plain(300_000).seed(1).build(&key));
        let upstream = Upstream::with(&[&first, &second]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).start().await;
        for fixture in [&first, &second] {
            cluster.narinfo(fixture).await;
            is_served(&cluster, fixture).await;
        }
        let cli = cli(&cluster);
        let path = format!("/nix/store/{}", first.narinfo.store_path);
        let sound = cli.json(&["verify", &path]).await;
        assert_eq!((&sound["files"][0]["verdict"], &sound["problems"]), (&json!("right"), &json!([])), "{sound}");
        assert_eq!(sound["signed_by"], json!(["cache.test", "upstream-1"]), "{sound}");
        for bad in ["hello", "/nix/store/", "00000000000000000000000000000000"] {
            assert_eq!(cli.run(&["verify", bad]).await.code, 2, "{bad}");
        }

        flip(&cluster, &first);
        let ran = cli.run(&["verify", &path]).await;
        assert!(ran.code == 1 && ran.printed.contains("wrong"), "{ran:?}");
        let healed = cli.json(&["scrub", "--deep", "--rate=0"]).await;
        let edge = &healed["edges"][0];
        assert_eq!((&edge["files"], &edge["wrong"], &edge["healed"]), (&json!(2), &json!(1), &json!(1)), "{healed}");
        assert!(is_right(&cluster, &first) && quarantined(&cluster, &first));
        cli.ok(&["verify", &path]).await;

        upstream.remove_fixture(&second);
        flip(&cluster, &second);
        let ran = cli.run(&["scrub", "--edge=edge"]).await;
        assert!(ran.code == 1 && ran.printed.contains("lost"), "{ran:?}");
        assert_eq!(cluster.get(&second.nar_path()).await.status, 404);
        let size = "expected a whole number and a unit out of B, K, M, G, T, such as 50G";
        for (bad, said) in [
            (&["scrub", "--edge=other"][..], "no edge other is attached"),
            (&["scrub", "--rate=fast"], size),
            (&["scrub", "--rate=50"], size),
        ] {
            let ran = cli.run(bad).await;
            assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
            assert!(ran.said.contains(said), "{bad:?}: {ran:?}");
        }
        cluster.end().await;
    }

    async fn a_nar_without_its_narinfo_file_gets_it_at_the_start(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (bare, gone) = (plain(300_000).build(&key), plain(300_000).seed(1).build(&key));
        let upstream = Upstream::with(&[&bare, &gone]).await;
        let builder = || Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder().start().await;
        for fixture in [&bare, &gone] {
            cluster.narinfo(fixture).await;
            is_served(&cluster, fixture).await;
            narinfo_file_is(&cluster, fixture, true).await;
        }
        let narinfo_file = cluster.store_dir().join(bare.narinfo_path().trim_start_matches('/'));
        let nar = nar_file(&cluster, &gone);
        let data = cluster.end().await;
        // As a process leaves it that was killed between the two.
        std::fs::remove_file(narinfo_file).expect("it was there");
        std::fs::remove_file(nar).expect("it was there");
        let cluster = builder().on(data).start().await;
        narinfo_file_is(&cluster, &bare, true).await;
        narinfo_file_is(&cluster, &gone, false).await;
        cluster.end().await;
    }
}
