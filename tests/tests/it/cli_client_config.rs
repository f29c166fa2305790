//! `ncps-cli client-config`: what it prints and writes is what a real Nix substitutes with.

use std::os::unix::fs::PermissionsExt;

use ncps_tests::{Cli, Cluster, Fixture, Nix, Upstream, UpstreamKey, both_modes};

use crate::cli::cli;

/// Takes over the lines of a `nix.conf` into the one of this machine, but for `extra-`: it has nothing else there.
fn configure(nix: &Nix, lines: &str) {
    for line in lines.lines() {
        let (name, value) = line.split_once(" = ").expect("a setting");
        nix.set(name.trim_start_matches("extra-"), value);
    }
}

async fn is_refused(cli: &Cli, args: &[&str], why: &str) {
    let refused = cli.run(args).await;
    assert!(refused.code == 2 && refused.said.contains(why), "{args:?}: {refused:?}");
}

both_modes! {
    async fn a_real_nix_substitutes_with_it(mode) {
        let Some(nix) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("private-1.0").at(nix.unbuildable("private-1.0").await).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let (cli, url) = (cli(&cluster), format!("http://{}", cluster.addr));
        let open = cli.ok(&["client-config", &url]).await;
        assert!(!open.contains("netrc"), "everybody reads: {open}");
        is_refused(&cli, &["client-config", &url, "--form=netrc"], "no netrc file is needed").await;

        let at = |name: &str| nix.home().join(name).display().to_string();
        let (token, netrc, conf) = (at("token"), at("netrc"), at("ncps.conf"));
        cli.ok(&["token", "create", "laptop", "--scope=read", "--yes", "--to", &token]).await;
        assert!(cli.ok(&["client-config", &url]).await.contains("machine 127.0.0.1 login nix password TOKEN"));
        cli.ok(&["client-config", &url, "--form=nix-conf", "--to", &conf]).await;
        cli.ok(&["client-config", &url, "--form=netrc", "--read-token-file", &token, "--to", &netrc]).await;
        let mode = std::fs::metadata(&netrc).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it has a secret");
        is_refused(&cli, &["client-config", &url, "--form=netrc", "--to", &netrc], "is there already").await;
        is_refused(&cli, &["client-config", &url, "--read-token-file", &netrc], "no token has").await;

        configure(&nix, &std::fs::read_to_string(&conf).expect("written"));
        nix.build_unbuildable("private-1.0").await.failed();
        nix.set("netrc-file", &netrc);
        nix.forget_narinfos();
        nix.build_unbuildable("private-1.0").await.ok();
        cluster.end().await;
    }

    async fn snippets_are_of_the_nix_language_and_name_all_keys(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::start().await;
        let cluster = Cluster::of(mode, &upstream, &key).await;
        let cli = cli(&cluster);
        let all = cli.json(&["client-config", "https://cache.lan/", "--priority=30"]).await;
        let ours = cluster.get("/pubkey").await.text().await;
        assert_eq!(all["substituter"], "https://cache.lan?priority=30");
        assert_eq!(all["trusted_public_keys"], serde_json::json!([ours.trim(), key.public().to_string()]));
        for form in ["nixos", "flake"] {
            let text = cli.ok(&["client-config", "https://cache.lan/", "--priority=30", "--form", form]).await;
            assert_eq!(Some(text.as_str()), all[form].as_str());
            assert!(text.contains(ours.trim()) && text.contains(&key.public().to_string()), "{text}");
            if let Some(nix) = Nix::find() {
                nix.run("nix-instantiate", &["--eval", "--strict", "-E", &format!("{{ {text} }}")]).await.ok();
            }
        }
        is_refused(&cli, &["client-config", "cache.lan"], "begins with http:// or https://").await;
        is_refused(&cli, &["client-config", "http://me:secret@cache.lan"], "logins belong into the netrc").await;
        is_refused(&cli, &["client-config", "http://cache.lan", "--to=x"], "--form").await;
        cluster.end().await;
    }
}
