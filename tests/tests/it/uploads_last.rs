//! Uploads are evicted after everything else, since nobody can give them again, and never without their narinfos.

use ncps_nix::Compression;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{ask, get, head};
use crate::cli::cli;
use crate::eviction::{MIB, assert_no_orphans, fetch, fixtures, stored, upstream_of};
use crate::uploads::{closed, put, upload};

pub(crate) fn limited(mode: Mode, upstream: &Upstream, key: &UpstreamKey, limit: u64) -> ClusterBuilder {
    closed(mode).upstream(upstream).trust(key).settings(|settings| settings.max_size = Some(limit))
}

/// What no upstream has.
pub(crate) fn brought(count: u64, size: u64) -> Vec<Fixture> {
    let fixture = |seed| Fixture::new("brought").seed(seed).size(size).compression(Compression::None);
    (100..100 + count).map(|seed| fixture(seed).build_unsigned()).collect()
}

async fn upload_all(cluster: &Cluster, fixtures: &[Fixture]) {
    for fixture in fixtures {
        upload(cluster, "", fixture).await;
        cluster.quiet().await;
    }
}

/// Nothing of a path is here, whoever asks.
async fn is_nowhere(cluster: &Cluster, fixture: &Fixture) {
    for path in [fixture.narinfo_path(), format!("/upload{}", fixture.narinfo_path())] {
        assert_eq!(get(cluster, &path).await.status, 404, "{path}");
        assert_eq!(head(cluster, &path).await.status, 404, "{path}");
    }
}

async fn is_served(cluster: &Cluster, fixture: &Fixture) {
    for prefix in ["", "/upload"] {
        assert_eq!(get(cluster, &format!("{prefix}{}", fixture.narinfo_path())).await.status, 200);
        let nar = get(cluster, &format!("{prefix}{}", fixture.nar_path())).await;
        assert!(nar.status == 200 && nar.body == fixture.file.to_bytes(), "{prefix}");
    }
}

both_modes! {
    async fn what_was_fetched_goes_before_uploads(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (fixtures(&key, 5, MIB), brought(2, MIB));
        let upstream = upstream_of(&fetched).await;
        // Four of them are less than the 90 % of it that an eviction leaves.
        let cluster = limited(mode, &upstream, &key, 4 * MIB + MIB * 3 / 4).start().await;
        upload_all(&cluster, &brought).await;
        for fixture in &fetched {
            fetch(&cluster, fixture).await;
        }
        assert_eq!(stored(&cluster, &brought), [0, 1], "the oldest of all");
        assert_eq!(stored(&cluster, &fetched), [3, 4]);
        // Control learns of them anew from what the edge says to hold.
        let cluster = cluster.restart(limited(mode, &upstream, &key, 3 * MIB + MIB / 2)).await;
        eventually("it is within its new limit", async || stored(&cluster, &fetched) == [4]).await;
        for fixture in &brought {
            is_served(&cluster, fixture).await;
        }
        assert_no_orphans(&cluster.store_dir());
        cluster.end().await;
    }

    async fn where_uploads_alone_are_left_the_oldest_goes_with_its_narinfo(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (fixtures(&key, 1, MIB), brought(4, MIB));
        let upstream = upstream_of(&fetched).await;
        let cluster = limited(mode, &upstream, &key, 3 * MIB + MIB / 2).start().await;
        upload_all(&cluster, &brought[..2]).await;
        fetch(&cluster, &fetched[0]).await;
        // The first one is the oldest no more.
        is_served(&cluster, &brought[0]).await;
        upload_all(&cluster, &brought[2..]).await;
        assert_eq!((stored(&cluster, &fetched), stored(&cluster, &brought)), (vec![], vec![0, 2, 3]));
        let gone = brought[1].narinfo_path();
        eventually("its narinfo is gone", async || get(&cluster, &gone).await.status == 404).await;
        is_nowhere(&cluster, &brought[1]).await;
        for n in [0, 2, 3] {
            is_served(&cluster, &brought[n]).await;
        }
        assert_no_orphans(&cluster.store_dir());
        // It may come back.
        upload(&cluster, "", &brought[1]).await;
        is_served(&cluster, &brought[1]).await;
        cluster.end().await;
    }

    async fn what_a_client_was_told_holds_until_its_narinfo_came(mode) {
        let key = UpstreamKey::new("upstream-1");
        let brought = brought(1, MIB);
        let upstream = upstream_of(&[]).await;
        let cluster = limited(mode, &upstream, &key, 100 * MIB).start().await;
        let (cli, fixture) = (cli(&cluster), &brought[0]);
        let is_stored = || stored(&cluster, &brought) == [0];
        let is_foreseen = async || {
            cluster.edge.accesses.report_now();
            let foreseen = cli.json(&["evict", "--free=50M", "--dry-run"]).await;
            foreseen["edges"][0]["plan"].as_array().is_some_and(|plan| !plan.is_empty())
        };
        // Where the edge keeps what control would have it remove, it says that nothing could be evicted.
        let evict = async || cli.run(&["evict", "--free=50M"]).await.code;
        let told = [
            put(&fixture.nar_path(), fixture.file.clone()),
            put(&fixture.nar_path(), fixture.file.clone()),
            Request::head(&fixture.nar_path()),
            Request::head(&format!("/upload{}", fixture.nar_path())),
        ];
        for told in told {
            let status = ask(&cluster, told).await.status;
            assert!(matches!(status, 200 | 204), "{status}");
            cluster.quiet().await;
            eventually("control would have it go", is_foreseen).await;
            assert_eq!(evict().await, 1);
            assert!(is_stored(), "its narinfo may be on its way");
            let narinfo = ask(&cluster, put(&fixture.narinfo_path(), fixture.narinfo_text())).await;
            assert_eq!(narinfo.status, 204, "{}", narinfo.text());
        }
        eventually("what is whole can go", async || {
            evict().await;
            !is_stored()
        }).await;
        cluster.end().await;
    }

    async fn what_is_evicted_on_demand_is_nowhere_at_once_and_its_history_says_why(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (fixtures(&key, 1, MIB), brought(2, MIB));
        let upstream = upstream_of(&fetched).await;
        let cluster = limited(mode, &upstream, &key, 100 * MIB).start().await;
        upload_all(&cluster, &brought).await;
        fetch(&cluster, &fetched[0]).await;
        for fixture in &brought {
            is_served(&cluster, fixture).await;
        }
        let cli = cli(&cluster);
        cluster.edge.accesses.report_now();
        let foreseen = async || cli.json(&["evict", "--to=1M", "--dry-run"]).await;
        eventually("the edge has said what it holds", async || {
            foreseen().await["edges"][0]["plan"].as_array().is_some_and(|plan| plan.len() >= 2)
        }).await;
        let plan = &foreseen().await["edges"][0]["plan"];
        assert_eq!(plan[0]["paths"][0], fetched[0].store_path().absolute(), "{plan}");
        let first = plan[1]["paths"][0].as_str().expect("a path").to_owned();
        cli.ok(&["evict", "--free=2M"]).await;
        let gone = brought.iter().find(|fixture| fixture.store_path().absolute() == first).expect("one of them");
        is_nowhere(&cluster, gone).await;
        assert_eq!((stored(&cluster, &fetched), stored(&cluster, &brought).len()), (vec![], 1));
        let why = cli.json(&["paths", "why", &first]).await;
        assert_eq!(why["state"], "absent", "its upstream was asked just now: {why}");
        let last = why["history"].as_array().and_then(|history| history.last()).expect("an event");
        assert_eq!(last["kind"], "evicted", "{why}");
        assert!(last["detail"].as_str().expect("text").contains("nobody can give it again"), "{why}");
        cluster.end().await;
    }

    async fn a_nar_that_waits_for_its_narinfo_is_kept(mode) {
        let key = UpstreamKey::new("upstream-1");
        let (fetched, brought) = (fixtures(&key, 2, MIB), brought(2, MIB));
        let upstream = upstream_of(&fetched).await;
        let cluster = limited(mode, &upstream, &key, 3 * MIB + MIB / 2).start().await;
        upload_all(&cluster, &brought[..1]).await;
        let nar = crate::asking::ask(&cluster, put(&brought[1].nar_path(), brought[1].file.clone())).await;
        assert_eq!(nar.status, 204);
        cluster.quiet().await;
        for fixture in &fetched {
            fetch(&cluster, fixture).await;
        }
        assert_eq!(stored(&cluster, &brought), [0, 1], "its narinfo may still come");
        upload(&cluster, "", &brought[1]).await;
        is_served(&cluster, &brought[1]).await;
        cluster.end().await;
    }
}
