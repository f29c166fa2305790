//! NARs that lie elsewhere: behind redirects and absolute URLs, on hosts that learn nothing of our
//! credentials. Clients see neither. (PROTOCOL.md §11, lines 47 and 48.)

use ncps_proto::{Login, Secret};
use ncps_tests::{Cluster, Cut, Rule, Upstream, UpstreamKey, both_modes};

use crate::asking::get;
use crate::scene::{empty, is_refused, is_served, known, learn, plain};

/// `user:secret` as HTTP Basic says it.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

both_modes! {
    async fn line_47_redirects_to_another_host_are_followed(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let elsewhere = Upstream::start().await;
        for status in [301, 302, 303, 307, 308] {
            let fixture = plain(300_000).seed(status.into()).build(&key);
            learn(&cluster, std::slice::from_ref(&upstream), &fixture).await;
            elsewhere.put("/blob", fixture.file.clone());
            let target = format!("{}/blob?signed=1", elsewhere.url());
            upstream.script(Rule::on(&fixture.nar_path()).redirect(status, &target));
            is_served(&cluster, &fixture).await;
            assert_eq!(elsewhere.count("GET", "/blob"), 1, "{status}");
            elsewhere.forget();
        }
        cluster.end().await;
    }

    async fn line_47_a_redirected_body_that_is_cut_is_resumed_behind_the_redirect(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1_000_000)).await;
        let elsewhere = Upstream::with(&[&fixture]).await;
        let target = elsewhere.url() + &fixture.nar_path();
        upstream.script(Rule::on("/nar/*").redirect(302, &target));
        elsewhere.script(Rule::on("*").ranged(false).cut_after(400_000, Cut::Fin));
        is_served(&cluster, &fixture).await;
        let asked = elsewhere.requests();
        let ranges: Vec<_> = asked.iter().map(|seen| seen.range()).collect();
        assert_eq!(ranges, [None, Some("bytes=400000-")]);
        cluster.end().await;
    }

    async fn line_47_narinfos_are_redirected_like_nars_and_relative_targets_are_understood(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixture = plain(1000).build(&key);
        let elsewhere = Upstream::start().await;
        elsewhere.put("/info", fixture.narinfo_text());
        upstream.put("/files/one", fixture.file.clone());
        upstream.script(Rule::on("*.narinfo").redirect(302, &format!("{}/info", elsewhere.url())));
        upstream.script(Rule::on("/nar/*").redirect(302, "../files/one"));
        cluster.narinfo(&fixture).await;
        is_served(&cluster, &fixture).await;
        assert_eq!(elsewhere.total(), 1);
        cluster.end().await;
    }

    async fn line_47_credentials_stay_with_their_host(mode) {
        let key = UpstreamKey::new("upstream-1");
        let fixture = plain(1000).build(&key);
        let (upstream, elsewhere) = (Upstream::with(&[&fixture]).await, Upstream::with(&[&fixture]).await);
        upstream.require_authorization(Some(BASIC));
        let login = Login { user: "user".to_owned(), password: Secret::new("secret") };
        let builder = Cluster::builder(mode).upstream(&upstream).trust(&key);
        let cluster = builder.settings(|settings| settings.upstreams[0].login = Some(login)).start().await;
        cluster.narinfo(&fixture).await;
        upstream.script(Rule::on("/nar/*").redirect(302, &(elsewhere.url() + &fixture.nar_path())));
        is_served(&cluster, &fixture).await;
        assert!(upstream.requests().iter().all(|seen| seen.headers.get("Authorization") == Some(BASIC)));
        assert_eq!(elsewhere.total(), 1);
        assert!(!elsewhere.requests()[0].headers.has("Authorization"));
        cluster.end().await;
    }

    async fn line_47_redirects_without_end_are_a_502(mode) {
        let (cluster, [upstream], fixture) = known(mode, plain(1000)).await;
        let circle = upstream.script(Rule::on("/nar/*").redirect(302, &fixture.nar_path()));
        is_refused(&cluster, &fixture, 502).await;
        circle.remove();
        upstream.script(Rule::on("/nar/*").redirect(302, "ftp://127.0.0.1/x"));
        is_refused(&cluster, &fixture, 502).await;
        cluster.end().await;
    }

    async fn line_47_who_is_redirected_to_nothing_finds_nothing(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let fixture = plain(1000).build(&key);
        let elsewhere = Upstream::start().await;
        upstream.script(Rule::on("*").redirect(302, &format!("{}/nothing", elsewhere.url())));
        assert_eq!(get(&cluster, &fixture.narinfo_path()).await.status, 404);
        assert_eq!(get(&cluster, &fixture.nar_path()).await.status, 404);
        cluster.end().await;
    }

    async fn line_48_an_absolute_url_is_ours_towards_clients(mode) {
        let (cluster, [upstream], key) = empty(mode).await;
        let elsewhere = Upstream::start().await;
        let url = format!("{}/blobs/7?x=y", elsewhere.url());
        let fixture = plain(1_000_000).url(&url).build(&key);
        elsewhere.put("/blobs/7?x=y", fixture.file.clone());
        elsewhere.require_queries(true);
        elsewhere.script(Rule::on("*").ranged(false).cut_after(400_000, Cut::Fin));
        upstream.add(&fixture);
        let served = cluster.narinfo(&fixture).await;
        assert_eq!(format!("/{}", served.url), fixture.canonical_nar_path());
        let told = get(&cluster, &fixture.canonical_nar_path()).await;
        assert!(told.status == 200 && told.body == fixture.file.to_bytes());
        cluster.quiet().await;
        assert!(cluster.stores(&fixture.canonical_nar_path()));
        let asked: Vec<_> = elsewhere.requests().into_iter().map(|seen| (seen.path, seen.query)).collect();
        assert_eq!(asked, vec![("/blobs/7".to_owned(), Some("x=y".to_owned())); 2], "once more with a range");
        assert_eq!(upstream.count("GET", "/nar/"), 0);
        cluster.end().await;
    }
}
