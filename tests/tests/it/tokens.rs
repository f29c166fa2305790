//! Tokens that come and go while everything runs: what each scope lets its owner do over HTTP, where and until when.
//! (PROTOCOL.md §11, lines 51 and 65; what all of them have in common is in `private.rs`.)

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use ncps_proto::admin::Caller;
use ncps_proto::{Expiry, NewToken, Scope, Secret};
use ncps_tests::{Cli, Cluster, Installation, Request, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{ask, get};
use crate::cli::cli;
use crate::processes::UNDER_TEST;
use crate::scene::plain;

pub(crate) fn new(name: &str, scopes: &[Scope]) -> NewToken {
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    NewToken { name, scopes, edges: Vec::new(), expiry: Expiry::Never }
}

pub(crate) fn caller() -> Caller {
    Caller { who: "a test".to_owned() }
}

pub(crate) async fn create(cluster: &Cluster, new: NewToken) -> Secret {
    cluster.control().create_token(&caller(), new).await.expect("made").secret
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

pub(crate) fn basic(secret: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("nix:{secret}").as_bytes()))
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("listed").path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.filter(|path| path.is_dir() || path.is_file()).flat_map(below).collect()
}

/// Waits until reads are answered so.
async fn becomes(cluster: &Cluster, secret: Option<&Secret>, expected: u16) {
    let what = format!("{expected} for {}", if secret.is_some() { "this token" } else { "no token" });
    eventually(&what, async || status(cluster, "/nix-cache-info", secret).await == expected).await;
}

/// The edge has heard of this token; 200 alone says so of none, as anyone may read until it has heard of one.
async fn counts(cluster: &Cluster, secret: &Secret) {
    becomes(cluster, None, 401).await;
    becomes(cluster, Some(secret), 200).await;
}

both_modes! {
    async fn commands_make_list_and_end_tokens(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let cli = cli(&cluster);
        let create = ["token", "create", "ci", "--scope=read,write", "--edge=edge", "--expires=90d"];
        let asked = cli.run(&create).await;
        assert_eq!((asked.code, asked.printed.as_str()), (2, ""), "it would close reads: {asked:?}");
        assert!(asked.said.contains("nobody can read at edge without such a token"), "{asked:?}");
        assert_eq!(cli.json(&["token", "list"]).await, serde_json::json!([]));
        let made = cli.run(&[&create[..], &["--yes"]].concat()).await;
        let secret = Secret::new(made.printed.trim_end());
        assert!(made.code == 0 && secret.reveal().starts_with("ncps_"), "the secret alone: {made:?}");
        assert!(made.said.contains("shown this once") && !made.said.contains(secret.reveal()), "{made:?}");
        counts(&cluster, &secret).await;
        assert_eq!(status(&cluster, "/pubkey", None).await, 401);
        let ops = cli.json(&["token", "create", "ops", "--scope=admin", "--expires=2099-01-01"]).await;
        assert_eq!(ops["expires_at"], "2099-01-01T00:00:00Z");
        let listed = cli.json(&["token", "list"]).await;
        assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&"ci".into(), &"ops".into()));
        assert_eq!(listed[0]["scopes"], serde_json::json!(["read", "write"]));
        assert!(!listed.to_string().contains("ncps_"), "{listed}");
        let table = cli.ok(&["token", "list"]).await;
        assert!(table.contains("NAME") && table.contains("2099-01-01") && !table.contains("ncps_"), "{table}");
        let id = listed[1]["id"].as_str().expect("an id");
        cli.ok(&["token", "revoke", id]).await;
        cli.ok(&["token", "revoke", "ci"]).await;
        let audit = cli.ok(&["events", "--audit"]).await;
        for change in ["token-created  -  ci (", "read,write  by uid ", "token-revoked  -  ops ("] {
            assert!(audit.contains(change), "{change}: {audit}");
        }
        becomes(&cluster, None, 200).await;
        let listed = cli.json(&["token", "list"]).await;
        assert!(listed[0]["revoked_at"].is_string() && listed[1]["revoked_at"].is_string(), "{listed}");
        cluster.end().await;
    }

    async fn what_opens_a_cache_is_asked_for_first(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let cli = cli(&cluster);
        cli.ok(&["token", "create", "one", "--scope=read", "--yes"]).await;
        cli.ok(&["token", "create", "two", "--scope=read"]).await;
        cli.ok(&["token", "revoke", "one"]).await;
        let asked = cli.run(&["token", "revoke", "two"]).await;
        assert!(asked.code == 2 && asked.said.contains("everybody can read"), "{asked:?}");
        cli.ok(&["token", "revoke", "two", "--yes"]).await;
        becomes(&cluster, None, 200).await;
        cluster.end().await;
    }

    async fn a_secret_goes_to_a_file_that_nobody_else_can_read(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("token");
        let to = format!("--to={}", file.display());
        let create = |name: &'static str| ["token", "create", name, "--scope=edge"];
        assert_eq!(cli(&cluster).ok(&[&create("e1")[..], &[&to]].concat()).await, "");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let secret = std::fs::read_to_string(&file).expect("read");
        assert!(secret.starts_with("ncps_") && secret.ends_with('\n'), "one line");
        let again = cli(&cluster).run(&[&create("e2")[..], &[&to]].concat()).await;
        assert_eq!(again.code, 2, "what is there is not overwritten: {again:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), secret);
        let other = folder.path().join("other");
        let refused = cli(&cluster).run(&[&create("e1")[..], &[&format!("--to={}", other.display())]].concat()).await;
        assert!(refused.code == 2 && !other.exists(), "the name is taken: {refused:?}");
        assert_eq!(cli(&cluster).json(&["token", "list"]).await.as_array().expect("a list").len(), 1);
        cluster.end().await;
    }

    async fn bad_input_changes_nothing_and_says_what_would_be_right(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let cli = cli(&cluster);
        cli.ok(&["token", "create", "taken", "--scope=admin"]).await;
        for (args, says) in [
            (&["create", "x", "--scope=raed"][..], "one of read, write, delete, sign, edge, durable, admin"),
            (&["create", "x"], "--scope"),
            (&["create", "x", "--scope=edge", "--expires=soon"], "such as 90d"),
            (&["create", "x", "--scope=edge", "--expires=2001-01-01"], "in the future"),
            (&["create", "x y", "--scope=edge"], "letters, digits"),
            (&["create", "taken", "--scope=edge"], "already"),
            (&["create", "x", "--scope=admin", "--edge=e"], "can't be bound to edges"),
            (&["create", "x", "--scope=durable"], "--scope edge,durable"),
            (&["revoke", "nobody"], "no token with the name or id"),
        ] {
            let ran = cli.run(&[&["token"], args].concat()).await;
            assert!(ran.code == 2 && ran.printed.is_empty() && ran.said.contains(says), "{args:?}: {ran:?}");
        }
        assert_eq!(cli.json(&["token", "list"]).await.as_array().expect("a list").len(), 1);
        cluster.end().await;
    }

    async fn no_secret_is_in_a_log_or_on_a_disk_of_ours(mode) {
        let mut ncps = Installation::new(mode, UNDER_TEST).flag("--log-level=trace").started().await;
        let cli = Cli::at(UNDER_TEST, &ncps.socket());
        let secret = cli.ok(&["token", "create", "ci", "--scope=read", "--yes"]).await;
        let secret = secret.trim_end();
        let ask = async |secret: &str| {
            let request = Request::get("/pubkey").header("Authorization", &format!("Bearer {secret}"));
            request.send(ncps.addr()).await.expect("answered").status
        };
        // Anyone may read until the edge has heard of a token.
        eventually("it counts", async || ask("ncps_wrong").await == 401).await;
        assert_eq!(ask(secret).await, 200);
        let (edge, control) = (ncps.edge_data(), ncps.control_data());
        ncps.terminate().await;
        let said = [ncps.edge().lines(), ncps.control().lines()].concat().join("\n");
        assert!(said.contains("token-created") && said.contains("uid ") && !said.contains(&secret[5..]), "{said}");
        for folder in [edge, control] {
            for file in files_below(&folder) {
                let bytes = std::fs::read(&file).expect("read");
                let found = bytes.windows(40).any(|window| window == &secret.as_bytes()[5..]);
                assert!(!found, "{}", file.display());
            }
        }
    }

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
        counts(&cluster, &ci).await;
        let bearer = Request::get("/pubkey").header("Authorization", &format!("Bearer {}", ci.reveal()));
        assert_eq!(ask(&cluster, bearer).await.status, 200);
        for path in [fixture.narinfo_path(), fixture.nar_path(), "/pubkey".to_owned()] {
            assert_eq!(status(&cluster, &path, Some(&ci)).await, 200, "{path}");
            assert_eq!(status(&cluster, &path, Some(&ops)).await, 401, "{path}: another scope");
        }
        // What is near is served to nobody else, either.
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 401);
        let other = create(&cluster, new("other", &[Scope::Read])).await;
        counts(&cluster, &other).await;
        cluster.control().revoke_token(&caller(), "ci").await.expect("revoked");
        becomes(&cluster, Some(&ci), 401).await;
        assert_eq!(status(&cluster, "/pubkey", Some(&other)).await, 200);
        cluster.control().revoke_token(&caller(), "other").await.expect("revoked");
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
        counts(&cluster, &ci).await;
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
        counts(&cluster, &here).await;
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
        cluster.control().revoke_token(&caller(), "gone").await.expect("revoked");
        let cluster = cluster.restart(builder()).await;
        counts(&cluster, &kept).await;
        assert_eq!(status(&cluster, "/nix-cache-info", Some(&gone)).await, 401);
        cluster.end().await;
    }
}
