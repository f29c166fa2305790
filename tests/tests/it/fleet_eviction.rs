//! Eviction in a fleet: each edge has its own limit, and a copy that another one holds, too, goes before the last one.

use ncps_tests::{EdgeNode, Fixture, UpstreamKey, eventually};

use crate::eviction::{MIB, fixtures, upstream_of};
use crate::fleet_uploads::{of, start};

async fn fetch(edge: &EdgeNode, fixture: &Fixture) {
    edge.narinfo(fixture).await;
    let (status, body) = edge.fetch(&fixture.nar_path()).await;
    assert!(status == 200 && body.whole() == fixture.file.to_bytes(), "{}", edge.name());
    edge.quiet().await;
}

fn stored(edge: &EdgeNode, fixtures: &[Fixture]) -> Vec<usize> {
    (0..fixtures.len()).filter(|n| edge.stores(&fixtures[*n].nar_path())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_other_edge_has_goes_first_and_never_from_both() {
    let key = UpstreamKey::new("upstream-1");
    let all = fixtures(&key, 9, MIB);
    let upstream = upstream_of(&all).await;
    let builder = of(2, &[0, 1]).upstream(&upstream).trust(&key);
    let cluster = start(builder.settings(|settings| settings.max_size = Some(5 * MIB - MIB / 4))).await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    // 0 is the one that both have, and the one that is read last.
    for n in [1, 2, 3, 0] {
        fetch(one, &all[n]).await;
    }
    for n in [5, 6, 7, 0] {
        fetch(other, &all[n]).await;
    }
    let holders = || cluster.control().holders(name_of(&all[0])).len();
    eventually("control knows of both", async || holders() == 2).await;
    fetch(one, &all[4]).await;
    assert_eq!(stored(one, &all), [1, 2, 3, 4], "what the other one has went");
    fetch(other, &all[8]).await;
    assert_eq!(stored(other, &all), [0, 6, 7, 8], "the last copy is as good as any, and was read last");
    cluster.end().await;
}

fn name_of(fixture: &Fixture) -> ncps_nix::NarFileName {
    ncps_nix::NarFileName::parse(fixture.nar_path().trim_start_matches("/nar/")).expect("a name")
}
