//! The look-ahead: what a client that asks level by level finds near, and what is left alone.

use std::time::Duration;

use ncps_proto::{EdgeSettings, LookAhead};
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, both_modes, eventually};

const LEVELS: usize = 6;

/// Paths of which each refers to the next one, the first first.
struct Scene {
    cluster: Cluster,
    upstream: Upstream,
    chain: Vec<Fixture>,
}

async fn scene(mode: Mode, change: impl FnOnce(&mut EdgeSettings)) -> Scene {
    let key = UpstreamKey::new("upstream-1");
    let mut chain: Vec<Fixture> = Vec::new();
    for seed in 0..LEVELS as u64 {
        let next: Vec<_> = chain.last().map(|next| next.narinfo.store_path.clone()).into_iter().collect();
        chain.push(Fixture::new("chain").seed(seed).size(20_000).references(&next).build(&key));
    }
    chain.reverse();
    let upstream = Upstream::with(&chain.iter().collect::<Vec<_>>()).await;
    let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).settings(change).start().await;
    Scene { cluster, upstream, chain }
}

impl Scene {
    /// Asks for the narinfo of one.
    async fn ask(&self, n: usize) {
        self.cluster.narinfo(&self.chain[n]).await;
    }

    fn looked_up(&self, n: usize) -> usize {
        self.upstream.count("GET", &self.chain[n].narinfo_path())
    }

    fn stored(&self) -> Vec<usize> {
        (0..LEVELS).filter(|n| self.cluster.stores(&self.chain[*n].canonical_nar_path())).collect()
    }

    /// Asks for the narinfos of all, which no upstream is asked for again.
    async fn ask_for_all(&self) {
        for n in 0..LEVELS {
            self.ask(n).await;
        }
    }
}

fn nars(settings: &mut EdgeSettings) {
    settings.look_ahead = LookAhead::Nars;
}

/// Long enough for what does not happen to happen here.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

both_modes! {
    async fn after_two_paths_the_narinfos_of_the_rest_are_near(mode) {
        let scene = scene(mode, |_| {}).await;
        scene.ask(0).await;
        a_moment().await;
        assert_eq!(scene.looked_up(1), 0, "one path is no closure");
        scene.ask(1).await;
        eventually("all are near", async || scene.cluster.edge.lookups.near.len() == LEVELS).await;
        scene.upstream.down().await;
        scene.ask_for_all().await;
        assert!((0..LEVELS).all(|n| scene.looked_up(n) == 1));
        assert_eq!(scene.stored(), [] as [usize; 0], "no NAR is fetched because a narinfo was asked for");
        scene.cluster.end().await;
    }

    async fn paths_that_do_not_know_each_other_are_no_closure(mode) {
        let scene = scene(mode, |_| {}).await;
        scene.ask(0).await;
        scene.ask(2).await;
        scene.ask(4).await;
        a_moment().await;
        assert_eq!([1, 3, 5].map(|n| scene.looked_up(n)), [0, 0, 0]);
        scene.cluster.end().await;
    }

    async fn it_can_be_switched_off(mode) {
        let scene = scene(mode, |settings| settings.look_ahead = LookAhead::Off).await;
        scene.ask(0).await;
        scene.ask(1).await;
        a_moment().await;
        assert_eq!(scene.looked_up(2), 0);
        scene.cluster.end().await;
    }

    async fn what_another_cache_asks_for_is_not_looked_ahead_in(mode) {
        let scene = scene(mode, |_| {}).await;
        for n in 0..2 {
            let request = Request::get(&scene.chain[n].narinfo_path()).header("Via", "1.1 ncps-other");
            assert_eq!(scene.cluster.send(request).await.status, 200);
        }
        a_moment().await;
        assert_eq!(scene.looked_up(2), 0, "it looks ahead itself");
        scene.cluster.end().await;
    }

    async fn who_downloads_one_nar_finds_the_others_that_it_asked_for(mode) {
        let scene = scene(mode, nars).await;
        for n in 0..LEVELS - 1 {
            scene.ask(n).await;
        }
        a_moment().await;
        assert_eq!(scene.stored(), [] as [usize; 0], "nobody downloads yet");
        let leaf = &scene.chain[LEVELS - 2];
        let (status, body) = scene.cluster.fetch(&leaf.canonical_nar_path()).await;
        assert!(status == 200 && body.whole() == leaf.file.to_bytes());
        let asked: Vec<usize> = (0..LEVELS - 1).collect();
        eventually("all that was asked for is here", async || scene.stored() == asked).await;
        assert!(asked.iter().all(|n| scene.upstream.count("GET", &scene.chain[*n].nar_path()) == 1));
        scene.cluster.end().await;
    }

    async fn an_absent_reference_keeps_none_of_the_others_from_coming(mode) {
        let scene = scene(mode, |_| {}).await;
        scene.upstream.remove_fixture(&scene.chain[2]);
        scene.ask(0).await;
        scene.ask(1).await;
        eventually("it was looked for", async || scene.looked_up(2) == 1).await;
        let missing = scene.cluster.get(&scene.chain[2].narinfo_path()).await;
        assert_eq!(missing.status, 404, "as without it");
        scene.cluster.end().await;
    }
}
