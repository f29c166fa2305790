//! The machine, tried with the scripted upstream.

use ncps_nix::Compression;

use super::*;
use crate::{Fixture, Rule, Upstream, UpstreamKey};

const FORMATS: [Compression; 4] = [Compression::Xz, Compression::Zstd, Compression::None, Compression::Bzip2];

/// An upstream with one signed fixture, and its key.
async fn one(compression: Compression) -> (Upstream, Fixture, UpstreamKey) {
    let key = UpstreamKey::new("cache.example-1");
    let fixture = Fixture::new("hello-1.0").size(100_000).compression(compression).build(&key);
    (Upstream::with(&[&fixture]).await, fixture, key)
}

#[tokio::test]
async fn fixtures_of_every_format_are_substituted_and_verified() {
    for compression in FORMATS {
        let Some(nix) = Nix::find() else { return };
        let (upstream, fixture, key) = one(compression).await;
        nix.trust(&[key.public()]);
        nix.substituters(&[upstream.url()]);
        let path = fixture.store_path();
        nix.verify(&upstream.url(), path).await.ok();
        nix.realise(&[path]).await.ok();
        nix.verify_own(path).await.ok();
        let program = nix.real_path(path).join("run");
        let content = std::process::Command::new(program).output().expect("it is executable").stdout;
        assert_eq!(content.len(), 100_000);
    }
}

#[tokio::test]
async fn copying_needs_a_key_that_is_trusted() {
    let Some(nix) = Nix::find() else { return };
    let (upstream, fixture, key) = one(Compression::Xz).await;
    let path = fixture.store_path();
    let complaint = nix.copy_from(&upstream.url(), &[path]).await.failed();
    assert!(complaint.contains("lacks a valid signature"), "{complaint}");
    nix.trust(&[key.public()]);
    nix.copy_from(&upstream.url(), &[path]).await.ok();
    assert!(nix.real_path(path).exists());
}

#[tokio::test]
async fn what_a_cache_says_is_remembered_until_forgotten() {
    let Some(nix) = Nix::find() else { return };
    let (upstream, fixture, _) = one(Compression::Xz).await;
    let info = nix.path_info(&upstream.url(), fixture.store_path()).await.ok();
    assert!(info.contains(&fixture.hash_part()), "{info}");
    nix.path_info(&upstream.url(), fixture.store_path()).await.ok();
    assert_eq!(upstream.count("GET", &fixture.narinfo_path()), 1);
    nix.forget_narinfos();
    nix.path_info(&upstream.url(), fixture.store_path()).await.ok();
    assert_eq!(upstream.count("GET", &fixture.narinfo_path()), 2);
}

#[tokio::test]
async fn a_corrupt_nar_is_refused() {
    let Some(nix) = Nix::find() else { return };
    let (upstream, fixture, key) = one(Compression::None).await;
    upstream.script(Rule::on("/nar/*").flip(50_000));
    nix.trust(&[key.public()]);
    let complaint = nix.copy_from(&upstream.url(), &[fixture.store_path()]).await.failed();
    assert!(complaint.contains("hash mismatch"), "{complaint}");
}

#[tokio::test]
async fn what_can_not_be_built_is_substituted() {
    let Some(nix) = Nix::find() else { return };
    let key = UpstreamKey::new("cache.example-1");
    let upstream = Upstream::start().await;
    nix.trust(&[key.public()]);
    nix.substituters(&[upstream.url()]);
    nix.build_unbuildable("thing").await.failed();
    let output = nix.unbuildable("thing").await;
    let fixture = Fixture::new("thing").at(output).build(&key);
    upstream.add(&fixture);
    // That it is absent is remembered.
    nix.forget_narinfos();
    let built = nix.build_unbuildable("thing").await.ok();
    assert_eq!(built, fixture.store_path().absolute());
    assert!(nix.real_path(fixture.store_path()).join("data").exists());
}

#[tokio::test]
async fn own_paths_travel_from_machine_to_machine() {
    let Some(maker) = Nix::find() else { return };
    let key = UpstreamKey::new("cache.example-1");
    let tree = maker.add_tree("tree", &[("a", b"one"), ("b/c", b"two")]).await;
    let text = maker.add_text("text", &[&tree]).await;
    for compression in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        maker.export(dir.path(), compression, &key, &[&text]).await;
        let upstream = Upstream::start().await;
        upstream.serve_dir(dir.path());
        for from in [upstream.url(), format!("file://{}", dir.path().display())] {
            let Some(user) = Nix::find() else { return };
            user.trust(&[key.public()]);
            user.verify(&from, &tree).await.ok();
            user.copy_from(&from, &[&text]).await.ok();
            let copied = std::fs::read_to_string(user.real_path(&tree).join("b/c"));
            assert_eq!(copied.expect("it came with the text"), "two");
            assert!(user.real_path(&text).exists());
        }
        assert_eq!(upstream.count("GET", "/nar/"), 3, "one to verify, two to copy");
    }
}
