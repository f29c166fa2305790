//! Narinfos for which nobody vouches who is trusted, sent by HTTP: whatever their sender shows, nothing of them is
//! served, and nothing is signed by us.

use ncps_nix::{Compression, NarInfo};
use ncps_proto::{ControlPlane, Lookup, Scope, Secret};
use ncps_tests::{Cluster, Fixture, Mode, Request, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{ask, get};
use crate::tokens::{caller, create, new};
use crate::uploads::{is_served, refused};

/// A cluster to which clients may write, with an upstream whose key is trusted, and a path that it lacks.
struct Scene {
    cluster: Cluster,
    /// It says of everything that it is absent.
    _upstream: Upstream,
    fixture: Fixture,
    lies: Vec<(&'static str, Fixture)>,
}

impl Scene {
    async fn new(mode: Mode) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::builder(mode).upstream(&upstream).trust(&key).writable().start().await;
        let fixture = Fixture::new("forged-1.0").size(50_000).compression(Compression::Xz).build_unsigned();
        let by_us = signed_by_us(&cluster, &fixture).await;
        let lies = lies(&fixture, by_us, &key);
        Scene { cluster, _upstream: upstream, fixture, lies }
    }

    async fn is_refused(
        &self,
        lie: &(&'static str, Fixture),
        who: &str,
        secret: Option<&Secret>,
        status: u16,
    ) {
        let what = format!("{} by {who}", lie.0);
        let hash = self.fixture.store_path().hash();
        let path = lie.1.narinfo_path();
        for path in [path.clone(), format!("/upload{path}")] {
            let told = ask(&self.cluster, shown(Request::put(&path, lie.1.narinfo_text()), secret)).await;
            assert_eq!(told.status, status, "{what}: {}", told.text());
            assert!(!told.text().contains("Sig"), "{what}: {}", told.text());
            assert_eq!(
                self.cluster.control().narinfo(hash).await.expect("answers"),
                Lookup::Unknown,
                "{what}"
            );
            assert!(!self.cluster.stores(&lie.1.narinfo_path()), "{what}");
        }
    }
}

/// As our own cache signed it, before it was deleted there for some reason.
async fn signed_by_us(cluster: &Cluster, fixture: &Fixture) -> NarInfo {
    let signer = token(cluster, "author", &[Scope::Write, Scope::Sign, Scope::Delete]).await;
    sends_nar(cluster, fixture, Some(&signer)).await;
    let narinfo = Request::put(&fixture.narinfo_path(), fixture.narinfo_text());
    assert_eq!(ask(cluster, shown(narinfo, Some(&signer))).await.status, 204);
    let narinfo = cluster.narinfo(fixture).await;
    let deleted = shown(Request::delete(&fixture.narinfo_path()), Some(&signer));
    assert_eq!(ask(cluster, deleted).await.status, 204);
    revoke(cluster, "author").await;
    narinfo
}

fn lies(fixture: &Fixture, by_us: NarInfo, key: &UpstreamKey) -> Vec<(&'static str, Fixture)> {
    let other = Fixture::new("other-1.0").build(key);
    let signed = fixture.signed(key);
    vec![
        ("our own signature alone", fixture.changed(|narinfo| narinfo.signatures = by_us.signatures)),
        ("no signature", fixture.clone()),
        ("another NarHash than was signed", signed.changed(|n| n.nar_hash = other.narinfo.nar_hash)),
        ("another NarSize than was signed", signed.changed(|narinfo| narinfo.nar_size += 1)),
        ("another path's signature", fixture.changed(|n| n.signatures = other.narinfo.signatures)),
    ]
}

/// A token that the edge has heard of.
async fn token(cluster: &Cluster, name: &str, scopes: &[Scope]) -> Secret {
    let secret = create(cluster, new(name, scopes)).await;
    becomes(cluster, Some(&secret), 400).await;
    becomes(cluster, None, 401).await;
    secret
}

/// No token of this name counts any more, and the edge has heard of it.
async fn revoke(cluster: &Cluster, name: &str) {
    cluster.control().revoke_token(&caller(), name).await.expect("revoked");
    becomes(cluster, None, 400).await;
}

/// Who shows this is asked for credentials (401), or told that what he writes is no name (400).
async fn becomes(cluster: &Cluster, secret: Option<&Secret>, status: u16) {
    let told = async || ask(cluster, shown(Request::put("/none.narinfo", "x"), secret)).await.status;
    eventually(&format!("{status} for a write"), async || told().await == status).await;
}

fn shown(request: Request, secret: Option<&Secret>) -> Request {
    match secret {
        Some(secret) => request.header("Authorization", &format!("Bearer {}", secret.reveal())),
        None => request,
    }
}

async fn sends_nar(cluster: &Cluster, fixture: &Fixture, secret: Option<&Secret>) {
    let nar = ask(cluster, shown(Request::put(&fixture.nar_path(), fixture.file.clone()), secret)).await;
    assert_eq!(nar.status, 204, "{}", nar.text());
}

both_modes! {
    async fn a_forged_narinfo_is_refused_whoever_sends_it(mode) {
        let scene = Scene::new(mode).await;
        let cluster = &scene.cluster;
        let former = token(cluster, "former", &[Scope::Write, Scope::Sign]).await;
        revoke(cluster, "former").await;
        // No token closes it: whoever comes may write, and no token that was revoked has us sign.
        for lie in &scene.lies {
            scene.is_refused(lie, "anybody", None, 422).await;
            scene.is_refused(lie, "who shows a revoked token", Some(&former), 422).await;
        }
        let writer = token(cluster, "writer", &[Scope::Write]).await;
        sends_nar(cluster, &scene.fixture, Some(&writer)).await;
        for lie in &scene.lies {
            scene.is_refused(lie, "who shows no token", None, 401).await;
            scene.is_refused(lie, "who shows a revoked token", Some(&former), 401).await;
            scene.is_refused(lie, "who may only write", Some(&writer), 422).await;
        }
        // Nothing but the token was missing.
        let signer = token(cluster, "signer", &[Scope::Write, Scope::Sign]).await;
        let narinfo = Request::put(&scene.fixture.narinfo_path(), scene.fixture.narinfo_text());
        assert_eq!(ask(cluster, shown(narinfo, Some(&signer))).await.status, 204);
        is_served(cluster, &scene.fixture).await;
        scene.cluster.end().await;
    }

    async fn who_may_sign_is_not_believed_against_the_nar_that_lies_there(mode) {
        let scene = Scene::new(mode).await;
        let cluster = &scene.cluster;
        let signer = token(cluster, "signer", &[Scope::Write, Scope::Sign]).await;
        let other = Fixture::new("other-1.0").build_unsigned().narinfo;
        let (fixture, size) = (&scene.fixture, scene.fixture.narinfo.nar_size);
        for lie in [
            fixture.changed(|narinfo| narinfo.nar_hash = other.nar_hash),
            fixture.changed(|narinfo| narinfo.nar_size = size + 1),
            fixture.changed(|narinfo| (narinfo.nar_hash, narinfo.nar_size) = (other.nar_hash, other.nar_size)),
        ] {
            let lie = ("another NAR than lies there", lie);
            scene.is_refused(&lie, "who may sign", Some(&signer), 422).await;
            let narinfo = shown(Request::put(&lie.1.narinfo_path(), lie.1.narinfo_text()), Some(&signer));
            refused(&ask(cluster, narinfo).await, 422, "are not those of the NAR");
        }
        assert_eq!(get(cluster, &fixture.narinfo_path()).await.status, 404);
        scene.cluster.end().await;
    }

    async fn where_only_the_trusted_vouch_a_token_of_scope_sign_does_not(mode) {
        let ci = UpstreamKey::new("ci-1");
        let strict = Cluster::builder(mode).writable().admission(|admission| {
            admission.only_trusted = true;
            admission.keys.push(ci.public());
        });
        let cluster = strict.start().await;
        let signer = token(&cluster, "signer", &[Scope::Write, Scope::Sign]).await;
        let writer = token(&cluster, "writer", &[Scope::Write]).await;
        let fixture = Fixture::new("strict-1.0").size(50_000).compression(Compression::Xz).build_unsigned();
        sends_nar(&cluster, &fixture, Some(&signer)).await;
        let narinfo = |fixture: &Fixture, secret| {
            shown(Request::put(&fixture.narinfo_path(), fixture.narinfo_text()), Some(secret))
        };
        let told = ask(&cluster, narinfo(&fixture, &signer)).await;
        refused(&told, 422, "sign it with a key that is trusted here, make it content-addressed");
        assert!(!told.text().contains("scope sign"), "that is no way here: {}", told.text());
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        let by_ci = fixture.signed(&ci);
        assert_eq!(ask(&cluster, narinfo(&by_ci, &writer)).await.status, 204);
        is_served(&cluster, &by_ci).await;
        let signers = cluster.narinfo(&by_ci).await.signatures;
        assert_eq!(signers.len(), 2, "theirs and ours: {signers:?}");
        assert!(signers.contains(&by_ci.narinfo.signatures[0]));
        cluster.end().await;
    }
}
