//! A cache that not everybody may read: `--cache-get-token`. (PROTOCOL.md §11, line 65.)

use ncps_nix::PublicKey;
use ncps_proto::Scope;
use ncps_tests::{Cluster, Fixture, Installation, Mode, Nix, Request, Upstream, UpstreamKey, both_modes};

use crate::asking::ask;
use crate::processes::UNDER_TEST;
use crate::scene::plain;

/// `anybody:s3cret`, `anybody:wrong` and `s3cret:` as HTTP Basic says them.
const GOOD: &str = "Basic YW55Ym9keTpzM2NyZXQ=";
const WRONG: &str = "Basic YW55Ym9keTp3cm9uZw==";
const AS_USER: &str = "Basic czNjcmV0Og==";

async fn private(mode: Mode, upstream: &Upstream, key: &UpstreamKey) -> Cluster {
    let builder = Cluster::builder(mode).upstream(upstream).trust(key);
    builder.token("s3cret", &[Scope::Read]).start().await
}

both_modes! {
    async fn line_65_who_knows_no_token_reads_nothing(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(1000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = private(mode, &upstream, &key).await;
        let log = format!("/log/{}.drv", fixture.narinfo.store_path);
        upstream.put(&log, "a log");
        let (narinfo, nar) = (fixture.narinfo_path(), fixture.nar_path());
        let paths = ["/", "/nix-cache-info", "/pubkey", &narinfo, &nar, &log, "/unknown"];
        // Also of what is stored.
        for path in [&narinfo, &nar, &log] {
            assert_eq!(ask(&cluster, Request::get(path).header("Authorization", GOOD)).await.status, 200);
        }
        cluster.quiet().await;
        upstream.forget();
        for path in paths {
            for request in [Request::get(path), Request::head(path)] {
                let told = ask(&cluster, request.clone()).await;
                assert_eq!(told.status, 401, "{path}");
                let challenge = told.header("WWW-Authenticate").expect("Nix and browsers want to know");
                assert!(challenge.starts_with("Basic realm="), "{challenge}");
                for wrong in [WRONG, AS_USER, "Bearer wrong", "Basic", "s3cret"] {
                    let told = ask(&cluster, request.clone().header("Authorization", wrong)).await;
                    assert_eq!(told.status, 401, "{path} {wrong}");
                }
            }
        }
        assert_eq!(upstream.total(), 0);
        for path in ["/healthz", "/readyz"] {
            assert_eq!(ask(&cluster, Request::get(path)).await.status, 200, "{path}");
        }
        cluster.end().await;
    }

    async fn line_65_who_knows_it_reads_as_everybody_else(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let cluster = private(mode, &upstream, &key).await;
        for credentials in [GOOD, "Bearer s3cret"] {
            let get = |path: &str| ask(&cluster, Request::get(path).header("Authorization", credentials));
            assert_eq!(get(&fixture.narinfo_path()).await.status, 200);
            assert!(get(&fixture.nar_path()).await.body == fixture.file.to_bytes());
            assert_eq!(get(&Fixture::new("absent-1.0").build_unsigned().narinfo_path()).await.status, 404);
        }
        cluster.end().await;
    }

    async fn line_65_real_nix_reads_with_its_netrc_and_not_without(mode) {
        let Some(nix) = Nix::find() else { return };
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("private-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let mut ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
            .control_flag("--cache-get-token=s3cret")
            .flag("--log-level=debug")
            .started()
            .await;
        let about = Request::get("/pubkey").header("Authorization", "Bearer s3cret");
        let public = about.send(ncps.addr()).await.expect("it answers").text().await;
        nix.trust(&[PublicKey::parse(public.trim()).expect("a key")]);
        let netrc = nix.home().join("netrc");
        std::fs::write(&netrc, "machine 127.0.0.1 login me password wrong\n").expect("room");
        nix.set("netrc-file", netrc.display());
        nix.copy_from(&ncps.url(), &[fixture.store_path()]).await.failed();
        std::fs::write(&netrc, "machine 127.0.0.1 login me password s3cret\n").expect("room");
        nix.forget_narinfos();
        nix.copy_from(&ncps.url(), &[fixture.store_path()]).await.ok();
        nix.verify_own(fixture.store_path()).await.ok();
        ncps.terminate().await;
        let said = [ncps.edge().lines(), ncps.control().lines()].concat().join("\n");
        assert!(!said.contains("s3cret"), "{said}");
    }
}
