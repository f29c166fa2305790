//! The dashboard at control's HTTP port: who may look, what a browser is given, and that it shows live what
//! `ncps-cli stats` says. How it looks is tried with a browser (`tests/browser`).

use std::net::SocketAddr;

use ncps_proto::Secret;
use ncps_tests::{
    Cli, Fixture, Gate, Installation, Mode, Process, Request, ReservedPort, Response, Rule, Upstream,
    UpstreamKey, both_modes, eventually, eventually_some,
};
use serde_json::Value;

use crate::processes::UNDER_TEST;
use crate::tokens::basic;

/// Browsers that may look at once.
const MOST: usize = 16;

struct Scene {
    upstream: Upstream,
    fixture: Fixture,
    ncps: Installation,
    port: ReservedPort,
}

impl Scene {
    async fn new(mode: Mode) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture = Fixture::new("hello-1.0").size(300_000).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let port = ReservedPort::new();
        let ncps = Installation::of(mode, UNDER_TEST, &upstream, &key)
            .control_flag(format!("--control-http-addr={}", port.addr()));
        let mut ncps = ncps.started().await;
        ncps.control().answers(port.addr(), "/readyz").await;
        Scene { upstream, fixture, ncps, port }
    }

    fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    fn cli(&self) -> Cli {
        Cli::at(UNDER_TEST, &self.ncps.socket())
    }

    async fn token(&self, name: &str, scope: &str) -> Secret {
        let scope = format!("--scope={scope}");
        let made = self.cli().ok(&["token", "create", name, &scope, "--yes"]).await;
        Secret::new(made.trim_end())
    }

    async fn ask(&self, request: Request) -> Response {
        request.send(self.addr()).await.expect("answered")
    }

    async fn get(&self, path: &str, secret: &Secret) -> Response {
        self.ask(with(Request::get(path), secret)).await
    }

    async fn watch(&self, secret: &Secret) -> Watcher {
        let response = self.get("/events", secret).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("Content-Type"), Some("text/event-stream"));
        Watcher { response, text: String::new() }
    }

    async fn end(mut self) {
        self.ncps.terminate().await;
    }
}

fn with(request: Request, secret: &Secret) -> Request {
    request.header("Authorization", &basic(secret.reveal()))
}

/// Who reads server-sent events.
struct Watcher {
    response: Response,
    text: String,
}

impl Watcher {
    /// The next one of this name. `None` where the stream has ended.
    async fn next(&mut self, name: &str) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (said, data) = event.split_once("\ndata: ").expect("a name, then data");
                let found = (said == format!("event: {name}")).then(|| data.to_owned());
                self.text = rest.to_owned();
                if let Some(data) = found {
                    return Some(serde_json::from_str(&data).expect("JSON"));
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// What is shown as soon as it is like this.
    async fn shows(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..30 {
            let now = self.next("now").await.expect("it goes on");
            if fits(&now) {
                return now;
            }
        }
        panic!("it does not show {what}");
    }
}

/// An edge tells what it counted within ten seconds.
async fn counted(scene: &Scene, fits: impl Fn(&Value) -> bool) -> Value {
    eventually_some("the numbers", async || Some(scene.cli().json(&["stats"]).await).filter(&fits)).await
}

both_modes! {
    async fn only_a_token_of_an_administrator_opens_it(mode) {
        let scene = Scene::new(mode).await;
        for (path, asks) in [("/", "Basic realm="), ("/page.js", "Basic realm="), ("/events", "Bearer realm=")] {
            let mut refused = scene.ask(Request::get(path)).await;
            assert_eq!(refused.status, 401, "{path}");
            let challenge = refused.header("WWW-Authenticate").expect("a browser asks for it").to_owned();
            assert!(challenge.starts_with(asks), "{path}: {challenge}");
            let how = refused.text().await;
            assert!(how.contains("ncps-cli token create dashboard --scope admin"), "{how}");
        }
        let [admin, reader] = [scene.token("ops", "admin").await, scene.token("laptop", "read").await];
        for (secret, why) in [(&reader, "no token of scope admin"), (&Secret::new("ncps_guess"), "not known")] {
            let mut refused = scene.get("/", secret).await;
            let told = refused.text().await;
            assert!(refused.status == 401 && told.contains(why), "{told}");
        }
        let turned_away = scene.cli().ok(&["edges"]).await;
        assert!(turned_away.contains("127.0.0.1") && turned_away.contains("admin"), "{turned_away}");
        let bearer = Request::get("/").header("Authorization", &format!("Bearer {}", admin.reveal()));
        assert_eq!(scene.ask(bearer).await.status, 200);
        let mut page = scene.get("/", &admin).await;
        assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
        assert!(page.text().await.contains("<title>ncps dashboard</title>"));
        scene.cli().ok(&["token", "revoke", "ops"]).await;
        let mut revoked = scene.get("/", &admin).await;
        assert!(revoked.status == 401 && revoked.text().await.contains("revoked"));
        for open in ["/healthz", "/readyz"] {
            assert_eq!(scene.ask(Request::get(open)).await.status, 200);
        }
        assert_eq!(scene.ask(Request::get("/else")).await.status, 404);
        scene.end().await;
    }

    async fn it_changes_nothing_and_serves_no_other_site(mode) {
        let scene = Scene::new(mode).await;
        let admin = scene.token("ops", "admin").await;
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(scene.ask(with(Request::new(method, "/"), &admin)).await.status, 405);
        }
        assert_eq!(scene.ask(with(Request::head("/events"), &admin)).await.status, 200);
        let from = |site, mode| {
            let request = Request::get("/events").header("Sec-Fetch-Site", site);
            with(request.header("Sec-Fetch-Mode", mode), &admin)
        };
        assert_eq!(scene.ask(from("cross-site", "cors")).await.status, 403);
        assert_eq!(scene.ask(from("same-site", "no-cors")).await.status, 403);
        assert_eq!(scene.ask(from("same-origin", "cors")).await.status, 200);
        assert_eq!(scene.ask(from("cross-site", "navigate")).await.status, 200, "a link to the page");
        scene.end().await;
    }

    async fn all_that_a_browser_needs_is_here_and_nothing_else_runs(mode) {
        let scene = Scene::new(mode).await;
        let admin = scene.token("ops", "admin").await;
        let page = scene.get("/", &admin).await.text().await;
        let names = ["href=\"", "src=\""].iter().flat_map(|attribute| page.split(attribute).skip(1));
        let names = names.map(|rest| rest.split('"').next().expect("closed")).filter(|name| !name.starts_with('#'));
        let mut files: Vec<_> = names.map(|name| format!("/{name}")).collect();
        files.sort();
        files.dedup();
        assert_eq!(files, ["/charts.js", "/icon.svg", "/page.css", "/page.js"]);
        for file in files.iter().map(String::as_str).chain(["/"]) {
            let mut answer = scene.get(file, &admin).await;
            assert_eq!(answer.status, 200, "{file}");
            let policy = answer.header("Content-Security-Policy").expect("a policy").to_owned();
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"));
            assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
            assert_eq!(answer.header("Cache-Control"), Some("no-store"));
            // The name of a language, which nobody loads.
            let content = answer.text().await.replace("http://www.w3.org/2000/svg", "");
            assert!(!content.contains("http://") && !content.contains("https://"), "{file}");
            assert!(!content.contains("innerHTML") && !content.contains(" style="), "{file}");
        }
        scene.end().await;
    }

    async fn what_happens_is_shown_live_and_as_the_command_line_says_it(mode) {
        let scene = Scene::new(mode).await;
        let gate = Gate::new();
        scene.upstream.script(Rule::on("/nar/*").pause_at(100_000, &gate));
        let admin = scene.token("ops", "admin").await;
        let mut watcher = scene.watch(&admin).await;
        let history = watcher.next("history").await.expect("the last hour");
        assert_eq!(history["counters"][2], "nar_hits");
        let before = watcher.shows("an edge", |now| now["edges"]["all"] == 1).await;
        assert_eq!((&before["nars"]["misses"], &before["paths"]), (&0.into(), &0.into()));

        assert_eq!(scene.ncps.get(&scene.fixture.narinfo_path()).await.status, 200);
        let mut first = scene.ncps.get(&scene.fixture.nar_path()).await;
        let during = watcher.shows("a transfer", |now| now["transfers"]["all"] == 1).await;
        let shown = during["transfers"]["rows"][0]["name"].as_str().expect("a name").to_owned();
        assert!(shown.contains("hello-1.0"), "{shown}");
        gate.open();
        first.whole().await;
        eventually("the NAR in the store", async || scene.ncps.stored(&scene.fixture.nar_path()).exists()).await;
        scene.ncps.get(&scene.fixture.nar_path()).await.whole().await;
        let after = watcher.shows("both reads", |now| now["nars"]["hits"] == 1).await;
        let said = counted(&scene, |stats| stats["nars"]["hits"] == 1).await;
        for figure in ["narinfos", "nars", "bytes_saved", "bytes_fetched", "byte_hit_ratio", "wrong", "paths", "paths_nar_size"] {
            assert_eq!(after[figure], said[figure], "{figure}");
        }
        assert_eq!((&after["transfers"]["all"], &after["nars"]["hit_ratio"]), (&0.into(), &0.5.into()));
        let upstream = &after["upstreams"]["rows"][0];
        assert_eq!((&upstream["url"], &upstream["asked"]), (&said["upstreams"][0]["url"], &1.into()));
        assert_eq!(after["edges"]["rows"][0]["state"], "attached");
        let top = watcher.shows("what is read most", |now| !now["top"][0].is_null()).await["top"][0].clone();
        assert_eq!((&top["name"], &top["reads"]), (&"hello-1.0".into(), &2.into()));
        assert!(after["events"].to_string().contains("published"), "{}", after["events"]);
        let sample = watcher.next("sample").await.expect("one every ten seconds");
        assert_eq!(sample["samples"].as_array().map(Vec::len), Some(1));
        scene.end().await;
    }

    async fn a_token_that_ends_ends_what_was_opened_with_it(mode) {
        let scene = Scene::new(mode).await;
        let [ops, other] = [scene.token("ops", "admin").await, scene.token("other", "admin").await];
        let [mut watcher, mut stays] = [scene.watch(&ops).await, scene.watch(&other).await];
        watcher.next("now").await.expect("it is shown");
        scene.cli().ok(&["token", "revoke", "ops"]).await;
        while watcher.next("now").await.is_some() {}
        stays.next("now").await.expect("another token is another one's");
        scene.end().await;
    }

    async fn so_many_may_look_and_probes_find_room(mode) {
        let scene = Scene::new(mode).await;
        let admin = scene.token("ops", "admin").await;
        let mut watchers = Vec::new();
        for _ in 0..MOST {
            watchers.push(scene.watch(&admin).await);
        }
        let mut refused = scene.get("/events", &admin).await;
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("10")));
        assert!(refused.text().await.contains("as many as may"));
        assert_eq!(scene.ask(Request::get("/readyz")).await.status, 200);
        for watcher in &mut watchers {
            watcher.next("now").await.expect("all of them are told");
        }
        drop(watchers.pop());
        eventually("its place is free", async || scene.get("/events", &admin).await.status == 200).await;
        scene.end().await;
    }
}

/// Who looks does not keep a process from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_control() {
    let mut scene = Scene::new(Mode::Split).await;
    let admin = scene.token("ops", "admin").await;
    let mut watcher = scene.watch(&admin).await;
    watcher.next("now").await.expect("it is shown");
    let control: &mut Process = scene.ncps.control();
    let (ended, ()) =
        tokio::join!(control.terminate(), async { while watcher.next("now").await.is_some() {} });
    assert_eq!(ended.code(), Some(0));
}
