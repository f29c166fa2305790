//! A narinfo whose NAR is nowhere: it is asked for anew, and replaced or forgotten. Where somebody only failed
//! to say, nothing is doubted.

use ncps_tests::{Fixture, Rule, both_modes};

use crate::asking::get;
use crate::scene::{empty, is_served, known, learn, plain};

both_modes! {
    async fn a_path_that_is_gone_from_upstream_with_its_nar_becomes_absent(mode) {
        let (cluster, [first, second], fixture) = known(mode, plain(1000)).await;
        for upstream in [&first, &second] {
            upstream.remove_fixture(&fixture);
        }
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 200, "nobody has noticed");
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 404);
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 404);
        cluster.end().await;
    }

    async fn a_path_that_has_another_nar_by_now_is_replaced(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let old = plain(1000).build(&key);
        learn(&cluster, std::slice::from_ref(&upstream), &old).await;
        let new = plain(2000).seed(1).at(old.store_path().clone()).build(&key);
        upstream.remove_fixture(&old);
        upstream.add(&new);
        assert_eq!(get(&cluster, &old.nar_path()).await.status, 404);
        assert_eq!(cluster.narinfo(&new).await.nar_hash, new.narinfo.nar_hash);
        is_served(&cluster, &new).await;
        cluster.end().await;
    }

    async fn a_file_that_was_moved_upstream_is_found_in_the_same_request(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(300_000)).await;
        let moved = fixture.changed(|narinfo| narinfo.url = "elsewhere/1".to_owned());
        upstream.remove_fixture(&fixture);
        upstream.add(&moved);
        is_served(&cluster, &fixture).await;
        assert_eq!(format!("/{}", cluster.narinfo(&fixture).await.url), fixture.nar_path());
        assert_eq!(upstream.count("GET", "/elsewhere/1"), 1);
        cluster.end().await;
    }

    async fn a_nar_that_another_upstream_has_raises_no_doubt(mode) {
        let (cluster, [first, second], fixture) = known(mode, plain(300_000)).await;
        first.remove(&fixture.nar_path());
        is_served(&cluster, &fixture).await;
        let asked = [&first, &second].map(|upstream| upstream.count("GET", &fixture.narinfo_path()));
        assert_eq!((asked, second.count("GET", "/nar/")), ([1, 0], 1));
        cluster.end().await;
    }

    async fn an_upstream_that_fails_makes_nothing_absent(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1000)).await;
        // Neither the one that can't say whether it has the NAR (a 500 would earn it a pause),
        let outage = upstream.script(Rule::on("/nar/*").status(400));
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 502);
        outage.remove();
        // nor the one that can't say whether it still has the path.
        upstream.remove(&fixture.nar_path());
        let outage = upstream.script(Rule::on("*.narinfo").status(400));
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 502);
        assert_eq!(outage.hits(), 1, "it was asked");
        cluster.edge.lookups.near.clear();
        cluster.narinfo(&fixture).await;
        outage.remove();
        upstream.add(&fixture);
        is_served(&cluster, &fixture).await;
        cluster.end().await;
    }

    async fn what_is_stored_outlives_its_upstream(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1000)).await;
        is_served(&cluster, &fixture).await;
        upstream.remove_fixture(&fixture);
        cluster.edge.lookups.near.clear();
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        assert_eq!(upstream.total(), 2);
        cluster.end().await;
    }

    async fn a_doubt_of_one_path_leaves_the_others_of_its_nar_alone(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        // Two paths of one content: one file.
        let kept = plain(1000).build(&key);
        let other = Fixture::new("other-2.0").build(&key).store_path().clone();
        let gone = plain(1000).at(other).build(&key);
        assert_eq!(kept.nar_path(), gone.nar_path());
        for fixture in [&kept, &gone] {
            learn(&cluster, std::slice::from_ref(&upstream), fixture).await;
        }
        upstream.remove_fixture(&gone);
        // Its file is at another place now, as the narinfo that is left says.
        let moved = kept.changed(|narinfo| narinfo.url = "elsewhere/1".to_owned());
        upstream.add(&moved);
        is_served(&cluster, &kept).await;
        cluster.narinfo(&kept).await;
        assert_eq!(get(&cluster, &gone.narinfo_path()).await.status, 404);
        cluster.end().await;
    }
}
