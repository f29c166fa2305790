//! The real `nix` as a client that uploads: what one machine copies to ncps another one, which trusts our key alone,
//! has from it at once. (PROTOCOL.md §11, lines 59 and 65.)

use std::hash::{BuildHasher, RandomState};

use ncps_nix::{Compression, NarInfo, PublicKey, StorePath};
use ncps_proto::Scope;
use ncps_tests::{
    Balancer, Cluster, ClusterBuilder, Fixture, Link, Mode, Nix, Request, SplitMix, Upstream, UpstreamKey,
    both_modes, eventually,
};

use crate::asking::ask;

const HOST: &str = "127.0.0.1";
/// Copies in each compression that are broken off before one is let through.
const BREAKS: usize = 3;
/// Fewer bytes than what Nix sends of the closure, however it compresses it: most of it is noise.
const ALL: u64 = 800_000;

/// A machine with a closure that nobody vouches for but a stranger.
struct Maker {
    nix: Nix,
    closure: [Fixture; 3],
}

impl Maker {
    /// `None`, and a note, where there is no Nix.
    async fn new() -> Option<Maker> {
        let nix = Nix::find()?;
        let key = UpstreamKey::new("stranger-1");
        let part = |name| Fixture::new(name).size(400_000);
        let data = part("data-1.0").build(&key);
        let library = part("library-1.0").references(&[data.store_path().clone()]).build(&key);
        let both = [library.store_path().clone(), data.store_path().clone()];
        let package = part("package-1.0").compressible().references(&both).build(&key);
        let closure = [package, library, data];
        let elsewhere = Upstream::with(&closure.each_ref()).await;
        nix.trust(&[key.public()]);
        nix.copy_from(&elsewhere.url(), &[closure[0].store_path()]).await.ok();
        Some(Maker { nix, closure })
    }

    fn top(&self) -> &StorePath {
        self.closure[0].store_path()
    }

    /// Another machine has all of it from there, by our signature.
    async fn is_had_from(&self, cluster: &Cluster) {
        self.is_had_at(cluster, &cluster.url()).await;
    }

    async fn is_had_at(&self, cluster: &Cluster, url: &str) {
        let nix = Nix::find().expect("there was one a moment ago");
        nix.login(HOST, "reads");
        let key = ask(cluster, bearing("reads", "/pubkey")).await;
        nix.trust(&[PublicKey::parse(key.text().trim()).expect("a public key")]);
        for fixture in &self.closure {
            nix.verify(url, fixture.store_path()).await.ok();
        }
        nix.copy_from(url, &[self.top()]).await.ok();
        for fixture in &self.closure {
            nix.verify_own(fixture.store_path()).await.ok();
        }
    }
}

fn bearing(password: &str, path: &str) -> Request {
    Request::get(path).header("Authorization", &format!("Bearer {password}"))
}

/// Nobody is admitted who shows no token.
async fn start(mode: Mode) -> Cluster {
    closed(mode).start().await
}

fn closed(mode: Mode) -> ClusterBuilder {
    let builder = Cluster::builder(mode).writable().token("reads", &[Scope::Read]);
    let builder = builder.token("writes", &[Scope::Read, Scope::Write]);
    builder.token("signs", &[Scope::Read, Scope::Write, Scope::Sign])
}

/// Edges, the first of which does not keep its disk, behind a balancer: a NAR comes to one and its narinfo to another.
async fn fleet(edges: usize) -> (Cluster, Balancer) {
    let builder = closed(Mode::Split).edges(edges);
    let cluster = builder.edge_at(0, |config| config.durable = false);
    let cluster =
        (1..edges).fold(cluster, |builder, edge| builder.edge_at(edge, |config| config.durable = true));
    let cluster = cluster.start().await;
    eventually("all are attached", async || cluster.attached().await.len() == edges).await;
    let balancer = Balancer::before(cluster.edges.iter().map(|edge| edge.addr));
    eventually("all get connections", async || balancer.ready() == edges).await;
    (cluster, balancer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_59_what_is_copied_to_a_fleet_is_had_from_each_of_its_edges_at_once() {
    for edges in [2, 3] {
        let Some(maker) = Maker::new().await else { return };
        let (cluster, balancer) = fleet(edges).await;
        maker.nix.login(HOST, "signs");
        let url = format!("http://{}?compression=zstd", balancer.addr());
        maker.nix.copy_to(&url, &[maker.top()]).await.ok();
        assert_eq!(cluster.at(0).stored_files(), [""; 0], "what came there rests elsewhere");
        for edge in &cluster.edges {
            maker.is_had_at(&cluster, &edge.url()).await;
        }
        cluster.end().await;
    }
}

async fn narinfo_of(cluster: &Cluster, fixture: &Fixture) -> NarInfo {
    let told = ask(cluster, bearing("reads", &fixture.narinfo_path())).await;
    assert_eq!(told.status, 200);
    NarInfo::parse(&told.body).expect("what we serve parses strictly")
}

both_modes! {
    async fn line_59_what_one_machine_uploads_another_has_at_once(mode) {
        for (door, compression) in [
            ("", Compression::Xz),
            ("", Compression::Zstd),
            ("", Compression::None),
            ("/upload", Compression::Zstd),
        ] {
            let Some(maker) = Maker::new().await else { return };
            let cluster = start(mode).await;
            maker.nix.login(HOST, "signs");
            let url = format!("{}{door}?compression={compression}", cluster.url());
            maker.nix.copy_to(&url, &[maker.top()]).await.ok();
            maker.is_had_from(&cluster).await;
            assert_eq!(cluster.stored_files().len(), 3);
            cluster.end().await;
        }
    }

    async fn line_65_who_may_not_write_leaves_nothing(mode) {
        let Some(maker) = Maker::new().await else { return };
        let cluster = start(mode).await;
        maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.failed();
        maker.nix.login(HOST, "guessed");
        maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.failed();
        maker.nix.login(HOST, "reads");
        let complaint = maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.failed();
        assert!(complaint.contains("401"), "{complaint}");
        assert_eq!(cluster.stored_files(), [""; 0]);
        // Nobody vouches for what he brings, and he is told so.
        maker.nix.login(HOST, "writes");
        let complaint = maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.failed();
        assert!(complaint.contains("422") && complaint.contains("scope sign"), "{complaint}");
        for fixture in &maker.closure {
            assert_eq!(ask(&cluster, bearing("reads", &fixture.narinfo_path())).await.status, 404);
        }
        maker.nix.login(HOST, "signs");
        maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.ok();
        maker.is_had_from(&cluster).await;
        cluster.end().await;
    }

    async fn a_copy_that_breaks_anywhere_is_repeated_until_all_is_there(mode) {
        let Some(maker) = Maker::new().await else { return };
        maker.nix.login(HOST, "signs");
        // It would go on by itself, and never be seen to fail.
        maker.nix.set("download-attempts", 1);
        let seed = RandomState::new().hash_one(());
        eprintln!("seed {seed}");
        let mut random = SplitMix(seed);
        for compression in [Compression::None, Compression::Xz, Compression::Zstd] {
            let cluster = start(mode).await;
            let link = Link::tcp(cluster.addr).await;
            let url = format!("http://{}?compression={compression}", link.addr());
            let mut broken = 0;
            for _ in 0..BREAKS {
                link.break_after(random.next() % ALL);
                let copied = maker.nix.copy_to(&url, &[maker.top()]).await;
                broken += usize::from(!copied.succeeded());
            }
            assert!(broken > 0, "seed {seed}: no copy in {compression} was broken off");
            link.mend().await;
            maker.nix.copy_to(&url, &[maker.top()]).await.ok();
            maker.is_had_from(&cluster).await;
            let spooled = || cluster.edge.store.spool_files().expect("listed");
            eventually("the spool is empty", async || spooled() == 0).await;
            assert_eq!(cluster.stored_files().len(), 3);
            cluster.end().await;
        }
    }

    async fn another_signature_joins_those_that_are_there(mode) {
        let Some(maker) = Maker::new().await else { return };
        let cluster = start(mode).await;
        maker.nix.login(HOST, "signs");
        maker.nix.copy_to(&cluster.url(), &[maker.top()]).await.ok();
        let before = narinfo_of(&cluster, &maker.closure[0]).await;
        let key = UpstreamKey::new("reviewer-1");
        maker.nix.sign(&cluster.url(), &key, &[maker.top()]).await.ok();
        let after = narinfo_of(&cluster, &maker.closure[0]).await;
        let signed_by = |name: &str| after.signatures.iter().any(|signature| signature.key_name == name);
        assert!(before.signatures.iter().all(|signature| after.signatures.contains(signature)));
        assert!(signed_by("reviewer-1") && signed_by("cache.test"), "{:?}", after.signatures);
        assert_eq!(after.signatures.len(), before.signatures.len() + 1);
        maker.is_had_from(&cluster).await;
        cluster.end().await;
    }
}
