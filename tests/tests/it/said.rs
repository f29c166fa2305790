//! What the log says of an upstream that sends us away, floods us or drips: who did it, and why it is of no use.

use ncps_nix::Compression;
use ncps_tests::{Fixture, Installation, Request, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::processes::UNDER_TEST;

/// A path, one upstream that has it, and an installation that knows it.
async fn scene(mode: ncps_tests::Mode, flags: &[&str]) -> (Installation, Upstream, Fixture) {
    let key = UpstreamKey::new("upstream-1");
    let fixture = Fixture::new("hello-1.0").size(30_000).compression(Compression::None).build(&key);
    let upstream = Upstream::with(&[&fixture]).await;
    let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key);
    let ncps = flags.iter().fold(ncps, |ncps, flag| ncps.control_flag(*flag)).started().await;
    (ncps, upstream, fixture)
}

/// The rule makes a narinfo useless, and this is said of the upstream in one line.
async fn is_said_of_a_narinfo(mode: ncps_tests::Mode, rule: Rule, why: &str) {
    let (mut ncps, upstream, fixture) = scene(mode, &[]).await;
    upstream.script(rule);
    assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 502, "{why}");
    is_said(&mut ncps, &upstream, "an upstream's narinfo is not used", why).await;
}

/// The same of a NAR.
async fn is_said_of_a_nar(mode: ncps_tests::Mode, rule: Rule, why: &str) {
    let (mut ncps, upstream, fixture) = scene(mode, &[]).await;
    assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200);
    upstream.script(rule);
    assert_eq!(ncps.get(&fixture.nar_path()).await.status, 502, "{why}");
    is_said(&mut ncps, &upstream, "a source of a NAR failed", why).await;
}

async fn is_said(ncps: &mut Installation, upstream: &Upstream, what: &str, why: &str) {
    let line = ncps.edge().line_with(what).await;
    assert!(line.contains("\"WARN\"") && line.contains(why), "{line}");
    assert!(line.contains(&upstream.addr().to_string()), "which upstream: {line}");
    ncps.terminate().await;
}

/// Where the machines of clouds keep their secrets.
const METADATA: &str = "http://169.254.169.254/latest/meta-data/";
const FORBIDDEN: &str = "169.254.169.254 is at 169.254.169.254, where an upstream may not send us";

both_modes! {
    async fn a_forbidden_redirect(mode) {
        is_said_of_a_narinfo(mode, Rule::on("*.narinfo").redirect(302, METADATA), FORBIDDEN).await;
        is_said_of_a_nar(mode, Rule::on("/nar/*").redirect(302, METADATA), FORBIDDEN).await;
    }

    async fn redirects_without_end(mode) {
        let why = "more than 10 redirects";
        is_said_of_a_narinfo(mode, Rule::on("*.narinfo").redirect(302, "again.narinfo"), why).await;
        is_said_of_a_nar(mode, Rule::on("/nar/*").redirect(302, "again"), why).await;
    }

    async fn a_drip(mode) {
        let why = "the body stalled";
        let (mut ncps, upstream, fixture) = scene(mode, &["--upstream-idle-timeout=2s"]).await;
        upstream.script(Rule::on("*.narinfo").times(1).throttle(4));
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 504);
        let line = ncps.edge().line_with("an upstream's narinfo is not used").await;
        assert!(line.contains("\"WARN\"") && line.contains(why), "{line}");
        upstream.script(Rule::on("/nar/*").throttle(1000));
        let known = async || ncps.get(&fixture.narinfo_path()).await.status == 200;
        eventually("it is asked again", known).await;
        assert_eq!(ncps.get(&fixture.nar_path()).await.status, 504);
        is_said(&mut ncps, &upstream, "a source of a NAR failed", why).await;
    }

    async fn what_comes_back_to_us(mode) {
        let (mut ncps, upstream, fixture) = scene(mode, &[]).await;
        assert_eq!(ncps.get(&fixture.narinfo_path()).await.status, 200);
        let ourselves = upstream.requests()[0].headers.get("Via").expect("we say who asks").to_owned();
        let absent = Fixture::new("absent-1.0").build_unsigned();
        for _ in 0..2 {
            let back = Request::get(&absent.narinfo_path()).header("Via", &ourselves);
            assert_eq!(back.send(ncps.addr()).await.expect("an answer").status, 404);
        }
        let what = "a request came back to the cache that it came through";
        let line = ncps.edge().line_with(what).await;
        assert!(line.contains("\"WARN\"") && line.contains("--upstream-cache"), "{line}");
        let said = ncps.edge().lines().iter().filter(|line| line.contains(what)).count();
        assert_eq!(said, 1, "once is enough");
        ncps.terminate().await;
    }

    async fn a_flood(mode) {
        let flood = Rule::on("*.narinfo").body("StorePath: x\n".repeat(200_000));
        is_said_of_a_narinfo(mode, flood, "the narinfo is longer than 1 MiB").await;
        let flood = Rule::on("/nar/*").framing(ncps_tests::Framing::Chunked).extra(3_000_000);
        is_said_of_a_nar(mode, flood, "more bytes than expected").await;
    }
}
