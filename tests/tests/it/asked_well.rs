//! How upstreams are asked: who we are to them, in what order, what they may send it wrapped in, and the pauses
//! that they ask for. (PROTOCOL.md §11, lines 49 and 50.)

use std::time::Duration;

use ncps_nix::Compression;
use ncps_proto::{Login, NetrcEntry, Secret};
use ncps_tests::{Cluster, Cut, Fixture, Framing, Rule, Upstream, UpstreamKey, both_modes, eventually};

use crate::asking::{get, head};
use crate::scene::{empty, empty_with, impatient, is_refused, is_served, known, learn, plain};

/// `user:secret` and `s3:key` as HTTP Basic says them.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";
const BASIC_S3: &str = "Basic czM6a2V5";

both_modes! {
    async fn a_login_opens_a_private_upstream(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        upstream.put(&format!("/{}.ls", fixture.hash_part()), "{}");
        upstream.require_authorization(Some(BASIC));
        let cluster = Cluster::of(mode, &upstream, &key).await;
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 502, "closed is not absent");
        cluster.end().await;
        let builder = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder.settings(|s| s.upstreams[0].login = Some(login("user", "secret"))).start().await;
        assert_eq!(head(&cluster, &fixture.canonical_nar_path()).await.status, 200);
        cluster.narinfo(&fixture).await;
        upstream.script(Rule::on("/nar/*").times(1).cut_after(100_000, Cut::Fin));
        is_served(&cluster, &fixture).await;
        assert_eq!(get(&cluster, &format!("/{}.ls", fixture.hash_part())).await.status, 200);
        cluster.end().await;
    }

    async fn netrc_knows_the_upstream_and_whom_it_sends_us_to(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(300_000).build(&key);
        let (upstream, elsewhere) = (Upstream::with(&[&fixture]).await, Upstream::with(&[&fixture]).await);
        upstream.require_authorization(Some(BASIC));
        elsewhere.require_authorization(Some(BASIC_S3));
        let target = format!("http://localhost:{}{}", elsewhere.addr().port(), fixture.nar_path());
        let netrc = vec![entry("127.0.0.1", "user", "secret"), entry("localhost", "s3", "key")];
        let builder = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder.settings(|s| s.outward.netrc = netrc).start().await;
        cluster.narinfo(&fixture).await;
        upstream.script(Rule::on("/nar/*").redirect(302, &target));
        is_served(&cluster, &fixture).await;
        assert_eq!(elsewhere.total(), 1);
        cluster.end().await;
    }

    async fn nobody_is_sent_to_a_metadata_service(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let target = "http://169.254.169.254/latest/meta-data/";
        let by_redirect = plain(1000).build(&key);
        learn(&cluster, std::slice::from_ref(&upstream), &by_redirect).await;
        upstream.script(Rule::on(&by_redirect.nar_path()).redirect(302, target));
        is_refused(&cluster, &by_redirect, 502).await;
        let by_url = plain(1000).seed(1).url(target).build(&key);
        upstream.add(&by_url);
        cluster.narinfo(&by_url).await;
        assert_eq!(get(&cluster, &by_url.canonical_nar_path()).await.status, 502);
        let narinfo = plain(1000).seed(2).build(&key);
        upstream.script(Rule::on(&narinfo.narinfo_path()).redirect(307, target));
        assert_eq!(get(&cluster, &narinfo.narinfo_path()).await.status, 502);
        // Who sends us there is not down for it.
        let good = plain(1000).seed(3).build(&key);
        upstream.add(&good);
        cluster.narinfo(&good).await;
        cluster.end().await;
    }

    async fn among_equals_who_answers_fast_is_asked_first(mode) {
        let equal = |settings: &mut ncps_proto::EdgeSettings| settings.upstreams.iter_mut().for_each(|u| u.priority = 1);
        let (cluster, [slow, fast], key) = empty_with(mode, equal).await;
        slow.script(Rule::on("*").delay(Duration::from_millis(150)));
        let mut seed = 0;
        let learned = async || {
            seed += 1;
            let fixture = plain(100).seed(seed).build(&key);
            slow.add(&fixture);
            fast.add(&fixture);
            slow.forget();
            fast.forget();
            cluster.narinfo(&fixture).await;
            (slow.total(), fast.total()) == (0, 1)
        };
        eventually("the fast one is asked, and it alone", learned).await;
        cluster.end().await;
    }

    async fn line_49_a_nar_that_comes_encoded_is_decoded(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        for (seed, framing) in [Framing::Length, Framing::Chunked, Framing::Close].into_iter().enumerate() {
            let fixture = plain(400_000).compressible().seed(seed as u64).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            let encoded = upstream.script(Rule::on("/nar/*").zstd_if_accepted().framing(framing));
            is_served(&cluster, &fixture).await;
            assert_eq!(encoded.hits(), 1);
            let told = get(&cluster, &fixture.nar_path()).await;
            assert_eq!(told.header("Content-Encoding"), None);
            let asked = upstream.requests_to("/nar/");
            assert_eq!(asked[0].headers.get("Accept-Encoding"), Some("zstd"));
            assert!(asked[0].sent < 200_000, "{} bytes are not encoded", asked[0].sent);
            encoded.remove();
            upstream.forget();
        }
        cluster.end().await;
    }

    async fn line_49_an_encoded_body_that_is_cut_goes_on_where_it_was(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(2_000_000)).await;
        upstream.script(Rule::on("/nar/*").zstd_if_accepted());
        upstream.script(Rule::on("/nar/*").times(1).cut_after(1_000_000, Cut::Fin));
        is_served(&cluster, &fixture).await;
        let asked = upstream.requests_to("/nar/");
        assert_eq!(asked.len(), 2);
        assert!(asked[1].range().is_some() && asked[1].headers.get("Accept-Encoding") == Some("identity"));
        cluster.end().await;
    }

    async fn line_49_who_encodes_always_and_knows_no_ranges_is_read_anew(mode) {
        for (seed, rule) in [Rule::on("/nar/*").zstd(), Rule::on("/nar/*").zstd_if_accepted()].into_iter().enumerate() {
            let (cluster, [upstream], fixture) = known(mode, plain(2_000_000).seed(seed as u64)).await;
            upstream.script(rule.ignore_range());
            upstream.script(Rule::on("/nar/*").times(1).cut_after(1_000_000, Cut::Fin));
            is_served(&cluster, &fixture).await;
            assert_eq!(upstream.count("GET", "/nar/"), 2);
            cluster.end().await;
        }
    }

    async fn line_49_what_is_encoded_unasked_is_refused(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixture = Fixture::new("xz-1.0").compression(Compression::Xz).build(&key);
        learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
        upstream.script(Rule::on("/nar/*").zstd());
        is_refused(&cluster, &fixture, 502).await;
        cluster.end().await;
    }

    async fn a_narinfo_that_comes_encoded_is_decoded(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        upstream.script(Rule::on("*.narinfo").zstd());
        let fixture = plain(1000).build(&key);
        upstream.add(&fixture);
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        let bomb = plain(1000).seed(1).build(&key);
        upstream.put(&bomb.narinfo_path(), bytes::Bytes::from(vec![b'x'; 50 << 20]));
        assert_eq!(get(&cluster, &bomb.narinfo_path()).await.status, 502);
        cluster.end().await;
    }

    async fn line_50_who_asks_for_a_pause_gets_it(mode) {
        for status in [429, 503] {
            let (cluster, [busy, second], key) = empty(mode).await;
            let fixtures: Vec<_> = (0..20).map(|seed| plain(1000).seed(seed).build(&key)).collect();
            for fixture in &fixtures {
                busy.add(fixture);
                second.add(fixture);
            }
            busy.script(Rule::on("*").status(status).header("Retry-After", "100"));
            for fixture in &fixtures {
                cluster.narinfo(fixture).await;
                is_served(&cluster, fixture).await;
            }
            assert_eq!(busy.total(), 1, "{:?}", busy.requests());
            second.down().await;
            let absent = plain(1000).seed(100).build(&key);
            assert_eq!(get(&cluster, &absent.narinfo_path()).await.status, 502, "never 429");
            cluster.end().await;
        }
    }

    async fn line_50_a_short_pause_is_waited_for(mode) {
        let (cluster, [busy], key) = empty(mode).await;
        let fixture = plain(1000).build(&key);
        busy.add(&fixture);
        busy.script(Rule::on("*.narinfo").times(1).status(429).header("Retry-After", "1"));
        cluster.narinfo(&fixture).await;
        busy.script(Rule::on("/nar/*").times(1).status(503).header("Retry-After", "1"));
        is_served(&cluster, &fixture).await;
        assert_eq!(busy.total(), 4);
        cluster.end().await;
    }

    async fn line_50_one_failure_of_a_server_is_asked_about_once_more(mode) {
        for status in [500, 502, 504] {
            let (cluster, [failing], key) = empty(mode).await;
            let fixture = plain(1000).build(&key);
            failing.add(&fixture);
            failing.script(Rule::on("*.narinfo").times(1).status(status));
            cluster.narinfo(&fixture).await;
            failing.script(Rule::on("/nar/*").times(1).status(status));
            is_served(&cluster, &fixture).await;
            assert_eq!(failing.total(), 4, "{status}: {:?}", failing.requests());
            cluster.end().await;
        }
    }

    async fn line_50_a_pause_is_for_all_who_ask(mode) {
        let (cluster, [busy], key) = empty(mode).await;
        let fixtures: Vec<_> = (0..50).map(|seed| plain(1000).seed(seed).build(&key)).collect();
        fixtures.iter().for_each(|fixture| busy.add(fixture));
        busy.script(Rule::on("*.narinfo").times(3).status(429).header("Retry-After", "1"));
        let paths: Vec<_> = fixtures.iter().map(Fixture::narinfo_path).collect();
        let answers = futures::future::join_all(paths.iter().map(|path| get(&cluster, path))).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200; 50]);
        busy.script(Rule::on("/nar/*").times(3).status(503).header("Retry-After", "1"));
        let paths: Vec<_> = fixtures.iter().map(Fixture::nar_path).collect();
        let answers = futures::future::join_all(paths.iter().map(|path| get(&cluster, path))).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200; 50]);
        cluster.end().await;
    }

    async fn who_is_silent_is_noticed_although_another_one_answers(mode) {
        let hedged = |settings: &mut ncps_proto::EdgeSettings| {
            impatient(settings);
            settings.hedge_delay = Duration::from_millis(50);
        };
        let (cluster, [silent, other], key) = empty_with(mode, hedged).await;
        silent.blackhole();
        let mut seed = 0;
        let left_alone = async || {
            seed += 1;
            let fixture = plain(100).seed(seed).build(&key);
            other.add(&fixture);
            cluster.narinfo(&fixture).await;
            cluster.edge.current.get().expect("configured").upstreams.breakers()[0].1 > 0
        };
        eventually("nobody pays for it any more", left_alone).await;
        cluster.end().await;
    }

    async fn a_nar_is_sought_at_whoever_has_it_in_another_shape(mode) {
        let (cluster, [opaque, other], key) = empty(mode).await;
        let shape = || Fixture::new("two-shapes-1.0").size(200_000).compressible();
        let bare = shape().compression(Compression::Zstd).url("nar/0193").without_file_fields().build(&key);
        let named = shape().compression(Compression::Xz).build(&key);
        opaque.add(&bare);
        let url = format!("/{}", cluster.narinfo(&bare).await.url);
        other.add(&named);
        opaque.down().await;
        let told = get(&cluster, &url).await;
        assert_eq!(told.status, 200);
        assert!(told.body == bare.nar.to_bytes());
        cluster.end().await;
    }

    async fn an_upstream_without_a_trusted_key_is_used_only_where_that_is_allowed(mode) {
        let (cluster, [upstream], _) = empty(mode).await;
        let stranger = UpstreamKey::new("stranger-1");
        let foreign = plain(1000).build(&stranger);
        upstream.add(&foreign);
        assert_eq!(get(&cluster, &foreign.narinfo_path()).await.status, 502);
        cluster.end().await;
        let allowed = |settings: &mut ncps_proto::EdgeSettings| settings.upstreams[0].unsigned = true;
        let (cluster, [upstream], key) = empty_with(mode, allowed).await;
        let (unsigned, signed) = (plain(1000).seed(2).build_unsigned(), plain(1000).seed(3).build(&key));
        for fixture in [&foreign, &unsigned, &signed] {
            upstream.add(fixture);
        }
        let names = async |fixture: &Fixture| {
            let narinfo = cluster.narinfo(fixture).await;
            is_served(&cluster, fixture).await;
            narinfo.signatures.into_iter().map(|s| s.key_name).collect::<Vec<_>>()
        };
        assert_eq!(names(&foreign).await, ["stranger-1"], "passed on, not signed by us");
        assert_eq!(names(&unsigned).await, Vec::<String>::new());
        assert_eq!(names(&signed).await, ["upstream-1", "cache.test"]);
        cluster.end().await;
    }
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.to_owned(), password: Secret::new(password) }
}

fn entry(host: &str, user: &str, password: &str) -> NetrcEntry {
    NetrcEntry { host: Some(host.to_owned()), login: login(user, password) }
}
