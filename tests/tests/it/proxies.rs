//! Upstreams that are reached through an HTTP proxy, which the usual variables name: what is plain is asked of the
//! proxy, what is HTTPS through it.

use std::path::{Path, PathBuf};

use ncps_tests::{Fixture, Front, Rule, Tunnel, Upstream, UpstreamKey, both_modes};

use crate::upstream_flags::{installation, serves};

both_modes! {
    async fn an_upstream_behind_a_proxy_is_asked_through_it(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let (proxy, direct) = (Upstream::with(&[&fixture]).await, Upstream::start().await);
        // The proxy knows the name, this machine need not; and it decides where redirects may lead.
        proxy.script(Rule::on(&fixture.nar_path()).times(1).redirect(302, "http://10.255.255.1/elsewhere"));
        proxy.put("/elsewhere", fixture.file.clone());
        let ncps = installation(mode, "http://cache.invalid", &key).variable("http_proxy", &proxy.url());
        let ncps = ncps.control_flag(format!("--upstream-cache={}", direct.url())).variable("no_proxy", "127.0.0.1");
        let mut ncps = ncps.started().await;
        serves(&ncps, &fixture).await;
        assert_eq!(ncps.fetch(&Fixture::new("absent-1.0").build(&key).narinfo_path()).await.0, 404);
        ncps.terminate().await;
        let seen = proxy.requests();
        let hosts: Vec<_> = seen.iter().filter_map(|seen| seen.headers.get("Host")).collect();
        assert_eq!(hosts, ["cache.invalid", "cache.invalid", "10.255.255.1", "cache.invalid"]);
        assert_eq!(direct.total(), 1, "an exception is asked directly");
    }

    async fn an_https_upstream_behind_a_proxy_is_asked_through_a_tunnel(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let front = Front::of(&upstream).named("cache.invalid").start().await;
        let tunnel = Tunnel::to(front.addr()).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ca_file = format!("--upstream-ca-file={}", written(dir.path(), &front.authority().root()).display());
        let plain = || installation(mode, "https://cache.invalid", &key);
        let proxied = || plain().variable("https_proxy", &tunnel.url());
        for (ncps, why) in [
            (plain().control_flag(&ca_file), "only the proxy knows the name"),
            (proxied(), "nobody vouches for the certificate"),
        ] {
            let mut ncps = ncps.started().await;
            assert_eq!(ncps.fetch(&fixture.narinfo_path()).await.0, 502, "{why}");
            ncps.terminate().await;
        }
        assert_eq!(upstream.total(), 0, "nobody came so far");
        let mut ncps = proxied().control_flag(ca_file).started().await;
        serves(&ncps, &fixture).await;
        ncps.terminate().await;
        let asked = tunnel.asked();
        let tunnels = asked.iter().all(|line| line == "CONNECT cache.invalid:443 HTTP/1.1");
        assert!(tunnels && !asked.is_empty(), "{asked:?}");
        let seen = upstream.requests();
        let asked = seen.iter().filter(|seen| seen.method == "GET");
        let hosts: Vec<_> = asked.filter_map(|seen| seen.headers.get("Host")).collect();
        assert_eq!(hosts, ["cache.invalid", "cache.invalid"], "narinfo and NAR");
    }
}

fn written(dir: &Path, pem: &str) -> PathBuf {
    let path = dir.join("ca.pem");
    std::fs::write(&path, pem).expect("room");
    path
}
