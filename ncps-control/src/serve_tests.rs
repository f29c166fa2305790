//! Sockets: whose they are, who may connect, and how the server ends.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use ncps_nix::{FileHash, NarInfo, ObjectName, SecretKey, Sha256Hash};
use ncps_proto::admin::Caller;
use ncps_proto::{
    Accesses, Bearer, ChangedBy, Code, Commit, Directive, EdgeReport, Errand, Error, Expiry, Hello, Lookup,
    NewToken, ObjectChange, ObjectNote, Secret, Upload, Writer,
};
use ncps_runtime::exit::Exit;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::*;
use crate::record::file_of;
use crate::testing::{House, Upstream, commit, own_key, path, publication, same_key, settings, unsigned};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

async fn bound(path: &Path) -> io::Result<ControlListener> {
    match ControlListener::bind(&ControlAddr::Unix(path.to_owned())).await {
        Ok(listener) => Ok(listener),
        Err(BindError::At { source, .. }) => Err(source),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn only_its_owner_can_use_the_socket() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let listener = bound(&path).await.expect("binds");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
    drop(listener);
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing is left behind");
}

#[tokio::test]
async fn a_socket_is_replaced_only_where_nobody_answers() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let stale = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    let error = bound(&path).await.expect_err("somebody answers");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(stale);
    let listener = bound(&path).await.expect("nobody answers any more");
    UnixStream::connect(&path).await.expect("we do");
    drop(listener);
    std::fs::write(&path, "a file").expect("written");
    let error = bound(&path).await.expect_err("no socket");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).expect("there"), b"a file");
}

#[tokio::test]
async fn a_socket_that_became_anothers_is_left_to_them() {
    let folder = folder();
    let path = folder.path().join("control.sock");
    let ours = bound(&path).await.expect("binds");
    std::fs::remove_file(&path).expect("removed");
    let _theirs = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    drop(ours);
    assert!(path.exists());
}

#[tokio::test]
async fn the_first_place_that_works_is_taken() {
    let folder = folder();
    let places = ["no/such/folder/control.sock", "made/control.sock", "late.sock"];
    let places = places.map(|place| folder.path().join(place)).to_vec();
    let listener = ControlListener::bind(&ControlAddr::FirstOf(places.clone())).await.expect("binds");
    assert_eq!(listener.to_string(), format!("unix:{}", places[1].display()));
    let nowhere = ControlListener::bind(&ControlAddr::FirstOf(places[..1].to_vec())).await;
    let error = nowhere.expect_err("nowhere").to_string();
    assert!(error.contains("no/such/folder/control.sock") && error.contains("--control-addr"), "{error}");
}

async fn unix_channel(path: PathBuf) -> Channel {
    let connector = tower_connector(path);
    Endpoint::from_static("http://control").connect_with_connector(connector).await.expect("connects")
}

fn tower_connector(
    path: PathBuf,
) -> impl tonic::codegen::Service<
    Uri,
    Response = TokioIo<UnixStream>,
    Error = io::Error,
    Future = futures::future::BoxFuture<'static, io::Result<TokioIo<UnixStream>>>,
> {
    Connector(path)
}

#[derive(Clone)]
struct Connector(PathBuf);

impl tonic::codegen::Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = futures::future::BoxFuture<'static, io::Result<TokioIo<UnixStream>>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

/// Attaches, and returns what keeps the session open.
async fn served(house: &House, channel: Channel) -> ncps_proto::Directives {
    let plane = grpc::RemoteControl::new(channel);
    assert_eq!(plane.narinfo(path(1).hash()).await.expect("answers"), Lookup::Unknown);
    let hello = Hello::new("edge", "i");
    let reports =
        futures::stream::iter([EdgeReport::Hello(hello).into()]).chain(futures::stream::pending()).boxed();
    let mut directives = plane.attach(reports).await.expect("attaches");
    let first = directives.next().await.expect("a directive").expect("no break").directive;
    assert!(matches!(first, Directive::Configure(_)), "{first:?}");
    assert_eq!(house.control.edges(), 1);
    directives
}

async fn house(folder: &TempDir) -> House {
    let settings = settings(Upstream::new().key.public());
    House::open(folder.path(), own_key(), settings, Duration::from_secs(60)).await
}

#[tokio::test]
async fn control_is_served_at_a_socket_until_the_process_is_asked_to_stop() {
    let folder = folder();
    let house = house(&folder).await;
    let path = folder.path().join("control.sock");
    serve(bound(&path).await.expect("binds"), Arc::clone(&house.control), &house.tasks());
    let mut directives = served(&house, unix_channel(path.clone()).await).await;
    assert_eq!(house.end_softly().await, Exit::Ok);
    assert!(!matches!(directives.next().await, Some(Ok(_))), "the session ended");
    assert!(!path.exists());
}

#[tokio::test]
async fn control_is_served_at_a_loopback_address() {
    let folder = folder();
    let house = house(&folder).await;
    let any = ControlAddr::Tcp { addr: ListenAddr::At((Ipv4Addr::LOCALHOST, 0).into()), tls: None };
    let listener = ControlListener::bind(&any).await.expect("binds");
    let uri = format!("http://{listener}");
    serve(listener, Arc::clone(&house.control), &house.tasks());
    let channel = Endpoint::from_shared(uri).expect("a URI").connect().await.expect("connects");
    let directives = served(&house, channel).await;
    assert_eq!(house.end_softly().await, Exit::Ok);
    drop(directives);
}

/// Control, over a channel whose calls show this secret.
async fn shows(uri: &str, secret: &str) -> impl ControlPlane + use<> {
    let channel = Endpoint::from_shared(uri.to_owned()).expect("a URI").connect().await.expect("connects");
    let bearer: tonic::metadata::MetadataValue<_> = format!("Bearer {secret}").parse().expect("a value");
    let shown = move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        Ok(request)
    };
    grpc::RemoteControl::new(InterceptedService::new(channel, shown))
}

/// A session of an edge that shows this secret.
async fn edge(uri: &str, secret: &str, name: &str) -> (Arc<dyn ControlPlane>, ncps_proto::Directives) {
    let plane = shows(uri, secret).await;
    let hello = Hello { durable: true, ..Hello::new(name, name) };
    let reports =
        futures::stream::iter([EdgeReport::Hello(hello).into()]).chain(futures::stream::pending()).boxed();
    let mut directives = plane.attach(reports).await.expect("attaches");
    directives.next().await.expect("a directive").expect("no break");
    (Arc::new(plane), directives)
}

/// Every call that says whose it is, in the name of an edge.
async fn calls_as(plane: &dyn ControlPlane, instance: &str) -> Vec<ncps_proto::Result<()>> {
    let writer = || Writer { instance: instance.to_owned(), secret: None };
    let narinfo = unsigned(1);
    let nar = file_of(&narinfo);
    let name = ObjectName::Listing(narinfo.store_path.hash());
    let note = ObjectNote { name, change: ObjectChange::Deleted, by: ChangedBy::Client(writer()) };
    let bearer = Bearer { instance: instance.to_owned(), warrant: Secret::new("a guess") };
    let upload = Upload { narinfo: narinfo.clone(), nar, held: true, writer: writer() };
    vec![
        plane.begin_fetch(instance, nar, &[]).await.map(drop),
        plane.end_fetch(instance, nar).await,
        plane.commit_nar(instance, commit(&narinfo)).await.map(drop),
        plane.publish_upload(upload).await.map(drop),
        plane.delete_narinfo(narinfo.store_path.hash(), writer()).await.map(drop),
        plane.delete_nar(nar, writer()).await.map(drop),
        plane.note_object(note).await,
        plane.warrant(Errand::KeepNar(nar), writer()).await.map(drop),
        plane.redeem(bearer, Errand::KeepNar(nar)).await,
    ]
}

#[tokio::test]
async fn who_has_a_bound_token_speaks_for_no_other_edge() {
    let folder = folder();
    let house = house(&folder).await;
    let any = ControlAddr::Tcp { addr: ListenAddr::At((Ipv4Addr::LOCALHOST, 0).into()), tls: None };
    let listener = ControlListener::bind(&any).await.expect("binds");
    let uri = format!("http://{listener}");
    serve(listener, Arc::clone(&house.control), &house.tasks());
    let mut secrets = Vec::new();
    for name in ["a", "b"] {
        let (scopes, edges) = (vec![Scope::Edge, Scope::Durable], vec![name.to_owned()]);
        let new = NewToken { name: name.to_owned(), scopes, edges, expiry: Expiry::Never };
        let by = Caller { who: "test".to_owned() };
        secrets.push(house.control.create_token(&by, new).await.expect("made").secret);
    }
    let (a, of_a) = edge(&uri, secrets[0].reveal(), "a").await;
    let (b, of_b) = edge(&uri, secrets[1].reveal(), "b").await;
    let refused = |answers: Vec<ncps_proto::Result<()>>| {
        let codes = answers.into_iter().map(|answer| answer.err().map(|error| error.code()));
        codes.filter(|code| *code == Some(Code::Unauthenticated)).count()
    };
    assert_eq!(refused(calls_as(&*a, "b").await), 9);
    assert_eq!(refused(calls_as(&*b, "a").await), 9);
    // The warrant is guessed.
    assert_eq!(refused(calls_as(&*a, "a").await), 1);
    assert_eq!(refused(calls_as(&*b, "of nobody that is attached").await), 1);
    drop((of_a, of_b));
    assert_eq!(house.end_softly().await, Exit::Ok);
}

/// Control at a port of the loopback.
async fn at_a_port(house: &House) -> SocketAddr {
    at_a_port_with(house, calls::Limits::default()).await
}

async fn at_a_port_with(house: &House, calls: calls::Limits) -> SocketAddr {
    let any = ListenAddr::At((Ipv4Addr::LOCALHOST, 0).into());
    let ControlListener::Tcp(port) = tcp(any, None).await.expect("binds") else {
        panic!("a port was asked for")
    };
    let addr = port.addr;
    serve(ControlListener::Tcp(Port { calls, ..port }), Arc::clone(&house.control), &house.tasks());
    addr
}

async fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).expect("a URI").connect().await.expect("connects")
}

#[tokio::test]
async fn garbage_is_closed_and_delays_nobody() {
    let folder = folder();
    let house = house(&folder).await;
    let addr = at_a_port(&house).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let garbage =
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 1 << 20], [preface, vec![0xff; 1 << 20]].concat()];
    for some in garbage {
        let mut stream = TcpStream::connect(addr).await.expect("a port");
        // It may be closed before all of it is sent.
        stream.write_all(&some).await.ok();
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
    let directives = served(&house, channel(addr).await).await;
    is_noted(&house, "handshake", 3).await;
    assert_eq!(house.end_softly().await, Exit::Ok);
    drop(directives);
}

/// Waits until there were so many such refusals.
async fn is_noted(house: &House, reason: &str, times: u64) {
    let noted = || house.control.refusals.recent().into_iter().find(|refused| refused.reason == reason);
    while noted().is_none_or(|refused| refused.times < times) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_sends_nothing_has_to_go_and_a_session_may_be_silent() {
    let folder = folder();
    let house = house(&folder).await;
    let within = Duration::from_secs(1);
    let addr = at_a_port_with(&house, calls::Limits { within, ..calls::Limits::default() }).await;
    let silent = grpc::RemoteControl::new(channel(addr).await);
    let mut session = served(&house, channel(addr).await).await;
    let told = silent.attach(futures::stream::pending().boxed()).await;
    assert_eq!(told.err().map(|error| error.code()), Some(Code::Invalid), "it said no hello");
    is_noted(&house, "idle", 1).await;
    tokio::time::sleep(3 * within).await;
    assert_eq!(house.control.edges(), 1, "who was taken in may be silent");
    assert!(futures::poll!(session.next()).is_pending(), "and hears on");
    drop((session, silent));
    assert_eq!(house.end_softly().await, Exit::Ok);
}

#[tokio::test]
async fn past_the_limit_a_connection_is_closed_at_once() {
    let folder = folder();
    let house = house(&folder).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let door = Door::new(Limits { of_one: 2, ..Limits::default() }, Arc::clone(&house.control.refusals));
    let mut incoming = arriving::plain(listener, door);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients
            .push((TcpStream::connect(addr).await.expect("a port"), incoming.next().await.expect("a place")));
    }
    let mut third = TcpStream::connect(addr).await.expect("the kernel takes it");
    let closed = async {
        // Reset, or closed.
        third.read_to_end(&mut Vec::new()).await.unwrap_or_default()
    };
    tokio::select! {
        read = closed => assert_eq!(read, 0),
        _ = incoming.next() => panic!("there is no place"),
    }
    assert_eq!(house.control.refusals.recent()[0].reason, "full");
    clients.pop();
    let fourth = TcpStream::connect(addr).await.expect("a port");
    incoming.next().await.expect("its place is free again").expect("accepted");
    drop((clients, fourth));
    assert_eq!(house.end_softly().await, Exit::Ok);
}

#[tokio::test]
async fn what_is_not_heard_yet_waits_with_the_edge_that_says_it() {
    const IN_A_REPORT: usize = 1000;
    const AT_MOST: u64 = 8 << 20;
    let folder = folder();
    let house = house(&folder).await;
    let addr = at_a_port(&house).await;
    // A session hears nothing before it is noted.
    let deaf = house.control.roster.hold().await;
    let said = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&said);
    let flood = futures::stream::repeat_with(move || {
        // A store path takes more than 20 bytes on the wire.
        counted.fetch_add(20 * IN_A_REPORT as u64, Ordering::Relaxed);
        let narinfos = vec![(path(1).hash(), 1); IN_A_REPORT];
        EdgeReport::Accesses(Accesses { narinfos, nars: Vec::new() })
    });
    let reports = futures::stream::iter([EdgeReport::Hello(Hello::new("flood", "i"))]).chain(flood);
    let reports = reports.map(Into::into).boxed();
    let plane = grpc::RemoteControl::new(channel(addr).await);
    let mut directives = plane.attach(reports).await.expect("attaches");
    directives.next().await.expect("a directive").expect("no break");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(said.load(Ordering::Relaxed) < AT_MOST, "nobody hears it, and it is taken in");
    }
    drop(deaf);
    while said.load(Ordering::Relaxed) < 2 * AT_MOST {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(directives);
    assert_eq!(house.end_softly().await, Exit::Ok);
}

/// Narinfos of one path for which nobody vouches who is trusted, each with a NAR file of its own.
fn forged(upstream: &Upstream, own: &SecretKey) -> Vec<(&'static str, NarInfo)> {
    let signed = || upstream.narinfo(1);
    let mut by_us = unsigned(1);
    by_us.signatures = vec![own.sign(&by_us.fingerprint())];
    let lies = [
        ("signed with our own key", by_us),
        ("unsigned", unsigned(1)),
        ("another NarHash than was signed", NarInfo { nar_hash: unsigned(2).nar_hash, ..signed() }),
        ("another NarSize than was signed", NarInfo { nar_size: 5001, ..signed() }),
        ("another path's signature", NarInfo { signatures: upstream.narinfo(2).signatures, ..signed() }),
    ];
    let file = |lie: &str| Some(FileHash(Sha256Hash::of(lie.as_bytes())));
    lies.map(|(lie, narinfo)| (lie, NarInfo { file_hash: file(lie), ..narinfo })).to_vec()
}

async fn made(house: &House, name: &str, scopes: &[Scope]) -> Secret {
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    let new = NewToken { name, scopes, edges: Vec::new(), expiry: Expiry::Never };
    let by = Caller { who: "test".to_owned() };
    house.control.create_token(&by, new).await.expect("made").secret
}

async fn revoked(house: &House, name: &str, scopes: &[Scope]) -> Secret {
    let secret = made(house, name, scopes).await;
    let by = Caller { who: "test".to_owned() };
    house.control.revoke_token(&by, name).await.expect("revoked");
    secret
}

async fn upload_of(
    plane: &dyn ControlPlane,
    narinfo: &NarInfo,
    secret: Option<&Secret>,
) -> Result<NarInfo, Error> {
    let secret = secret.map(|secret| Secret::new(secret.reveal()));
    let writer = Writer { instance: "edge".to_owned(), secret };
    plane.publish_upload(Upload { narinfo: narinfo.clone(), nar: file_of(narinfo), held: true, writer }).await
}

/// Nothing of it is known, and nobody who is refused is handed a signature of ours.
async fn stays_unknown(plane: &dyn ControlPlane, told: Result<NarInfo, Error>, code: Code, what: &str) {
    let error = told.expect_err(what);
    assert_eq!(error.code(), code, "{what}: {error}");
    assert!(!error.to_string().contains("cache.test:"), "{what}: {error}");
    assert_eq!(plane.narinfo(path(1).hash()).await.expect("answers"), Lookup::Unknown, "{what}");
}

#[tokio::test]
async fn a_forged_narinfo_is_refused_whoever_brings_it_over_a_port() {
    let folder = folder();
    let (upstream, own) = (Upstream::new(), own_key());
    let mut settings = settings(upstream.key.public());
    settings.writing.put = true;
    let house = House::open(folder.path(), same_key(&own), settings, Duration::from_secs(60)).await;
    let uri = format!("http://{}", at_a_port(&house).await);
    let trusted = made(&house, "edge", &[Scope::Edge, Scope::Durable]).await;
    let (plane, session) = edge(&uri, trusted.reveal(), "edge").await;
    let writers = [
        ("no token", None),
        ("a revoked token", Some(revoked(&house, "former", &[Scope::Write, Scope::Sign, Scope::Edge]).await)),
        ("a token of scope write", Some(made(&house, "writer", &[Scope::Write]).await)),
    ];
    for (lie, narinfo) in forged(&upstream, &own) {
        // The bytes are there and are what the narinfo says: only trust is missing.
        plane.commit_nar("edge", Commit { uploaded: true, ..commit(&narinfo) }).await.expect("committed");
        for (who, secret) in &writers {
            let what = format!("{lie}, with {who}");
            let told = upload_of(&*plane, &narinfo, secret.as_ref()).await;
            stays_unknown(&*plane, told, Code::Refused, &what).await;
            let told = plane.publish_narinfo(publication(narinfo.clone())).await;
            stays_unknown(&*plane, told, Code::Invalid, &what).await;
            // Whoever is no edge is not even heard.
            let stranger = shows(&uri, secret.as_ref().map_or("", |secret| secret.reveal())).await;
            let told = upload_of(&stranger, &narinfo, secret.as_ref()).await;
            stays_unknown(&*plane, told, Code::Unauthenticated, &what).await;
            let told = stranger.publish_narinfo(publication(narinfo.clone())).await;
            stays_unknown(&*plane, told, Code::Unauthenticated, &what).await;
        }
    }
    // Nothing but the token was missing.
    let signer = made(&house, "signer", &[Scope::Write, Scope::Sign]).await;
    let (_, unsigned) = &forged(&upstream, &own)[1];
    let taken = upload_of(&*plane, unsigned, Some(&signer)).await.expect("he may");
    assert!(own.public().verify(&taken.fingerprint(), &taken.signatures[0]));
    drop((session, plane));
    assert_eq!(house.end_softly().await, Exit::Ok);
}
