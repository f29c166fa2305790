//! `ncps import` of a plain Nix binary cache directory: what `nix copy --to file://…` makes, with all that lies in it.

use std::path::Path;

use ncps_nix::{Compression, StorePath};
use ncps_tests::{Fixture, Installation, Mode, Nix, Upstream, UpstreamKey, both_modes};

use crate::import::{Ended, import};
use crate::processes::UNDER_TEST;

struct Scene {
    cache: tempfile::TempDir,
    key: UpstreamKey,
    _upstream: Upstream,
    ncps: Installation,
}

impl Scene {
    async fn new(mode: Mode) -> Scene {
        let key = UpstreamKey::new("cache-1");
        let upstream = Upstream::with(&[]).await;
        upstream.down().await;
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
        Scene { cache: tempfile::tempdir().expect("a directory"), key, _upstream: upstream, ncps }
    }

    fn put(&self, path: &str, content: &[u8]) {
        let path = self.cache.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("below")).expect("room");
        std::fs::write(path, content).expect("room");
    }

    fn add(&self, fixture: &Fixture) {
        self.put(&fixture.narinfo_path(), fixture.narinfo_text().as_bytes());
        self.put(&fixture.nar_path(), &fixture.file.to_bytes());
    }

    fn import(&self) -> Ended {
        let data = self.ncps.edge_data();
        import(
            &[
                format!("--from={}", self.cache.path().display()),
                format!("--cache-data-path={}", data.display()),
                format!(
                    "--cache-database-url=sqlite:{}",
                    self.ncps.control_data().join("db/db.sqlite").display()
                ),
                format!("--upstream-public-key={}", self.key.public()),
                "--cache-hostname=cache.test".to_owned(),
            ],
            &[],
        )
    }

    async fn serve(&mut self) {
        let (made, wanted) = (self.ncps.edge_data(), self.ncps.control_data());
        if made != wanted {
            std::fs::rename(made.join("secret.key"), wanted.join("secret.key")).expect("moved");
        }
        self.ncps.start().await;
    }
}

both_modes! {
    async fn what_nix_made_is_served(mode) {
        let Some(maker) = Nix::find() else { return };
        let mut scene = Scene::new(mode).await;
        let codecs = [Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::None];
        let mut paths: Vec<StorePath> = Vec::new();
        for codec in codecs {
            let content = codec.name().repeat(3000);
            let leaf = maker.add_text(&format!("leaf-{codec}"), &[]).await;
            let path = maker.add_tree(&format!("tree-{codec}"), &[("a/b", content.as_bytes())]).await;
            let top = maker.add_text(&format!("top-{codec}"), &[&leaf, &path]).await;
            maker.export(scene.cache.path(), codec, &scene.key, &[&top]).await;
            paths.push(top);
        }
        scene.import().says(0, &["imported: 12 paths", "refused: 0"]);
        scene.import().says(0, &["already there: 12"]);
        scene.serve().await;
        let client = Nix::find().expect("there was one a moment ago");
        client.trust(&[scene.ncps.public_key().await]);
        let paths: Vec<&StorePath> = paths.iter().collect();
        client.copy_from(&scene.ncps.url(), &paths).await.ok();
        for path in paths {
            client.verify_own(path).await.ok();
        }
        scene.ncps.terminate().await;
    }

    async fn only_what_is_vouched_for_is_taken(mode) {
        let mut scene = Scene::new(mode).await;
        let known = Fixture::new("known-1.0").size(10_000).build(&scene.key);
        let stranger = Fixture::new("stranger-1.0").size(10_000).build(&UpstreamKey::new("stranger-1"));
        let unsigned = Fixture::new("unsigned-1.0").size(10_000).build_unsigned();
        let outside = Fixture::new("outside-1.0").size(10_000).build(&scene.key);
        for fixture in [&known, &stranger, &unsigned] {
            scene.add(fixture);
        }
        let lie = outside.changed(|narinfo| narinfo.url = "../outside.nar.xz".to_owned());
        scene.put(&lie.narinfo_path(), lie.narinfo_text().as_bytes());
        scene.put("/broken.narinfo", b"no narinfo\n");
        scene.put("/nix-cache-info", b"StoreDir: /nix/store\n");
        let reasons = ["imported: 1 paths", "refused: 4", "none of its keys is trusted", "no signature", "names no file"];
        scene.import().says(1, &reasons);
        scene.serve().await;
        assert_eq!(scene.ncps.fetch(&known.narinfo_path()).await.0, 200);
        for fixture in [&stranger, &unsigned, &outside] {
            assert_ne!(scene.ncps.fetch(&fixture.narinfo_path()).await.0, 200);
        }
    }

    async fn objects_come_along(mode) {
        let mut scene = Scene::new(mode).await;
        let fixture = Fixture::new("listed-1.0").size(10_000).build(&scene.key);
        scene.add(&fixture);
        let hash = fixture.hash_part();
        let objects = [
            (format!("/{hash}.ls"), &b"{\"version\":1}"[..]),
            (format!("/log/{hash}-a.drv"), b"it was built"),
            (format!("/realisations/sha256:{}!out.doi", "a".repeat(64)), b"{\"id\":\"x\"}"),
            (format!("/build-trace-v2/{hash}-a.drv/out.doi"), b"{}"),
        ];
        for (path, content) in &objects {
            scene.put(path, content);
        }
        scene.put(&format!("/realisations/sha256:{}!out.doi", "b".repeat(64)), b"an error page");
        scene.put("/log/notes.txt", b"mine");
        scene.import().says(1, &["imported: 1 paths", "objects: 4", "refused: 1", "no JSON object"]);
        scene.serve().await;
        for (path, content) in &objects {
            let (status, body) = scene.ncps.fetch(&path.replace('!', "%21")).await;
            assert_eq!((status, &body.whole()[..]), (200, *content), "{path}");
        }
        assert!(!Path::exists(&scene.ncps.stored("log/notes.txt")));
    }
}
