//! `ncps-cli` as a program: where it asks, what it prints, and how it ends.

use ncps_tests::{Cli, Cluster, Fixture, Installation, Mode, Upstream, UpstreamKey, both_modes};

use crate::processes::UNDER_TEST;

pub(crate) fn cli(cluster: &Cluster) -> Cli {
    Cli::at(UNDER_TEST, &cluster.socket())
}

both_modes! {
    async fn the_public_key_is_shown(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let key = cluster.get("/pubkey").await.text().await;
        assert!(key.starts_with("cache.test:"), "{key}");
        assert_eq!(cli(&cluster).ok(&["key", "show"]).await.trim(), key.trim());
        assert_eq!(cli(&cluster).json(&["key", "show"]).await["signing"], key.trim());
        cluster.end().await;
    }

    async fn where_nothing_is_signed_no_key_is_shown(mode) {
        let cluster = Cluster::builder(mode).without_signing().start().await;
        let ran = cli(&cluster).run(&["key", "show"]).await;
        assert_eq!((ran.code, ran.printed.as_str()), (1, ""));
        assert!(ran.said.contains("--cache-sign-narinfo=false"), "{ran:?}");
        cluster.end().await;
    }

    async fn it_asks_programs_that_run(mode) {
        let key = UpstreamKey::new("upstream-1");
        let upstream = Upstream::with(&[&Fixture::new("hello-1.0").build(&key)]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key).started().await;
        let public = ncps.public_key().await.to_string();
        assert_eq!(Cli::at(UNDER_TEST, &ncps.socket()).ok(&["key", "show"]).await.trim(), public);
        let place = format!("unix:{}", ncps.socket().display());
        let by_variable = Cli::new(UNDER_TEST).variable("NCPS_CONTROL", &place);
        assert_eq!(by_variable.ok(&["key", "show"]).await.trim(), public);
        ncps.terminate().await;
        assert!(!ncps.socket().exists());
        assert_eq!(by_variable.run(&["key", "show"]).await.code, 3);
    }
}

#[tokio::test]
async fn where_nobody_answers_it_names_the_places_that_it_tried() {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (run, state) = (at("run"), at("state"));
    let nowhere =
        Cli::new(UNDER_TEST).variable("RUNTIME_DIRECTORY", &run).variable("STATE_DIRECTORY", &state);
    let ran = nowhere.run(&["key", "show"]).await;
    assert_eq!((ran.code, ran.printed.as_str()), (3, ""));
    for place in [&run, &state] {
        assert!(ran.said.contains(&format!("{place}/control.sock: No such file")), "{}", ran.said);
    }
    assert!(ran.said.contains("NCPS_CONTROL"), "{}", ran.said);
}

#[tokio::test]
async fn bad_input_ends_with_2_and_help_with_0() {
    let cli = Cli::new(UNDER_TEST);
    for bad in
        [&["key", "shwo"][..], &["--control=ftp://x", "key", "show"], &["--output=xml", "key", "show"], &[]]
    {
        let ran = cli.run(bad).await;
        assert_eq!((ran.code, ran.printed.as_str()), (2, ""), "{bad:?}: {ran:?}");
    }
    assert_eq!(cli.clone().variable("NCPS_CONTROL", "nowhere").run(&["key", "show"]).await.code, 2);
    assert!(cli.ok(&["--help"]).await.contains("Exit codes"));
    assert_eq!(cli.run(&["--token-file=/no/such/file", "key", "show"]).await.code, 2);
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_does_not_keep_ncps_from_serving() {
    let key = UpstreamKey::new("upstream-1");
    let upstream = Upstream::with(&[&Fixture::new("hello-1.0").build(&key)]).await;
    let mut ncps = Installation::of(Mode::Combined, UNDER_TEST, &upstream, &key);
    std::fs::write(ncps.socket(), "no socket").expect("written");
    ncps.start().await;
    ncps.edge().line_with("going on without control's socket").await;
    assert_eq!(ncps.get("/nix-cache-info").await.status, 200);
    ncps.terminate().await;
}
