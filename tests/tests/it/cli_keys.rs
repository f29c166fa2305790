//! `ncps-cli key`: shown, exported, made, and replaced while clients go on.

use std::os::unix::fs::PermissionsExt;

use ncps_nix::{NarInfo, PublicKey, SecretKey};
use ncps_tests::{Cli, Cluster, Fixture, Installation, Upstream, UpstreamKey, both_modes, eventually};

use crate::cli::cli;
use crate::processes::UNDER_TEST;

fn key(text: &serde_json::Value) -> PublicKey {
    PublicKey::parse(text.as_str().expect("a text")).expect("a public key")
}

fn signed_by(narinfo: &NarInfo, key: &PublicKey) -> bool {
    let fingerprint = narinfo.fingerprint();
    narinfo
        .signatures
        .iter()
        .any(|signature| signature.key_name == key.name() && key.verify(&fingerprint, signature))
}

both_modes! {
    async fn a_new_key_signs_and_the_former_ones_signatures_stay(mode) {
        let upstream_key = UpstreamKey::new("upstream-1");
        let [old, new] = [1, 2].map(|seed| Fixture::new("hello-1.0").seed(seed).build(&upstream_key));
        let upstream = Upstream::with(&[&old, &new]).await;
        let cluster = Cluster::of(mode, &upstream, &upstream_key).await;
        let cli = cli(&cluster);
        cluster.narinfo(&old).await;
        cluster.fetch(&old.nar_path()).await;
        cluster.quiet().await;
        let rotated = cli.json(&["key", "rotate"]).await;
        let (first, second) = (key(&rotated["former"][0]["key"]), key(&rotated["signing"]));
        assert_eq!((first.name(), second.name()), ("cache.test", "cache.test-2"));

        eventually("the edge has heard of it", async || {
            cluster.get("/pubkey").await.text().await.trim() == second.to_string()
        })
        .await;
        let served = cluster.narinfo(&old).await;
        assert!(signed_by(&served, &first) && signed_by(&served, &second), "{}", served.render());
        let served = cluster.narinfo(&new).await;
        assert!(!signed_by(&served, &first) && signed_by(&served, &second), "{}", served.render());
        assert_eq!(upstream.count("GET", "/nar/"), 1, "nothing is fetched again");
        assert_eq!(cli.ok(&["key", "show"]).await.trim(), second.to_string());
        assert_eq!(cli.ok(&["key", "export"]).await, format!("{second}\n{first}\n"));
        let line = format!("trusted-public-keys = {second} {first} {}\n", upstream_key.public());
        assert_eq!(cli.ok(&["key", "nix-conf"]).await, line, "the upstreams' keys belong to it");

        let builder = Cluster::builder(mode).upstream(&upstream).trust(&upstream_key);
        let cluster = cluster.restart(builder).await;
        assert_eq!(cluster.get("/pubkey").await.text().await.trim(), second.to_string());
        let served = cluster.narinfo(&old).await;
        assert!(signed_by(&served, &first) && signed_by(&served, &second), "{}", served.render());
        let named = cli.json(&["key", "rotate", "--name=third"]).await;
        assert_eq!((key(&named["signing"]).name(), named["former"].as_array().map(Vec::len)), ("third", Some(2)));
        let again = cli.run(&["key", "rotate", "--name=cache.test"]).await;
        assert!(again.code == 2 && again.said.contains("one key per name"), "{again:?}");
        cluster.end().await;
    }

    async fn a_rotation_is_in_the_audit_log_and_the_secret_nowhere(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let cli = cli(&cluster);
        let folder = tempfile::tempdir().expect("a directory");
        let to = folder.path().join("exported");
        let to_text = to.display().to_string();
        cli.ok(&["key", "rotate"]).await;
        assert_eq!(cli.ok(&["key", "export", "--secret", "--to", &to_text]).await, "");
        assert_eq!(std::fs::metadata(&to).expect("made").permissions().mode() & 0o777, 0o600);
        let secret = std::fs::read_to_string(&to).expect("readable");
        let secret = SecretKey::parse(secret.trim()).expect("a secret key");
        assert_eq!(secret.public().to_string(), cli.ok(&["key", "show"]).await.trim());
        let refused = cli.run(&["key", "export", "--secret", "--to", &to_text]).await;
        assert!(refused.code == 2 && refused.said.contains("is there already"), "{refused:?}");
        assert_eq!(cli.run(&["key", "export", "--secret"]).await.code, 2, "not to the terminal");

        let audit = cli.clone().flag("--output=json").ok(&["events", "--audit"]).await;
        let audit: Vec<serde_json::Value> =
            audit.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        let kinds: Vec<_> = audit.iter().map(|event| event["kind"].as_str().expect("a kind")).collect();
        assert_eq!(kinds, ["key-rotated", "key-exported"], "a refused export is none");
        let uid = format!("uid {}", rustix::process::getuid().as_raw());
        assert!(audit.iter().all(|event| event["actor"] == uid.as_str()), "{audit:?}");
        assert!(audit[0]["detail"].as_str().expect("a text").contains("cache.test-2:"), "{audit:?}");
        let secret = secret.to_text();
        let secret = secret.split_once(':').expect("a name").1;
        assert!(!audit.iter().any(|event| event.to_string().contains(secret)));
        cluster.end().await;
    }

    async fn a_key_that_was_given_is_not_replaced(mode) {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("given.key").display().to_string();
        let made = Cli::new(UNDER_TEST).ok(&["key", "generate", "given-1", "--to", &file]).await;
        assert!(made.starts_with("given-1:"), "{made}");
        let again = Cli::new(UNDER_TEST).run(&["key", "generate", "given-1", "--to", &file]).await;
        assert_eq!(again.code, 2, "{again:?}");
        let upstream = Upstream::with(&[]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &UpstreamKey::new("u"))
            .control_flag(format!("--cache-secret-key-path={file}"))
            .started()
            .await;
        let cli = Cli::at(UNDER_TEST, &ncps.socket());
        assert_eq!(cli.ok(&["key", "show"]).await, made);
        let refused = cli.run(&["key", "rotate"]).await;
        assert!(refused.code == 2 && refused.said.contains("ncps-cli key generate"), "{refused:?}");
        assert_eq!(cli.ok(&["key", "show"]).await, made);
        let config = cli.json(&["config"]).await;
        let config = config.as_array().expect("a list");
        let hostname = config.iter().find(|one| one["flag"] == "cache-hostname").expect("it is set");
        assert_eq!((&hostname["value"], hostname["source"].is_string()), (&"cache.test".into(), true));
        ncps.terminate().await;
    }
}

#[tokio::test]
async fn what_shells_and_readers_need_is_made_from_the_commands() {
    let cli = Cli::new(UNDER_TEST);
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef ncps-cli"), ("fish", "complete -c ncps-cli")]
    {
        let script = cli.ok(&["completions", shell]).await;
        assert!(script.contains(mark) && script.contains("rotate"), "{shell}");
    }
    for (program, flag) in
        [("ncps", "cache-hostname"), ("ncps-edge", "edge-zone"), ("ncps-control", "control-addr")]
    {
        assert!(cli.ok(&["completions", "bash", "--for", program]).await.contains(flag), "{program}");
    }
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("man");
    cli.ok(&["man", &dir.display().to_string()]).await;
    let pages =
        ["ncps.1", "ncps-serve.1", "ncps-cli.1", "ncps-cli-key-rotate.1", "ncps-edge.1", "ncps-control.1"];
    for page in pages {
        assert!(dir.join(page).exists(), "{page}");
    }
}
