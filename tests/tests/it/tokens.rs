//! Tokens that come and go while everything runs: what each scope lets its owner do over HTTP, where and until when.
//! (PROTOCOL.md §11, lines 51 and 65; what all of them have in common is in `private.rs`.)

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ncps_proto::{Expiry, NewToken, Scope, Secret};
use ncps_tests::{Cluster, Request, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{ask, get};
use crate::scene::plain;

fn new(name: &str, scopes: &[Scope]) -> NewToken {
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    NewToken { name, scopes, edges: Vec::new(), expiry: Expiry::Never }
}

async fn create(cluster: &Cluster, new: NewToken) -> Secret {
    cluster.control().create_token(new).await.expect("made").secret
}

/// The status of a GET with this secret as a password, as Nix sends it.
async fn status(cluster: &Cluster, path: &str, secret: Option<&Secret>) -> u16 {
    let request = Request::get(path);
    let request = match secret {
        Some(secret) => request.header("Authorization", &basic(secret.reveal())),
        None => request,
    };
    ask(cluster, request).await.status
}

fn basic(secret: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("nix:{secret}").as_bytes()))
}

/// Waits until reads are answered so.
async fn becomes(cluster: &Cluster, secret: Option<&Secret>, expected: u16) {
    let what = format!("{expected} for {}", if secret.is_some() { "this token" } else { "no token" });
    eventually(&what, async || status(cluster, "/nix-cache-info", secret).await == expected).await;
}

both_modes! {
    async fn a_token_counts_from_its_creation_to_its_revocation(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(1000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 200, "open to everybody");
        let (ci, ops) = (
            create(&cluster, new("ci", &[Scope::Read])).await,
            create(&cluster, new("ops", &[Scope::Write])).await,
        );
        becomes(&cluster, None, 401).await;
        becomes(&cluster, Some(&ci), 200).await;
        let bearer = Request::get("/pubkey").header("Authorization", &format!("Bearer {}", ci.reveal()));
        assert_eq!(ask(&cluster, bearer).await.status, 200);
        for path in [fixture.narinfo_path(), fixture.nar_path(), "/pubkey".to_owned()] {
            assert_eq!(status(&cluster, &path, Some(&ci)).await, 200, "{path}");
            assert_eq!(status(&cluster, &path, Some(&ops)).await, 401, "{path}: another scope");
        }
        // What is near is served to nobody else, either.
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 401);
        let other = create(&cluster, new("other", &[Scope::Read])).await;
        becomes(&cluster, Some(&other), 200).await;
        cluster.control().revoke_token("ci").await.expect("revoked");
        becomes(&cluster, Some(&ci), 401).await;
        assert_eq!(status(&cluster, "/pubkey", Some(&other)).await, 200);
        cluster.control().revoke_token("other").await.expect("revoked");
        becomes(&cluster, None, 200).await;
        cluster.end().await;
    }

    async fn what_is_known_of_paths_and_upstreams_outlives_a_new_token(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(1000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        get(&cluster, &fixture.narinfo_path()).await;
        let before = Arc::clone(&cluster.edge.current.get().expect("configured").upstreams);
        let ci = create(&cluster, new("ci", &[Scope::Read])).await;
        becomes(&cluster, Some(&ci), 200).await;
        let live = cluster.edge.current.get().expect("configured");
        assert!(Arc::ptr_eq(&live.upstreams, &before), "breakers, latencies and connections stay");
        assert_eq!(cluster.edge.lookups.near.len(), 1, "what is near stays");
        cluster.control().change_settings(|settings| settings.public_keys.reverse());
        let rotated = ncps_nix::SecretKey::generate("cache.test-2").expect("made").public();
        cluster.control().change_settings(|settings| settings.public_keys.insert(0, rotated));
        eventually("narinfos of the former key are asked for again", async || {
            cluster.edge.lookups.near.is_empty()
        })
        .await;
        cluster.end().await;
    }

    async fn a_token_ends_by_the_edges_clock_and_what_it_closed_stays_closed(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let expiry = Expiry::After(Duration::from_secs(2));
        let short = create(&cluster, NewToken { expiry, ..new("short", &[Scope::Read]) }).await;
        becomes(&cluster, Some(&short), 200).await;
        becomes(&cluster, Some(&short), 401).await;
        assert_eq!(status(&cluster, "/nix-cache-info", None).await, 401);
        cluster.end().await;
    }

    async fn a_token_that_is_bound_to_another_edge_is_none_here(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let at = |edge: &str| NewToken { edges: vec![edge.to_owned()], ..new(edge, &[Scope::Read]) };
        let there = create(&cluster, at("elsewhere")).await;
        let here = create(&cluster, at("edge")).await;
        becomes(&cluster, Some(&here), 200).await;
        assert_eq!(status(&cluster, "/nix-cache-info", Some(&there)).await, 401);
        let told = cluster.edge.current.get().expect("configured").settings.tokens.clone();
        assert_eq!(told.len(), 1, "an edge hears of no token that does not count there: {told:?}");
        cluster.end().await;
    }

    async fn tokens_and_revocations_outlive_a_restart(mode) {
        let builder = || Cluster::builder(mode);
        let cluster = builder().start().await;
        let kept = create(&cluster, new("kept", &[Scope::Read])).await;
        let gone = create(&cluster, new("gone", &[Scope::Read])).await;
        cluster.control().revoke_token("gone").await.expect("revoked");
        let cluster = cluster.restart(builder()).await;
        becomes(&cluster, Some(&kept), 200).await;
        assert_eq!(status(&cluster, "/nix-cache-info", Some(&gone)).await, 401);
        cluster.end().await;
    }
}
