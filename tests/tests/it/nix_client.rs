//! The real `nix` as a client that trusts ncps alone: what it copies, verifies, substitutes and reads from the disk,
//! for a closure in each format that upstreams serve. A machine of its own for each step, so that nothing is known.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ncps_nix::{Compression, PublicKey, StorePath};
use ncps_tests::{Cluster, Cut, Fixture, Mode, Nix, Rule, Upstream, UpstreamKey, both_modes};

/// `nobody`, by the number that it has everywhere.
const NOBODY: u32 = 65534;

/// A package that only a substituter can give, what it refers to, and what that refers to.
struct Closure {
    package: Fixture,
    library: Fixture,
    data: Fixture,
}

impl Closure {
    async fn new(nix: &Nix, compression: Compression, key: &UpstreamKey) -> Closure {
        let part = |name| Fixture::new(name).size(150_000).compression(compression);
        let data = part("data-1.0").build(key);
        let library = part("library-1.0").references(std::slice::from_ref(data.store_path())).build(key);
        let output = nix.unbuildable("package-1.0").await;
        let references = [library.store_path().clone(), data.store_path().clone(), output.clone()];
        let package = part("package-1.0").at(output).references(&references).compressible().build(key);
        Closure { package, library, data }
    }

    fn all(&self) -> [&Fixture; 3] {
        [&self.package, &self.library, &self.data]
    }

    fn top(&self) -> &StorePath {
        self.package.store_path()
    }

    /// All of it is in this machine's store, as its narinfos say.
    async fn came_to(&self, nix: &Nix) {
        for fixture in self.all() {
            nix.verify_own(fixture.store_path()).await.ok();
        }
    }
}

fn machine(trusted: &PublicKey) -> Nix {
    let nix = Nix::find().expect("there was one a moment ago");
    nix.trust(std::slice::from_ref(trusted));
    nix
}

/// Copies, verifies and asks, cold.
async fn is_copied(url: &str, ours: &PublicKey, closure: &Closure) {
    let nix = machine(ours);
    for fixture in closure.all() {
        nix.verify(url, fixture.store_path()).await.ok();
        let info = nix.path_info(url, fixture.store_path()).await.ok();
        assert!(info.contains(&format!("{}:", ours.name())), "no signature of ours in {info}");
        assert!(info.contains(&format!("\"narSize\":{}", fixture.narinfo.nar_size)), "{info}");
    }
    nix.copy_from(url, &[closure.top()]).await.ok();
    closure.came_to(&nix).await;
}

async fn is_realised(url: &str, ours: &PublicKey, closure: &Closure) {
    let nix = machine(ours);
    nix.substituters(&[url]);
    nix.realise(&[closure.top()]).await.ok();
    closure.came_to(&nix).await;
}

async fn is_built(url: &str, ours: &PublicKey, closure: &Closure) {
    let nix = machine(ours);
    nix.substituters(&[url]);
    let built = nix.build_unbuildable("package-1.0").await.ok();
    assert_eq!(built, closure.top().absolute());
    closure.came_to(&nix).await;
}

/// The store directory as a cache without a server.
async fn is_read_from_disk(store: &Path, nix: Nix, closure: &Closure) {
    nix.copy_from_dir(store, &[closure.top()]).await.ok();
    closure.came_to(&nix).await;
}

/// Others may enter the temporary directory of the tests, as they may `/var/lib/ncps`.
fn let_others_in(dir: &Path) {
    std::fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("it is ours");
}

/// The whole life of a closure, from cold to a stopped ncps.
async fn lives(mode: Mode, compression: Compression) {
    let Some(nix) = Nix::find() else { return };
    let key = UpstreamKey::new("upstream-1");
    let closure = Closure::new(&nix, compression, &key).await;
    let upstream = Upstream::with(&closure.all()).await;
    let builder = || Cluster::builder(mode).upstream(&upstream).trust(&key);
    let cluster = builder().start().await;
    let ours = cluster.public_key().await;

    is_copied(&cluster.url(), &ours, &closure).await;
    cluster.quiet().await;
    assert_eq!(upstream.count("GET", "/nar/"), 3, "each NAR was fetched once");

    upstream.down().await;
    is_copied(&cluster.url(), &ours, &closure).await;
    is_realised(&cluster.url(), &ours, &closure).await;
    let cluster = cluster.restart(builder()).await;
    assert_eq!(cluster.public_key().await, ours);
    is_copied(&cluster.url(), &ours, &closure).await;
    is_built(&cluster.url(), &ours, &closure).await;

    let store = cluster.store_dir();
    let data = cluster.end().await;
    is_read_from_disk(&store, machine(&ours), &closure).await;
    if rustix::process::geteuid().is_root() {
        let_others_in(data.path());
        is_read_from_disk(&store, machine(&ours).of_user(NOBODY), &closure).await;
    } else {
        eprintln!("not tried as another user: only root can");
    }
}

both_modes! {
    async fn a_closure_in_xz_lives(mode) {
        lives(mode, Compression::Xz).await;
    }

    async fn a_closure_in_zstd_lives(mode) {
        lives(mode, Compression::Zstd).await;
    }

    async fn a_closure_in_bzip2_lives(mode) {
        lives(mode, Compression::Bzip2).await;
    }

    async fn an_uncompressed_closure_lives(mode) {
        lives(mode, Compression::None).await;
    }

    async fn a_client_that_trusts_another_key_takes_nothing(mode) {
        let Some(nix) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        nix.trust(&[UpstreamKey::new("stranger-1").public()]);
        let complaint = nix.copy_from(&cluster.url(), &[fixture.store_path()]).await.failed();
        assert!(complaint.contains("lacks a valid signature"), "{complaint}");
        cluster.end().await;
    }

    async fn a_client_that_trusts_the_upstream_alone_is_served_too(mode) {
        let Some(nix) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        nix.trust(&[key.public()]);
        nix.copy_from(&cluster.url(), &[fixture.store_path()]).await.ok();
        nix.verify_own(fixture.store_path()).await.ok();
        cluster.end().await;
    }

    async fn a_content_addressed_tree_of_a_real_cache_arrives_as_it_was(mode) {
        let Some(maker) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let tree = maker.add_tree("tree", &[("a", b"one"), ("b/c", b"two")]).await;
        let text = maker.add_text("text", &[&tree]).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        maker.export(dir.path(), Compression::Xz, &key, &[&text]).await;
        let upstream = Upstream::start().await;
        upstream.serve_dir(dir.path());
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let nix = machine(&cluster.public_key().await);
        nix.copy_from(&cluster.url(), &[&text]).await.ok();
        nix.verify_own(&text).await.ok();
        let copied = std::fs::read_to_string(nix.real_path(&tree).join("b/c"));
        assert_eq!(copied.expect("it came with the text"), "two");
        cluster.end().await;
    }

    async fn a_cut_at_the_upstream_is_not_seen_by_nix(mode) {
        let Some(_) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").size(2_000_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        upstream.script(Rule::on("/nar/*").times(1).cut_after(700_000, Cut::Rst));
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let nix = machine(&cluster.public_key().await);
        nix.substituters(&[cluster.url()]);
        nix.realise(&[fixture.store_path()]).await.ok();
        nix.verify_own(fixture.store_path()).await.ok();
        assert_eq!(upstream.count("GET", "/nar/"), 2, "cut, and resumed");
        cluster.end().await;
    }
}
