//! What tests with kinds of caches have in common: paths as a kind has them, and what it means that one is served
//! right, whatever it is called and however it is compressed on the way.

use ncps_nix::{Compression, NarInfo, PublicKey};
use ncps_tests::zoo::{Kind, Pen};
use ncps_tests::{Cluster, Fixture, Mode, Outcome, Request, UpstreamKey, decode};

use crate::asking::get;

/// A cluster that knows one cache of some kind.
pub(crate) struct Scene {
    pub(crate) pen: Pen,
    pub(crate) cluster: Cluster,
    pub(crate) key: UpstreamKey,
}

impl Scene {
    pub(crate) async fn new(mode: Mode, kind: Kind) -> Scene {
        let (pen, key) = (kind.with(&[]).await, UpstreamKey::new("zoo-1"));
        let cluster = Cluster::builder(mode).pen(&pen).trust(&key).start().await;
        Scene { pen, cluster, key }
    }

    /// A path that the cache has, of about this many bytes, the `nth` of its kind.
    pub(crate) fn has(&self, size: u64, nth: usize) -> Fixture {
        let fixture = part(&self.pen.kind, size, nth, &self.key);
        self.pen.add(&fixture);
        fixture
    }
}

/// A path of about this many bytes as a kind has it.
pub(crate) fn part(kind: &Kind, size: u64, nth: usize, key: &UpstreamKey) -> Fixture {
    kind.fixture(Fixture::new("part-1.0").size(size).seed(nth as u64), nth, key)
}

/// Two paths and, before them, one that refers to both, listed in the wrong order, and to itself.
pub(crate) fn closure(kind: &Kind, key: &UpstreamKey) -> Vec<Fixture> {
    let name = |part: &str| format!("{part}-of-{}", kind.name.replace([' ', '/'], "-"));
    let part = |named: &str, size, nth| kind.fixture(Fixture::new(&name(named)).size(size), nth, key);
    let (first, second) = (part("first", 150_000, 0), part("second", 100, 1));
    let top = Fixture::new(&name("top")).size(100_000).deriver(first.store_path().clone());
    let mut references = vec![first.store_path().clone(), second.store_path().clone(), top.store_path()];
    references.sort_unstable_by(|a, b| b.cmp(a));
    let top = kind.fixture(top.references(&references), 2, key);
    vec![top, first, second]
}

/// The narinfo says of the path what its maker said, and we have signed it.
pub(crate) async fn is_told(cluster: &Cluster, fixture: &Fixture) -> NarInfo {
    let served = cluster.narinfo(fixture).await;
    let said = &fixture.narinfo;
    assert_eq!((&served.store_path, served.nar_hash), (&said.store_path, said.nar_hash));
    assert_eq!((served.nar_size, &served.deriver), (said.nar_size, &said.deriver));
    assert_eq!(served.fingerprint(), said.fingerprint(), "references and all");
    let signed = |key: &PublicKey| served.signatures.iter().any(|sig| key.verify(&said.fingerprint(), sig));
    assert!(signed(&cluster.public_key().await), "our signature is valid");
    assert!(said.signatures.iter().all(|sig| served.signatures.contains(sig)), "theirs are kept");
    served
}

/// A NAR file as it came.
pub(crate) enum Came {
    /// To its end, and then it is right.
    Whole,
    /// Broken off, or refused before the first byte with this status.
    Failed(Option<u16>),
}

/// Asks for the NAR file that a narinfo of ours names. What looks complete is right.
pub(crate) async fn fetch(cluster: &Cluster, narinfo: &NarInfo, fixture: &Fixture) -> Came {
    let request = Request::get(&format!("/{}", narinfo.url));
    // Broken off before its head was on the way: seen as well as any other end.
    let Ok(mut response) = request.send(cluster.addr).await else { return Came::Failed(None) };
    match (response.status, response.outcome().await) {
        (200, Outcome::Whole(file)) => {
            is_the_file(narinfo, &file, fixture);
            Came::Whole
        }
        (200, Outcome::Truncated(_)) => Came::Failed(None),
        (status, _) => Came::Failed(Some(status)),
    }
}

fn is_the_file(narinfo: &NarInfo, file: &[u8], fixture: &Fixture) {
    let url = &narinfo.url;
    let nar = decode(narinfo.compression, file).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert!(nar == fixture.nar.to_bytes(), "the bytes of {url}");
    assert!(narinfo.file_size.is_none_or(|size| size == file.len() as u64), "the length of {url}");
    let hash = ncps_nix::Sha256Hash::of(file);
    assert!(narinfo.file_hash.is_none_or(|said| said.0 == hash), "the hash of {url}");
    assert!(narinfo.compression != Compression::None || url.ends_with(".nar"), "{url}");
}

/// Narinfo and NAR are served, and right.
pub(crate) async fn is_served(cluster: &Cluster, fixture: &Fixture) {
    let narinfo = is_told(cluster, fixture).await;
    match fetch(cluster, &narinfo, fixture).await {
        Came::Whole => cluster.quiet().await,
        Came::Failed(status) => panic!("{} failed: {status:?}", narinfo.url),
    }
}

/// The NAR file is there, and nobody has to send it to know.
pub(crate) async fn is_headed(cluster: &Cluster, fixture: &Fixture) {
    let url = format!("/{}", is_told(cluster, fixture).await.url);
    let head = cluster.send(Request::head(&url)).await;
    assert_eq!(head.status, 200, "{url}");
    is_served(cluster, fixture).await;
}

/// A path that nobody has.
pub(crate) async fn is_absent(cluster: &Cluster) {
    let absent = Fixture::new("absent-1.0").build_unsigned();
    assert_eq!(get(cluster, &absent.narinfo_path()).await.status, 404);
}
