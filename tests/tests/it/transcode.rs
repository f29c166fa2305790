//! Transcoding: what came as xz, bzip2 or uncompressed is named as zstd after a while, the same NAR with the same
//! signatures; former names go on; and what was made is made again where it is gone.

use std::time::Duration;

use bytes::Bytes;
use ncps_nix::{Compression, FileHash, NarFileName, NarHash, NarInfo, Sha256Hash};
use ncps_proto::{Code, Commit, ControlPlane, NarFacts, Recipe};
use ncps_tests::scrape::Scrape;
use ncps_tests::{
    Cluster, ClusterBuilder, Fixture, Mode, Nix, Outcome, Request, Upstream, UpstreamKey, both_modes, decode,
    eventually,
};

use crate::asking::get;

const LEVEL: i32 = 3;

struct Scene {
    cluster: Cluster,
    upstream: Upstream,
    key: UpstreamKey,
    fixture: Fixture,
}

fn on(builder: ClusterBuilder) -> ClusterBuilder {
    builder.settings(|settings| settings.recompress = Some(LEVEL))
}

impl Scene {
    async fn new(mode: Mode, compression: Compression) -> Scene {
        Scene::with(mode, compression, on).await
    }

    async fn with(
        mode: Mode,
        compression: Compression,
        how: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("recoded-1.0").size(700_000).compressible().compression(compression);
        let fixture = fixture.build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = how(Cluster::builder(mode).upstream(&upstream).trust(&key)).start().await;
        Scene { cluster, upstream, key, fixture }
    }

    /// The path was downloaded, and what it became is named.
    async fn made(mode: Mode, compression: Compression) -> (Scene, NarInfo) {
        let scene = Scene::new(mode, compression).await;
        scene.download().await;
        let made = scene.named(Compression::Zstd).await;
        (scene, made)
    }

    async fn download(&self) {
        self.cluster.narinfo(&self.fixture).await;
        let came = get(&self.cluster, &self.fixture.nar_path()).await;
        assert!(came.body == self.fixture.file.to_bytes());
    }

    /// The narinfo, once it names a file of this kind.
    async fn named(&self, compression: Compression) -> NarInfo {
        eventually("the narinfo names another file", async || {
            self.cluster.narinfo(&self.fixture).await.compression == compression
        })
        .await;
        self.cluster.quiet().await;
        self.cluster.narinfo(&self.fixture).await
    }

    fn nar(&self) -> Bytes {
        self.fixture.nar.to_bytes()
    }

    fn fetches(&self) -> usize {
        self.upstream.count("GET", "/nar/")
    }

    fn forget(&self, name: NarFileName) {
        self.cluster.edge.store.remove(name).expect("removed");
    }
}

fn path(narinfo: &NarInfo) -> String {
    format!("/{}", narinfo.url)
}

fn file(narinfo: &NarInfo) -> NarFileName {
    NarFileName { hash: narinfo.file_hash.expect("always said"), compression: narinfo.compression }
}

fn source(fixture: &Fixture) -> NarFileName {
    NarFileName { hash: fixture.file_hash(), compression: fixture.narinfo.compression }
}

fn unpacked(file: &[u8]) -> Vec<u8> {
    decode(Compression::Zstd, file).expect("it is zstd")
}

async fn becomes_zstd(mode: Mode, compression: Compression) {
    let scene = Scene::new(mode, compression).await;
    let (cluster, fixture) = (&scene.cluster, &scene.fixture);
    let before = cluster.narinfo(fixture).await;
    scene.download().await;
    let after = scene.named(Compression::Zstd).await;
    assert_eq!(after.fingerprint(), before.fingerprint());
    assert_eq!(after.signatures, before.signatures, "a signature says nothing of the file");
    let came = get(cluster, &path(&after)).await;
    assert_eq!(came.header("Accept-Ranges"), Some("bytes"));
    assert_eq!(after.file_hash, Some(FileHash(Sha256Hash::of(&came.body))));
    assert_eq!(after.file_size, Some(came.body.len() as u64));
    assert!(unpacked(&came.body) == scene.nar(), "another NAR");
    assert!(cluster.stores(&path(&after)));
    let beside = std::fs::read(cluster.store_dir().join(fixture.narinfo_path().trim_start_matches('/')));
    assert_eq!(NarInfo::parse(&beside.expect("it lies beside its NAR")).expect("parses").url, after.url);

    assert!(
        get(cluster, &fixture.canonical_nar_path()).await.body == fixture.file.to_bytes(),
        "by its old name"
    );
    assert_eq!(scene.fetches(), 1);
    scene.cluster.end().await;
}

both_modes! {
    async fn what_came_as_xz_becomes_zstd(mode) {
        becomes_zstd(mode, Compression::Xz).await;
    }

    async fn what_came_as_bzip2_becomes_zstd(mode) {
        becomes_zstd(mode, Compression::Bzip2).await;
    }

    async fn what_came_uncompressed_becomes_zstd(mode) {
        becomes_zstd(mode, Compression::None).await;
    }

    async fn it_can_be_switched_off_and_on(mode) {
        let scene = Scene::with(mode, Compression::Xz, |builder| builder).await;
        scene.download().await;
        scene.cluster.quiet().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(scene.cluster.narinfo(&scene.fixture).await.compression, Compression::Xz);
        scene.cluster.control().change_settings(|settings| settings.recompress = Some(LEVEL));
        eventually("it is transcoded when it is read", async || {
            scene.download().await;
            scene.cluster.narinfo(&scene.fixture).await.compression == Compression::Zstd
        })
        .await;
        scene.cluster.end().await;
    }

    async fn what_does_not_get_smaller_stays_uncompressed(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("noise-1.0").size(300_000).compression(Compression::None).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = on(Cluster::builder(mode).upstream(&upstream).trust(&key)).prometheus().start().await;
        cluster.narinfo(&fixture).await;
        get(&cluster, &fixture.nar_path()).await;
        let ended = async || {
            let edge = Scrape::parse(&cluster.get("/metrics").await.text().await);
            edge.number("ncps_transcoded_files_total", &[("outcome", "no_gain")])
        };
        eventually("it was tried", async || ended().await == 1.0).await;
        get(&cluster, &fixture.nar_path()).await;
        assert_eq!(cluster.narinfo(&fixture).await.compression, Compression::None);
        assert_eq!(cluster.stored_files().len(), 1);
        cluster.end().await;
    }

    async fn what_was_made_and_is_gone_is_made_again_of_what_is_here(mode) {
        let (scene, made) = Scene::made(mode, Compression::Xz).await;
        let first = get(&scene.cluster, &path(&made)).await.body;
        scene.forget(file(&made));
        scene.upstream.down().await;
        let again = get(&scene.cluster, &path(&made)).await;
        assert!(again.body == first, "the same recipe gives the same bytes");
        assert_eq!(again.headers.number("Content-Length"), Some(first.len() as u64));
        scene.cluster.quiet().await;
        assert!(scene.cluster.stores(&path(&made)));
        let request = Request::get(&path(&made)).header("Range", "bytes=1000-");
        assert!(scene.cluster.send(request).await.whole().await == first[1000..]);
        scene.cluster.end().await;
    }

    async fn what_was_made_and_is_gone_with_its_source_is_made_again_of_what_upstream_gives(mode) {
        let (scene, made) = Scene::made(mode, Compression::Xz).await;
        let first = get(&scene.cluster, &path(&made)).await.body;
        for _ in 0..2 {
            scene.forget(file(&made));
            scene.forget(source(&scene.fixture));
            let before = scene.fetches();
            let url = path(&made);
            let (one, two) = tokio::join!(get(&scene.cluster, &url), get(&scene.cluster, &url));
            assert!(one.body == first && two.body == first);
            assert_eq!(scene.fetches(), before + 1, "both share one download");
            scene.cluster.quiet().await;
            assert!(scene.cluster.stores(&path(&made)) && !scene.cluster.stores(&scene.fixture.nar_path()));
        }
        assert_eq!(scene.cluster.narinfo(&scene.fixture).await, made);
        scene.cluster.end().await;
    }

    async fn a_source_that_moved_upstream_is_found(mode) {
        let (scene, made) = Scene::made(mode, Compression::Xz).await;
        scene.forget(file(&made));
        scene.forget(source(&scene.fixture));
        let fixture = &scene.fixture;
        let moved = fixture.changed(|narinfo| narinfo.url = "nar/elsewhere.nar.xz".to_owned());
        scene.upstream.remove(&fixture.nar_path());
        scene.upstream.add(&moved);
        let came = get(&scene.cluster, &path(&made)).await;
        assert!(unpacked(&came.body) == scene.nar());
        scene.cluster.end().await;
    }

    async fn wrong_bytes_of_the_source_are_not_made_into_anything(mode) {
        let (scene, made) = Scene::made(mode, Compression::Xz).await;
        scene.forget(file(&made));
        scene.forget(source(&scene.fixture));
        scene.upstream.script(ncps_tests::Rule::on("/nar/*").flip(20_000));
        let (status, body) = scene.cluster.fetch(&path(&made)).await;
        assert!(status == 502 || matches!(body, Outcome::Truncated(_)), "{status}");
        scene.cluster.quiet().await;
        assert!(!scene.cluster.stores(&path(&made)));
        scene.cluster.end().await;
    }

    async fn a_damaged_file_is_not_transcoded(mode) {
        let scene = Scene::with(mode, Compression::Xz, |builder| builder.prometheus()).await;
        scene.download().await;
        scene.cluster.quiet().await;
        let stored = scene.cluster.store_dir().join(scene.fixture.nar_path().trim_start_matches('/'));
        let mut bytes = std::fs::read(&stored).expect("stored");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&stored, &bytes).expect("damaged");
        scene.cluster.control().change_settings(|settings| settings.recompress = Some(LEVEL));
        eventually("it failed", async || {
            scene.cluster.fetch(&scene.fixture.nar_path()).await;
            let edge = Scrape::parse(&scene.cluster.get("/metrics").await.text().await);
            edge.number("ncps_transcoded_files_total", &[("outcome", "failed")]) > 0.0
        })
        .await;
        assert_eq!(scene.cluster.narinfo(&scene.fixture).await.compression, Compression::Xz);
        assert_eq!(scene.cluster.edge.store.list().expect("listed").len(), 1, "nothing was kept");
        scene.cluster.end().await;
    }

    async fn what_another_encoder_made_is_replaced_and_never_mixed(mode) {
        let scene = Scene::with(mode, Compression::Xz, |builder| builder).await;
        scene.download().await;
        scene.cluster.quiet().await;
        let foreign = foreign(&scene).await;
        let url = format!("/{}", foreign.url());
        assert_eq!(scene.cluster.narinfo(&scene.fixture).await.url, foreign.url());

        let part = Request::get(&url).header("Range", "bytes=1000-");
        assert_eq!(scene.cluster.send(part).await.status, 404, "no part of it can be had any more");
        let whole = get(&scene.cluster, &url).await;
        assert!(unpacked(&whole.body) == scene.nar(), "another NAR");
        assert_eq!(whole.header("Accept-Ranges"), None);
        let etag = whole.header("ETag").expect("it has one of its own");
        assert_ne!(etag, format!("\"{foreign}\""));
        assert!(etag.bytes().all(|byte| byte.is_ascii_graphic()), "RFC 9110 allows nothing else in {etag}");

        let now = scene.named(Compression::Zstd).await;
        assert_eq!(now.file_hash, Some(FileHash(Sha256Hash::of(&whole.body))), "it is named from now on");
        assert!(get(&scene.cluster, &path(&now)).await.body == whole.body);
        let again = get(&scene.cluster, &url).await;
        assert!(again.body == whole.body && again.header("Accept-Ranges").is_none());
        for range in ["bytes=1000-", "bytes=0-5", "bytes=-5"] {
            let part = Request::get(&url).header("Range", range);
            assert_eq!(scene.cluster.send(part).await.status, 404, "{range}");
        }
        assert_eq!(scene.fetches(), 1);
        scene.cluster.end().await;
    }

    async fn what_a_client_uploaded_becomes_zstd_and_may_come_again(mode) {
        let scene = Scene::with(mode, Compression::Xz, |builder| on(builder).writable()).await;
        let own = Fixture::new("own-1.0").size(300_000).compressible().compression(Compression::Xz);
        let own = own.build(&scene.key);
        let upload = async || {
            let nar = Request::put(&own.nar_path(), own.file.clone());
            assert_eq!(scene.cluster.send(nar).await.status, 204);
            let narinfo = Request::put(&own.narinfo_path(), own.narinfo_text());
            assert_eq!(scene.cluster.send(narinfo).await.status, 204);
        };
        let named = async || {
            eventually("it is named as zstd", async || {
                get(&scene.cluster, &own.nar_path()).await;
                scene.cluster.narinfo(&own).await.compression == Compression::Zstd
            })
            .await;
            scene.cluster.narinfo(&own).await
        };
        upload().await;
        let made = named().await;
        assert!(unpacked(&get(&scene.cluster, &path(&made)).await.body) == own.nar.to_bytes());
        upload().await;
        assert!(get(&scene.cluster, &own.nar_path()).await.body == own.file.to_bytes());
        let again = named().await;
        assert_eq!(again.url, made.url);
        scene.cluster.quiet().await;
        scene.forget(file(&made));
        assert!(unpacked(&get(&scene.cluster, &path(&made)).await.body) == own.nar.to_bytes(), "made again");
        scene.cluster.end().await;
    }

    async fn a_real_client_does_not_notice(mode) {
        let Some(nix) = Nix::find() else { return };
        let scene = Scene::new(mode, Compression::Xz).await;
        let ours = scene.cluster.public_key().await;
        nix.trust(std::slice::from_ref(&ours));
        let top = scene.fixture.store_path();
        nix.copy_from(&scene.cluster.url(), &[top]).await.ok();
        nix.verify_own(top).await.ok();
        let made = scene.named(Compression::Zstd).await;

        let other = Nix::find().expect("there was one a moment ago");
        other.trust(std::slice::from_ref(&ours));
        scene.upstream.down().await;
        other.copy_from(&scene.cluster.url(), &[top]).await.ok();
        other.verify_own(top).await.ok();
        assert!(scene.cluster.stores(&path(&made)));
        scene.cluster.end().await;
    }
}

/// A commit as of an older release: of a file that lies nowhere, made by another encoder.
async fn foreign(scene: &Scene) -> NarFileName {
    let nar = scene.nar();
    let bytes = zstd::encode_all(&*nar, 1).expect("encodes");
    let name = NarFileName { hash: FileHash(Sha256Hash::of(&bytes)), compression: Compression::Zstd };
    let recipe = Recipe { source: source(&scene.fixture), level: LEVEL, encoder: "zstd-0.0.1".to_owned() };
    let commit = Commit {
        name,
        asked_as: None,
        file_size: bytes.len() as u64,
        nar: NarFacts { hash: NarHash(Sha256Hash::of(&nar)), size: nar.len() as u64 },
        origin: None,
        uploaded: false,
        recipe: Some(recipe),
        meanwhile: Vec::new(),
    };
    let committed = scene.cluster.control().commit_nar("who is gone", commit).await;
    assert_eq!(committed.map_err(|error| error.code()).map(|named| named.len()), Ok::<_, Code>(1));
    eventually("the edge knows", async || scene.cluster.narinfo(&scene.fixture).await.url == name.url())
        .await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_edge_of_a_fleet_transcodes_and_others_read_from_it() {
    let scene = Scene::with(Mode::Split, Compression::Xz, |builder| on(builder).edges(2)).await;
    let (cluster, fixture) = (&scene.cluster, &scene.fixture);
    scene.download().await;
    let made = scene.named(Compression::Zstd).await;
    let other = cluster.at(1);
    eventually("the other edge knows", async || other.narinfo(fixture).await == made).await;
    let came = other.get(&path(&made)).await.whole().await;
    assert!(unpacked(&came) == scene.nar());
    // Of the former file as well, by who knows its name alone.
    assert!(other.get(&fixture.canonical_nar_path()).await.whole().await == fixture.file.to_bytes());
    assert_eq!(scene.fetches(), 1);
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_makes_it_again_of_the_file_that_another_edge_has() {
    let scene = Scene::with(Mode::Split, Compression::Xz, |builder| on(builder).edges(2)).await;
    let (cluster, fixture) = (&scene.cluster, &scene.fixture);
    scene.download().await;
    let made = scene.named(Compression::Zstd).await;
    scene.forget(file(&made));
    scene.upstream.down().await;
    let other = cluster.at(1);
    eventually("the other edge knows", async || other.narinfo(fixture).await == made).await;
    let came = other.get(&path(&made)).await.whole().await;
    assert_eq!(made.file_hash, Some(FileHash(Sha256Hash::of(&came))));
    scene.cluster.end().await;
}
