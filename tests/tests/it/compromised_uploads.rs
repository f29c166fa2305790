//! An edge in the wrong hands that somebody permitted to keep its disk: others pass uploads and deletions on to it. It
//! sees what it is to keep and no token of a client, and what it sees opens nothing elsewhere. And who may be such an edge.

use std::path::Path;

use ncps_proto::{Code, Hello, Scope, Secret, Upload, Writer};
use ncps_tests::cluster::EdgeNode;
use ncps_tests::{Request, Seen, Upstream, both_modes};

use crate::asking::Answer;
use crate::compromised::{Attached, EVIL, Scene, evil};
use crate::control_port::{ATTACHED, Fleet, is_kept_out, token_flag};
use crate::fleet_uploads::ask;
use crate::uploads::{SIGNER, put};

const LOG: &str = "/log/00000000000000000000000000000000-a.drv";
const REALISATION: &str =
    "/realisations/sha256:0000000000000000000000000000000000000000000000000000000000000000!out.doi";
const REALISED: &str = "{\"id\":\"sha256:0000000000000000000000000000000000000000000000000000000000000000!out\",\
                        \"outPath\":\"a\",\"signatures\":[],\"dependentRealisations\":{}}";

/// Edge 0 keeps its disk; what comes to edge 1 goes to the evil one first, which stands in its zone.
struct Passed {
    scene: Scene,
    keeper: Upstream,
    _attached: Attached,
}

impl Passed {
    async fn new() -> Passed {
        let all = [Scope::Sign, Scope::Write, Scope::Delete];
        let scene = Scene::new(|builder| {
            let builder = builder.writable().token("signer", &all);
            let passes = |edge: &mut ncps_edge::config::EdgeConfig| edge.durable = false;
            let near = |edge: &mut ncps_edge::config::EdgeConfig| edge.zone = Some("near".to_owned());
            builder.edge_at(1, passes).edge_at(1, near)
        })
        .await;
        // What nobody uploads is nowhere.
        scene.upstream.remove_fixture(&scene.fixture);
        let keeper = Upstream::start().await;
        let hello = Hello { url: Some(keeper.url()), zone: Some("near".to_owned()), ..evil() };
        let attached = scene.attach(hello).await;
        Passed { scene, keeper, _attached: attached }
    }

    /// What a client sends, to the edge that passes it on.
    async fn send(&self, request: Request) -> Answer {
        ask(self.scene.cluster.at(1), request).await
    }

    /// The edge that keeps its disk and is honest.
    fn honest(&self) -> &EdgeNode {
        self.scene.cluster.at(0)
    }

    /// All that a client can have passed on.
    async fn uploads(&self) {
        let fixture = &self.scene.fixture;
        self.send(put(&fixture.nar_path(), fixture.file.clone())).await;
        self.send(put(LOG, "what was built")).await;
        self.send(put(REALISATION, REALISED)).await;
        self.send(Request::delete(LOG).header("Authorization", SIGNER)).await;
        self.send(put(&fixture.narinfo_path(), fixture.narinfo_text())).await;
    }

    /// The same request to another edge, with all that it came with.
    async fn replayed(&self, at: &EdgeNode, seen: &Seen, body: &[u8]) -> Answer {
        let request = match &*seen.method {
            "DELETE" => Request::delete(&seen.path),
            _ => Request::put(&seen.path, body.to_vec()),
        };
        let own = |name: &str| ["host", "content-length"].contains(&&*name.to_ascii_lowercase());
        let headers = seen.headers.iter().filter(|(name, _)| !own(name));
        ask(at, headers.fold(request, |request, (name, value)| request.header(name, value))).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_sees_no_token_of_a_client() {
    let passed = Passed::new().await;
    passed.uploads().await;
    let seen = passed.keeper.requests();
    let seen: Vec<_> = seen.iter().filter(|seen| seen.method != "GET" && seen.method != "HEAD").collect();
    let sent: Vec<_> = seen.iter().map(|seen| (&*seen.method, &*seen.path)).collect();
    let nar = passed.scene.fixture.nar_path();
    assert_eq!(sent, [("PUT", &*nar), ("PUT", LOG), ("PUT", REALISATION), ("DELETE", LOG)]);
    for one in seen {
        let all = format!("{one:?}");
        assert!(!all.contains("signer") && !one.headers.has("Authorization"), "{all}");
    }
    passed.scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_saw_opens_nothing_elsewhere() {
    let passed = Passed::new().await;
    let log = put(LOG, "what was built");
    assert_eq!(ask(passed.honest(), log).await.status, 204);
    passed.uploads().await;
    assert_eq!(ask(passed.honest(), put(LOG, "what was built")).await.status, 204);
    for seen in passed.keeper.requests().iter().filter(|seen| seen.method != "GET") {
        for edge in &passed.scene.cluster.edges {
            let told = passed.replayed(edge, seen, b"what it likes").await;
            assert_eq!(told.status, 401, "{} {} at {}", seen.method, seen.path, edge.name());
        }
        for (_, value) in seen.headers.iter() {
            let writer = || Writer { instance: EVIL.to_owned(), secret: Some(Secret::new(value)) };
            let unsigned = passed.scene.fixture.changed(|narinfo| narinfo.signatures.clear()).narinfo;
            let (hash, nar) = (unsigned.store_path.hash(), passed.scene.name());
            let upload = Upload { narinfo: unsigned, nar, held: true, writer: writer() };
            assert!(passed.scene.evil.publish_upload(upload).await.is_err(), "{value}");
            let refused = [
                passed.scene.evil.delete_narinfo(hash, writer()).await.map(drop),
                passed.scene.evil.delete_nar(nar, writer()).await.map(drop),
            ];
            for refused in refused {
                assert_eq!(refused.map_err(|error| error.code()), Err(Code::Unauthenticated), "{value}");
            }
        }
    }
    assert!(!passed.scene.stores(0) && !passed.scene.stores(1));
    let log = ask(passed.honest(), Request::get(LOG)).await;
    assert_eq!((log.status, log.text()), (200, "what was built"));
    assert_eq!(ask(passed.honest(), Request::get(REALISATION)).await.status, 404);
    passed.scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_of_the_fleet_reads_and_writes_nothing() {
    let passed = Passed::new().await;
    assert_eq!(ask(passed.honest(), put(LOG, "what was built")).await.status, 204);
    let settings = passed.scene.cluster.control().settings();
    let secret = settings.fleet_secret.as_ref().expect("it has one").reveal();
    let fixture = &passed.scene.fixture;
    for edge in &passed.scene.cluster.edges {
        for request in [
            Request::put(&fixture.nar_path(), fixture.file.clone()),
            Request::put(&fixture.narinfo_path(), fixture.narinfo_text()),
            Request::put(LOG, "what it likes"),
            Request::delete(LOG),
            Request::delete(&fixture.nar_path()),
            Request::delete(&fixture.narinfo_path()),
        ] {
            let told = ask(edge, request.header("ncps-fleet", secret)).await;
            assert_eq!(told.status, 401, "at {}", edge.name());
        }
    }
    let log = ask(passed.honest(), Request::get(LOG).header("ncps-fleet", secret)).await;
    assert_eq!((log.status, log.text()), (200, "what was built"));
    passed.scene.cluster.end().await;
}

both_modes! {
    async fn who_keeps_its_disk_is_for_its_token_or_certificate_to_say(mode) {
        let fleet = Fleet::new(mode);
        let control = fleet.certified_control().await;
        let durable = ["--edge-durable=true".to_owned()];
        let with_token = |token: &Path| {
            let authority = format!("--control-ca-file={}", fleet.at("ca.pem").display());
            fleet.edge("e1", &fleet.url("https"), &[&[authority, token_flag(token)], &durable[..]].concat())
        };
        let plain = fleet.token("plain", &["--scope=edge", "--edge=e1"]).await;
        is_kept_out(with_token(&plain), "token plain is for no edge that keeps its disk").await;
        let refused = fleet.refused("token plain is for no edge").await;
        assert_eq!((&refused["name"], &refused["reason"]), (&"e1".into(), &"token".into()));
        assert!(refused["why"].as_str().is_some_and(|why| why.contains("--scope edge,durable")), "{refused}");
        let kept = fleet.token("kept", &["--scope=edge,durable", "--edge=e1"]).await;
        let mut first = with_token(&kept);
        first.line_with(ATTACHED).await;
        let plain = fleet.authority.named(&["ncps://edge/e2"], 1);
        let says = "certificate e2 is for no edge that keeps its disk";
        is_kept_out(fleet.certified_edge("e2", &plain, &durable), says).await;
        assert_eq!(fleet.refused(says).await["reason"], "certificate");
        let kept = fleet.authority.named(&["ncps://durable-edge/e2"], 2);
        let mut second = fleet.certified_edge("e2", &kept, &durable);
        second.line_with(ATTACHED).await;
        let edges = fleet.cli().json(&["edges"]).await;
        let keeps = |name: &str| {
            let attached = edges["attached"].as_array().expect("a list");
            attached.iter().any(|edge| edge["name"] == name && edge["durable"] == true)
        };
        assert!(keeps("e1") && keeps("e2"), "{edges}");
        for mut process in [first, second, control] {
            assert_eq!(process.terminate().await.code(), Some(0));
        }
    }
}
