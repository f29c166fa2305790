//! `/` of an edge: JSON as the Go original has it, and for browsers a page that says how to point Nix at the cache. It
//! changes nothing for anybody else.

use data_encoding::BASE64;
use ncps_nix::Sha256Hash;
use ncps_proto::Scope;
use ncps_tests::{Cluster, Mode, Request, both_modes};

use crate::asking::{Answer, ask, get};
use crate::scene::empty;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn browse(cluster: &Cluster) -> Answer {
    ask(cluster, Request::get("/").header("Accept", BROWSER)).await
}

fn is_json(answer: &Answer) -> bool {
    answer.header("Content-Type") == Some("application/json") && answer.text().starts_with('{')
}

both_modes! {
    async fn a_browser_is_told_what_to_paste(mode) {
        let (cluster, [_], key) = empty::<1>(mode).await;
        let page = browse(&cluster).await;
        assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
        let (url, ours) = (cluster.url(), cluster.public_key().await.to_string());
        let upstream = key.public().to_string();
        for expected in [
            format!("extra-substituters = {url}\nextra-trusted-public-keys = {ours} {upstream}\n"),
            format!("nix.settings = &#123;\n  substituters = [\n    &quot;{url}&quot;\n  ];"),
            format!("nixConfig = &#123;\n  extra-substituters = [\n    &quot;{url}&quot;\n  ];"),
            format!("    &quot;{ours}&quot;\n    &quot;{upstream}&quot;\n  ];"),
        ] {
            assert!(page.text().contains(&expected), "{expected}: {}", page.text());
        }
        assert!(!page.text().contains("netrc"), "everybody reads");
        cluster.end().await;
    }

    async fn everybody_else_gets_the_json_of_before(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let plain = get(&cluster, "/").await;
        assert!(plain.status == 200 && is_json(&plain), "{plain:?}");
        for accept in ["*/*", "application/json", "application/json, text/html", "text/html;q=0, */*"] {
            let same = ask(&cluster, Request::get("/").header("Accept", accept)).await;
            assert_eq!((same.comparable(), same.body), (plain.comparable(), plain.body.clone()), "{accept}");
        }
        assert_eq!((plain.header("Vary"), browse(&cluster).await.header("Vary")), (Some("Accept"), Some("Accept")));
        for path in ["/nix-cache-info", "/pubkey", "/else"] {
            let (one, other) = (get(&cluster, path).await, ask(&cluster, Request::get(path).header("Accept", BROWSER)).await);
            assert_eq!((one.comparable(), one.body), (other.comparable(), other.body), "{path}");
        }
        cluster.end().await;
    }

    async fn it_can_be_switched_off(mode) {
        let cluster = Cluster::builder(mode).edge_config(|edge| edge.landing_page = false).start().await;
        assert!(is_json(&browse(&cluster).await));
        cluster.end().await;
    }

    async fn a_host_that_is_none_is_repeated_nowhere(mode) {
        let cluster = Cluster::builder(mode).start().await;
        for host in ["\"><script>alert(1)</script>", "a${b}", "me:secret@cache.lan", "cache.lan/?"] {
            let addr = cluster.addr;
            let mut connection = ncps_tests::Connection::open(addr).await.expect("connected");
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n");
            connection.write(head.as_bytes()).await.expect("written");
            let mut answer = connection.read().await.expect("answered");
            let text = answer.text().await;
            assert!(!text.contains("script") && !text.contains("secret") && !text.contains("${"), "{host}: {text}");
        }
        cluster.end().await;
    }

    async fn where_readers_need_a_token_it_is_shown_to_them_alone_and_says_so(mode) {
        let cluster = Cluster::builder(mode).token("s3cret", &[Scope::Read]).start().await;
        assert_eq!(browse(&cluster).await.status, 401);
        let login = BASE64.encode(b"me:s3cret");
        let request = Request::get("/").header("Accept", BROWSER);
        let page = ask(&cluster, request.header("Authorization", &format!("Basic {login}"))).await;
        assert!(page.text().contains("machine 127.0.0.1 login nix password TOKEN"), "{}", page.text());
        assert!(!page.text().contains("s3cret"));
        cluster.end().await;
    }
}

#[tokio::test]
async fn nothing_runs_in_it_and_nothing_is_loaded() {
    let cluster = Cluster::builder(Mode::Combined).start().await;
    let page = browse(&cluster).await;
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script"),
        "{policy}"
    );
    let (_, rest) = page.text().split_once("<style>").expect("a style");
    let (style, _) = rest.split_once("</style>").expect("closed");
    assert!(
        policy.contains(&BASE64.encode(Sha256Hash::of(style.as_bytes()).as_bytes())),
        "it is the style's hash"
    );
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert!(!page.text().contains("<script") && !page.text().contains("src="));
    cluster.end().await;
}
