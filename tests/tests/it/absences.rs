//! For how long an absence is believed, and that an outage is none: what a client is told is absent it may
//! believe for an hour.

use std::time::Duration;

use ncps_tests::{Cluster, Fixture, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{get, head};

both_modes! {
    async fn an_absent_path_is_not_asked_for_again_within_its_time(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("late-1.0").build(&key);
        let path = fixture.narinfo_path();
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&first).upstream(&second).trust(&key).start().await;
        assert_eq!(get(&cluster, &path).await.status, 404);
        first.add(&fixture);
        for _ in 0..3 {
            assert_eq!((get(&cluster, &path).await.status, head(&cluster, &path).await.status), (404, 404));
        }
        assert_eq!((first.total(), second.total()), (1, 1), "each was asked once");
        cluster.end().await;
    }

    async fn an_absent_path_appears_when_its_time_is_over(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("late-1.0").build(&key);
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = cluster.negative_ttl(Duration::from_millis(500)).start().await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        upstream.add(&fixture);
        let appears = async || get(&cluster, &fixture.narinfo_path()).await.status == 200;
        eventually("the path appears", appears).await;
        assert_eq!(get(&cluster, &fixture.nar_path()).await.body, fixture.file.to_bytes());
        cluster.end().await;
    }

    async fn an_outage_is_never_remembered_as_an_absence(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("outage-1.0").build(&key);
        let (down, empty) = (Upstream::with(&[&fixture]).await, Upstream::start().await);
        let cluster = Cluster::builder(mode).upstream(&down).upstream(&empty).trust(&key).start().await;
        let outage = down.script(Rule::on("*").status(500));
        let told = get(&cluster, &fixture.narinfo_path()).await;
        assert_eq!(told.status, 502, "the other one's 404 is not enough");
        outage.remove();
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 200, "at once");
        cluster.end().await;
    }

    async fn by_the_switch_an_outage_is_a_404_that_is_not_remembered(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("outage-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = cluster.settings(|settings| settings.absent_on_upstream_failure = true).start().await;
        let outage = upstream.script(Rule::on("*").status(500));
        let told = get(&cluster, &fixture.narinfo_path()).await;
        assert_eq!((told.status, told.text()), (404, "not found\n"));
        outage.remove();
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 200, "at once");
        let malformed = Fixture::new("malformed-1.0").build(&key);
        upstream.put(&malformed.narinfo_path(), "<html>");
        assert_eq!(get(&cluster, &malformed.narinfo_path()).await.status, 404);
        upstream.down().await;
        let another = Fixture::new("another-1.0").build(&key);
        assert_eq!(get(&cluster, &another.narinfo_path()).await.status, 404);
        cluster.end().await;
    }

    async fn without_upstreams_all_is_absent(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let absent = Fixture::new("absent-1.0").build_unsigned();
        assert_eq!(get(&cluster, &absent.narinfo_path()).await.status, 404);
        assert_eq!(get(&cluster, &absent.nar_path()).await.status, 404);
        cluster.end().await;
    }
}
