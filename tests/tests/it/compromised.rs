//! An edge in the wrong hands: a program that speaks to control as an edge does, and says whatever it likes. It gets
//! nothing signed, takes nothing from other edges, and their clients see the right bytes.
//!
//! It connects to control's socket, which asks for no credential: what it can't do there it can't do with one. That it
//! speaks for no other edge is shown at a port, with a certificate.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use ncps_edge::config::{ControlLink, ControlUrl};
use ncps_edge::remote;
use ncps_nix::{Compression, FileHash, NarFileName, NarInfo, SecretKey, Sha256Hash};
use ncps_proto::grpc::RemoteControl;
use ncps_proto::{
    Accesses, Checked, Code, Commit, ControlPlane, Directive, Directives, EdgeReport, HeldNar, Hello, Job,
    JobReport, JobSaid, Lookup, NarFacts, Origin, Publication, Recipe, Said, Scope, Secret, Upload, Verdict,
    Writer,
};
use ncps_runtime::tls::TlsFiles;
use ncps_tests::cluster::ClusterBuilder;
use ncps_tests::{
    Cluster, Fixture, Mode, Upstream, UpstreamKey, both_modes, decode, eventually, eventually_some,
};
use tokio::sync::mpsc;

use crate::control_port::{ATTACHED, Fleet};
use crate::uploads::upload;

pub(crate) const EVIL: &str = "instance-of-evil";

/// Two honest edges, and a third one that is not.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) upstream: Upstream,
    key: UpstreamKey,
    pub(crate) fixture: Fixture,
    pub(crate) evil: Arc<dyn ControlPlane>,
}

impl Scene {
    pub(crate) async fn new(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Scene {
        Scene::of(Compression::Zstd, change).await
    }

    async fn of(compression: Compression, change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Scene {
        let key = UpstreamKey::new("upstream-1");
        let fixture =
            Fixture::new("hello-1.0").size(50_000).compressible().compression(compression).build(&key);
        let upstream = Upstream::with(&[&fixture]).await;
        let builder = Cluster::builder(Mode::Split).upstream(&upstream).trust(&key).edges(2);
        let durable = |edge: &mut ncps_edge::config::EdgeConfig| edge.durable = true;
        let cluster = change(builder).edge_at(0, durable).start().await;
        eventually("all are attached", async || cluster.attached().await.len() == 2).await;
        let link = ControlLink::from(ControlUrl::Unix(cluster.socket()));
        let channel = remote::dial(&link).await.expect("control listens");
        Scene { cluster, upstream, key, fixture, evil: Arc::new(RemoteControl::new(channel)) }
    }

    /// The first edge has it.
    async fn warm(&self) -> NarInfo {
        assert_eq!(self.cluster.get(&self.fixture.narinfo_path()).await.status, 200);
        self.is_right_at(0).await;
        self.cluster.quiet().await;
        self.known().await.expect("published")
    }

    async fn known(&self) -> Option<NarInfo> {
        match self.evil.narinfo(self.fixture.narinfo.store_path.hash()).await.expect("answered") {
            Lookup::Known(narinfo) => Some(narinfo),
            _ => None,
        }
    }

    async fn is_right_at(&self, edge: usize) {
        let (status, outcome) = self.cluster.at(edge).fetch(&self.fixture.nar_path()).await;
        assert_eq!(status, 200, "at edge {edge}");
        assert!(outcome.whole() == self.fixture.file.to_bytes(), "the bytes at edge {edge}");
    }

    pub(crate) fn name(&self) -> NarFileName {
        NarFileName::parse(self.fixture.nar_path().trim_start_matches("/nar/")).expect("a name")
    }

    pub(crate) fn stores(&self, edge: usize) -> bool {
        self.cluster.at(edge).stores(&self.fixture.nar_path())
    }

    pub(crate) async fn attach(&self, hello: Hello) -> Attached {
        attach(&*self.evil, hello).await.expect("attached")
    }
}

/// A session, held open.
pub(crate) struct Attached {
    says: mpsc::UnboundedSender<Said>,
    directives: Directives,
}

impl Attached {
    fn say(&self, report: EdgeReport) {
        self.says.send(Said::from(report)).expect("the session goes on");
    }

    fn holds(&self, held: &[HeldNar]) {
        self.say(EdgeReport::Inventory { held: held.to_vec(), last: true });
    }
}

pub(crate) async fn attach(plane: &dyn ControlPlane, hello: Hello) -> ncps_proto::Result<Attached> {
    let (says, said) = mpsc::unbounded_channel();
    says.send(Said::from(EdgeReport::Hello(hello))).expect("open");
    let reports = stream::unfold(said, |mut said| async move { said.recv().await.map(|next| (next, said)) });
    let mut directives = plane.attach(reports.boxed()).await?;
    directives.next().await.expect("it is told something")?;
    Ok(Attached { says, directives })
}

pub(crate) fn evil() -> Hello {
    Hello { durable: true, ..Hello::new("evil", EVIL) }
}

fn nobody() -> Writer {
    Writer { instance: EVIL.to_owned(), secret: None }
}

fn facts(fixture: &Fixture) -> NarFacts {
    NarFacts { hash: fixture.narinfo.nar_hash, size: fixture.narinfo.nar_size }
}

fn publication(narinfo: &NarInfo, upstream: &Upstream) -> Publication {
    Publication { narinfo: narinfo.clone(), upstream: upstream.url(), replaces: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_gets_nothing_signed() {
    let scene = Scene::new(|builder| builder.writable().token("signer", &[Scope::Sign])).await;
    let _attached = scene.attach(evil()).await;
    let theirs = UpstreamKey::new("upstream-1");
    let other = Fixture::new("other-1.0").size(1000).build(&scene.key);
    let own_key = SecretKey::generate("cache.test").expect("made");
    let good = &scene.fixture;
    let forged = [
        (
            "a key of its own, with a name that is trusted",
            good.changed(|narinfo| narinfo.signatures.clear()).signed(&theirs).narinfo,
        ),
        ("no signature", good.changed(|narinfo| narinfo.signatures.clear()).narinfo),
        ("another NAR hash", good.changed(|narinfo| narinfo.nar_hash = other.narinfo.nar_hash).narinfo),
        ("another size", good.changed(|narinfo| narinfo.nar_size += 1).narinfo),
        (
            "another path",
            good.changed(|narinfo| narinfo.store_path = other.narinfo.store_path.clone()).narinfo,
        ),
        (
            "references that nobody signed",
            good.changed(|narinfo| narinfo.references.push(other.narinfo.store_path.clone())).narinfo,
        ),
        ("our name, another key", {
            let mut narinfo = good.narinfo.clone();
            narinfo.signatures = vec![own_key.sign(&narinfo.fingerprint())];
            narinfo
        }),
    ];
    for (what, narinfo) in &forged {
        let refused = scene.evil.publish_narinfo(publication(narinfo, &scene.upstream)).await;
        assert!(refused.is_err_and(|error| error.code().is_callers()), "published: {what}");
        for secret in [None, Some("guess"), Some("")] {
            let writer = Writer { instance: EVIL.to_owned(), secret: secret.map(Secret::new) };
            let upload = Upload { narinfo: narinfo.clone(), nar: scene.name(), held: true, writer };
            assert!(scene.evil.publish_upload(upload).await.is_err(), "uploaded: {what}");
        }
    }
    for path in [&good.narinfo, &other.narinfo].map(|narinfo| narinfo.store_path.hash()) {
        let known = scene.evil.narinfo(path).await.expect("answered");
        assert!(!matches!(known, Lookup::Known(_)), "{known:?}");
    }
    scene.warm().await;
    scene.is_right_at(1).await;
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_commits_change_nothing_that_was_proven() {
    let scene = Scene::new(|builder| builder).await;
    let before = scene.warm().await;
    let _attached = scene.attach(evil()).await;
    let other = Fixture::new("other-1.0").size(1000).compression(Compression::Zstd).build(&scene.key);
    let its = NarFileName::parse(other.nar_path().trim_start_matches("/nar/")).expect("a name");
    let commit = |name, asked_as, file_size, nar| Commit {
        name,
        asked_as,
        file_size,
        nar,
        origin: None,
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    };
    let (right, wrong) = (facts(&scene.fixture), facts(&other));
    let size = scene.fixture.file.len();
    for (what, lie) in [
        ("another NAR", commit(scene.name(), None, size, wrong)),
        ("another size", commit(scene.name(), None, size + 1, right)),
        ("a file of its own instead", commit(its, Some(scene.name()), 77, right)),
        ("another NAR's file instead", commit(its, Some(scene.name()), other.file.len(), wrong)),
    ] {
        assert!(scene.evil.commit_nar(EVIL, lie).await.is_err(), "{what}");
        assert_eq!(scene.known().await.as_ref(), Some(&before), "{what}");
    }
    scene.is_right_at(0).await;
    scene.is_right_at(1).await;
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_claims_to_hold_is_read_elsewhere() {
    let scene = Scene::new(|builder| builder).await;
    scene.warm().await;
    // It is asked as a peer, and gives wrong bytes of the right length.
    let liar = Upstream::start().await;
    let mut bytes = scene.fixture.file.to_bytes().to_vec();
    bytes[700] ^= 1;
    liar.put(&scene.fixture.nar_path(), bytes);
    let attached = scene.attach(Hello { url: Some(liar.url()), ..evil() }).await;
    let size = scene.fixture.file.len();
    attached.holds(&[HeldNar { name: scene.name(), file_size: size, disk_bytes: size }]);
    eventually("control believes it", async || {
        scene.cluster.control().holders(scene.name()).contains(&liar.url())
    })
    .await;
    // No other peer can give it.
    let front = scene.cluster.at(0).front.as_ref().expect("it has one");
    front.refuse().await;
    scene.is_right_at(1).await;
    scene.is_right_at(0).await;
    assert!(liar.count("GET", &scene.fixture.nar_path()) > 0, "it was asked");
    front.mend().await;
    drop(attached);
    scene.cluster.end().await;
}

/// It says that it made a file of a path, which it did not: narinfos name it, and whoever asks for it first makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_to_have_made_is_made_by_who_is_asked_for_it() {
    let scene = Scene::of(Compression::Xz, |builder| builder).await;
    let before = scene.warm().await;
    let attached = scene.attach(evil()).await;
    attached.holds(&[]);
    let bogus = NarFileName { hash: FileHash(Sha256Hash::of(b"nothing")), compression: Compression::Zstd };
    let encoder = format!("zstd-{}", zstd::zstd_safe::version_string());
    let lie = Commit {
        name: bogus,
        asked_as: None,
        file_size: 7,
        nar: facts(&scene.fixture),
        origin: None,
        uploaded: false,
        recipe: Some(Recipe { source: scene.name(), level: 3, encoder }),
        meanwhile: Vec::new(),
    };
    let named = scene.evil.commit_nar(EVIL, lie).await.expect("heard");
    assert_eq!(named[0].fingerprint(), before.fingerprint());
    for edge in [0, 1] {
        let node = scene.cluster.at(edge);
        let nar = eventually_some("the path is served", async || {
            let narinfo =
                NarInfo::parse(&node.get(&scene.fixture.narinfo_path()).await.whole().await).ok()?;
            let (status, body) = node.fetch(&format!("/{}", narinfo.url)).await;
            match body {
                ncps_tests::Outcome::Whole(body) if status == 200 => decode(narinfo.compression, &body).ok(),
                _ => None,
            }
        })
        .await;
        assert!(nar == scene.fixture.nar.to_bytes(), "at edge {edge}");
    }
    eventually("its file is named no more", async || scene.known().await.expect("known").url != bogus.url())
        .await;
    scene.is_right_at(0).await;
    drop(attached);
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_no_file_and_no_upload_from_another_edge() {
    let tokens = |builder: ClusterBuilder| {
        let builder = builder.writable().token("signer", &[Scope::Sign, Scope::Write]);
        builder.token("deleter", &[Scope::Delete])
    };
    let scene = Scene::new(tokens).await;
    scene.upstream.remove_fixture(&scene.fixture);
    upload(&scene.cluster, "", &scene.fixture).await;
    let before = scene.known().await.expect("published");
    let attached = scene.attach(evil()).await;
    attached.holds(&[]);
    let (hash, name) = (before.store_path.hash(), scene.name());
    // It says that it had it from an upstream, so that nobody need keep it.
    let origin = Origin { upstream: scene.upstream.url(), url: name.url(), compression: Compression::Zstd };
    let commit = Commit {
        name,
        asked_as: None,
        file_size: scene.fixture.file.len(),
        nar: facts(&scene.fixture),
        origin: Some(origin),
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    };
    scene.evil.commit_nar(EVIL, commit).await.expect("heard");
    let known = scene.evil.locate(EVIL, name).await.expect("answered").expect("known");
    assert!(known.uploaded && known.origins.is_empty(), "{known:?}");
    // It finds it nowhere, and says that its peer has it no longer.
    let refused = scene.evil.retract_narinfo(hash, name).await.expect_err("not its to say");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let front = scene.cluster.control().holders(name)[0].clone();
    scene.evil.doubt_placement(EVIL, &front, name).await.expect("heard");
    // It was told to remove it, and did.
    for number in 0..20 {
        attached.say(EdgeReport::Evicted { number, gone: vec![name] });
    }
    scene.evil.publish_absent(hash, ncps_proto::Heard::All).await.expect("heard");
    // Clients asked it to delete it.
    for secret in [None, Some("guess"), Some("signer")] {
        let writer = Writer { secret: secret.map(Secret::new), ..nobody() };
        let refused = scene.evil.delete_narinfo(hash, writer.clone()).await.expect_err("not its to say");
        assert_eq!(refused.code(), Code::Unauthenticated, "{secret:?}");
        let refused = scene.evil.delete_nar(name, writer).await.expect_err("not its to say");
        assert_eq!(refused.code(), Code::Unauthenticated, "{secret:?}");
    }
    // Other files are read all the time.
    let accesses = (0..10_000).map(|n| (scene.name(), n)).collect();
    attached.say(EdgeReport::Accesses(Accesses { narinfos: vec![(hash, u32::MAX)], nars: accesses }));
    // Its turn is everybody's turn.
    scene.evil.begin_fetch(EVIL, name, &[front]).await.expect("answered");
    eventually("all of it was heard", async || scene.cluster.control().holders(name).len() == 1).await;
    assert_eq!(scene.known().await, Some(before));
    assert!(scene.stores(0));
    scene.is_right_at(0).await;
    scene.is_right_at(1).await;
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_no_upload_from_an_edge_that_is_away() {
    let tokens = |builder: ClusterBuilder| builder.writable().token("signer", &[Scope::Sign, Scope::Write]);
    let mut scene = Scene::new(tokens).await;
    scene.upstream.remove_fixture(&scene.fixture);
    upload(&scene.cluster, "", &scene.fixture).await;
    let (before, size) = (scene.known().await.expect("published"), scene.fixture.file.len());
    let other = Fixture::new("other-1.0").size(1000).compression(Compression::Zstd).build(&scene.key);
    let its = NarFileName::parse(other.nar_path().trim_start_matches("/nar/")).expect("a name");
    scene.cluster.edges[0].kill().await;
    eventually("it is away", async || scene.cluster.attached().await == ["edge-1"]).await;
    let url = "http://127.0.0.1:9".to_owned();
    let mut attached = scene.attach(Hello { url: Some(url.clone()), ..evil() }).await;
    attached.holds(&[scene.name(), its].map(|name| HeldNar { name, file_size: size, disk_bytes: size }));
    let believed = async |name| scene.cluster.control().holders(name).contains(&url);
    eventually("control believes it", async || believed(scene.name()).await && believed(its).await).await;
    // It is told to look at what it holds, and finds this.
    scene.evil.doubt_placement(EVIL, &url, scene.name()).await.expect("heard");
    let id = loop {
        let told = attached.directives.next().await.expect("it goes on").expect("told");
        // It is asked to fetch things, too.
        if let Directive::Job { id, job: Job::Scrub(_) } = told.directive {
            break id;
        }
    };
    let found = |name, verdict, nar| {
        let checked = Checked { name, verdict, file_size: size, nar, reason: "a lie".to_owned() };
        attached.say(EdgeReport::Job(JobReport { id, said: JobSaid::Checked(checked) }));
    };
    found(scene.name(), Verdict::Right, Some(facts(&other)));
    found(scene.name(), Verdict::Wrong, None);
    found(scene.name(), Verdict::Lost, None);
    found(its, Verdict::Wrong, None);
    eventually("all of it was heard", async || !believed(its).await).await;
    // And it says that what it was asked for under this name is another file.
    let lie = Commit {
        name: its,
        asked_as: Some(scene.name()),
        file_size: other.file.len(),
        nar: facts(&scene.fixture),
        origin: None,
        uploaded: false,
        recipe: None,
        meanwhile: Vec::new(),
    };
    assert_eq!(scene.evil.commit_nar(EVIL, lie).await.map_err(|error| error.code()), Err(Code::Refused));
    assert_eq!(scene.known().await, Some(before));
    drop(attached);
    scene.cluster.edges[0].start().await;
    eventually("it is back", async || scene.cluster.attached().await.contains(&"edge-0".to_owned())).await;
    scene.is_right_at(0).await;
    scene.is_right_at(1).await;
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_no_session_from_another_edge() {
    let scene = Scene::new(|builder| builder).await;
    scene.warm().await;
    let stats = crate::cli::cli(&scene.cluster).json(&["edges"]).await;
    let victim = &stats["attached"][0];
    let (name, instance) =
        (victim["name"].as_str().expect("named"), victim["instance"].as_str().expect("one"));
    for hello in [Hello::new("evil", instance), Hello::new(name, EVIL)] {
        let refused = attach(&*scene.evil, hello).await.err().expect("refused");
        assert_eq!(refused.code(), Code::Refused, "{refused:?}");
    }
    assert_eq!(scene.cluster.attached().await, ["edge-0", "edge-1"]);
    assert!(scene.cluster.control().holders(scene.name()).len() == 1);
    scene.cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_its_session_and_nobody_elses() {
    let scene = Scene::new(|builder| builder).await;
    scene.warm().await;
    // Nothing but a hello begins a session.
    let first = Said::from(EdgeReport::UpstreamBack);
    assert!(scene.evil.attach(stream::iter([first]).boxed()).await.is_err());
    let mut attached = scene.attach(evil()).await;
    // Numbers that control never gave.
    attached
        .says
        .send(Said { number: u64::MAX, heard: u64::MAX, report: EdgeReport::UpstreamBack })
        .expect("open");
    attached.say(EdgeReport::Hello(Hello::new("another", "other")));
    let ends = async { while attached.directives.next().await.is_some_and(|told| told.is_ok()) {} };
    tokio::time::timeout(Duration::from_secs(60), ends).await.expect("its session is over");
    assert_eq!(scene.cluster.attached().await, ["edge-0", "edge-1"]);
    scene.is_right_at(1).await;
    scene.cluster.end().await;
}

both_modes! {
    async fn with_a_certificate_it_speaks_for_itself_alone(mode) {
        let fleet = Fleet::new(mode);
        let mut control = fleet.certified_control().await;
        let mut edge = fleet.certified_edge("e1", &fleet.authority.named(&["ncps://edge/e1"], 1), &[]);
        edge.line_with(ATTACHED).await;
        let victim = eventually_some("it is listed", async || {
            let edges = fleet.cli().json(&["edges"]).await;
            let attached = edges["attached"].as_array().expect("a list").clone();
            let e1 = attached.into_iter().find(|edge| edge["name"] == "e1")?;
            e1["instance"].as_str().map(str::to_owned)
        })
        .await;
        let identity = fleet.write("evil.pem", &fleet.authority.named(&["ncps://edge/evil"], 2));
        let link = ControlLink {
            ca_file: Some(fleet.at("ca.pem")),
            identity: Some(TlsFiles { cert: identity.clone(), key: identity }),
            ..ControlLink::from(fleet.url("https").parse::<ControlUrl>().expect("a URL"))
        };
        let evil = RemoteControl::new(remote::dial(&link).await.expect("it has a certificate"));
        let fixture = Fixture::new("hello-1.0").compression(Compression::None).build(&UpstreamKey::new("k-1"));
        let name = NarFileName::parse(fixture.nar_path().trim_start_matches("/nar/")).expect("a name");
        let nar = facts(&fixture);
        let commit = Commit {
            name,
            asked_as: None,
            file_size: nar.size,
            nar,
            origin: None,
            uploaded: false,
            recipe: None,
            meanwhile: Vec::new(),
        };
        let writer = Writer { instance: victim.clone(), secret: None };
        let refusals = [
            evil.commit_nar(&victim, commit).await.err(),
            evil.begin_fetch(&victim, name, &[]).await.err(),
            evil.end_fetch(&victim, name).await.err(),
            evil.doubt_placement(&victim, "http://a.test", name).await.err(),
            evil.delete_nar(name, writer).await.err(),
            attach(&evil, Hello::new("e1", victim.clone())).await.err(),
        ];
        for (n, refused) in refusals.into_iter().enumerate() {
            assert_eq!(refused.map(|error| error.code()), Some(Code::Unauthenticated), "call {n}");
        }
        let admin = ncps_proto::admin::RemoteAdmin::new(remote::dial(&link).await.expect("as before"));
        let refused = admin.stats().await.expect_err("it is no administrator");
        assert_eq!(refused.code(), Code::Unauthenticated);
        let own = attach(&evil, Hello::new("evil", "its-own")).await;
        assert!(own.is_ok(), "{:?}", own.err());
        drop(own);
        assert_eq!(edge.terminate().await.code(), Some(0));
        assert_eq!(control.terminate().await.code(), Some(0));
    }
}
