//! An ncps of ours behind an ncps of ours: cold, without the far one, cut in between, with wrong bytes at the end of
//! the chain, and beside upstreams that are no help. The near one knows the far one's key alone.

use ncps_nix::Compression;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{Cluster, Cut, Fixture, Gate, Link, Mode, Outcome, Rule, Upstream, UpstreamKey, both_modes};

use crate::zoo_mixed::{Others, hedging};
use crate::zoo_scene::{is_absent, is_headed, is_served, is_told};

/// How the far one's key is named.
const FAR: &str = "cache.test";

/// An upstream, an ncps, a link, an ncps.
struct Chain {
    upstream: Upstream,
    key: UpstreamKey,
    far: Cluster,
    link: Link,
    near: Cluster,
}

impl Chain {
    async fn new(mode: Mode) -> Chain {
        Self::with(mode, |near, far| near.upstream_url(far)).await
    }

    /// The near one gets its upstreams by what knows the far one's URL.
    async fn with(mode: Mode, upstreams: impl FnOnce(ClusterBuilder, &str) -> ClusterBuilder) -> Chain {
        let (upstream, key) = (Upstream::start().await, UpstreamKey::new("upstream-1"));
        let far = Cluster::of(mode, &upstream, &key).await;
        let link = Link::tcp(far.addr).await;
        let theirs = far.public_key().await;
        let near = upstreams(Cluster::builder(mode), &format!("http://{}", link.addr()));
        let near = near.settings(|settings| {
            settings.hostname = "near.test".to_owned();
            settings.trusted_keys.push(theirs);
        });
        Chain { upstream, key, far, link, near: near.start().await }
    }

    fn has(&self, size: u64, compression: Compression) -> Fixture {
        let name = format!("chain-{compression}");
        let fixture = Fixture::new(&name).size(size).compression(compression).build(&self.key);
        self.upstream.add(&fixture);
        fixture
    }

    async fn end(self) {
        self.near.end().await;
        self.far.end().await;
    }
}

/// Each path twice: cold, and with nothing but what was kept.
async fn is_served_among(others: &Others, chain: Chain) {
    let all = [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2];
    let fixtures = all.map(|compression| chain.has(200_000, compression));
    fixtures.iter().for_each(|fixture| others.lie_about(fixture, FAR));
    for fixture in &fixtures {
        is_served(&chain.near, fixture).await;
        assert_eq!(is_told(&chain.near, fixture).await.signatures.len(), 3);
    }
    is_served_without_it(chain, &fixtures).await;
}

/// The far one fetched each once, and is needed no more.
async fn is_served_without_it(chain: Chain, fixtures: &[Fixture]) {
    chain.far.quiet().await;
    assert_eq!(chain.upstream.count("GET", "/nar/"), fixtures.len(), "each was fetched once");
    chain.link.refuse().await;
    chain.near.edge.lookups.near.clear();
    for fixture in fixtures {
        is_served(&chain.near, fixture).await;
    }
    chain.end().await;
}

both_modes! {
    async fn is_found_behind_others_that_are_no_help(mode) {
        let others = Others::new().await;
        let among = |near: ClusterBuilder, far: &str| others.join(near.settings(hedging)).upstream_url(far);
        is_served_among(&others, Chain::with(mode, among).await).await;
        assert!(others.lies() > 0, "the liar was asked");
    }

    async fn is_found_before_others_that_are_no_help(mode) {
        let others = Others::new().await;
        let among = |near: ClusterBuilder, far: &str| others.join(near.settings(hedging).upstream_url(far));
        is_served_among(&others, Chain::with(mode, among).await).await;
    }

    async fn is_served_cold_and_without_it(mode) {
        let chain = Chain::new(mode).await;
        let all = [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2];
        let fixtures = all.map(|compression| chain.has(200_000, compression));
        is_absent(&chain.near).await;
        is_headed(&chain.near, &fixtures[0]).await;
        for fixture in &fixtures {
            is_served(&chain.near, fixture).await;
            let narinfo = is_told(&chain.near, fixture).await;
            assert_eq!(narinfo.signatures.len(), 3, "the upstream's, the far one's, the near one's");
        }
        is_served_without_it(chain, &fixtures).await;
    }

    async fn a_cut_between_them_is_mended(mode) {
        let chain = Chain::new(mode).await;
        let fixture = chain.has(300_000, Compression::Xz);
        is_told(&chain.near, &fixture).await;
        let gate = Gate::new();
        chain.upstream.script(Rule::on("/nar/*").pause_at(150_000, &gate));
        let mut response = chain.near.get(&fixture.nar_path()).await;
        response.bytes(100_000).await.expect("it has begun");
        chain.link.cut();
        gate.open();
        let rest = response.outcome().await.whole();
        assert!(rest == fixture.file.to_bytes().slice(100_000..), "the rest of it");
        assert_eq!(chain.upstream.count("GET", "/nar/"), 1, "the far one went on");
        chain.near.quiet().await;
        is_served(&chain.near, &fixture).await;
        chain.end().await;
    }

    async fn a_cut_before_them_is_not_seen(mode) {
        let chain = Chain::new(mode).await;
        let fixture = chain.has(300_000, Compression::Zstd);
        chain.upstream.script(Rule::on("/nar/*").times(1).cut_after(150_000, Cut::Rst));
        is_served(&chain.near, &fixture).await;
        assert_eq!(chain.upstream.count("GET", "/nar/"), 2);
        chain.end().await;
    }

    async fn wrong_bytes_never_come_through(mode) {
        let chain = Chain::new(mode).await;
        let fixture = chain.has(300_000, Compression::Xz);
        is_told(&chain.near, &fixture).await;
        chain.upstream.script(Rule::on("/nar/*").flip(150_000));
        let request = ncps_tests::Request::get(&fixture.nar_path()).send(chain.near.addr).await;
        if let Ok(mut response) = request {
            let whole = matches!(response.outcome().await, Outcome::Whole(_));
            assert!(response.status != 200 || !whole, "what is wrong looks whole");
        }
        for cluster in [&chain.near, &chain.far] {
            cluster.quiet().await;
            assert!(!cluster.stores(&fixture.nar_path()));
        }
        chain.end().await;
    }
}
