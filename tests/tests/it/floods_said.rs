//! What can't be understood at control's port, and what was said before by somebody else: garbage, other protocols,
//! messages that are none, and replays. All of it is refused and counted, and an honest edge is served meanwhile.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::join_all;
use ncps_tests::frames::{Frame, Frames, Head, message};
use ncps_tests::{SplitMix, eventually, in_time};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::flooded::{ATTACH, NARINFO, Scene};

const MIB: u64 = 1 << 20;

/// Says this over a connection of its own, and waits until control has ended it.
async fn is_hung_up_on(addr: SocketAddr, says: &[u8]) {
    let mut stream = TcpStream::connect(addr).await.expect("a port");
    // It may be closed before all of it is said.
    stream.write_all(says).await.ok();
    in_time("it is closed", stream.read_to_end(&mut Vec::new())).await.ok();
}

fn garbage(random: &mut SplitMix, bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_other_protocols_are_hung_up_on() {
    const EACH: usize = 30;
    let (scene, mut random) = (Scene::start().await, SplitMix(7));
    let before = scene.memory();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let said: Vec<_> = (0..EACH)
        .flat_map(|_| {
            let noise = garbage(&mut random, 100_000);
            let after_preface = [&preface[..], &noise].concat();
            let http = b"GET /nix-cache-info HTTP/1.1\r\nHost: control\r\n\r\n".to_vec();
            [noise, after_preface, http]
        })
        .collect();
    scene.serves_during(join_all(said.iter().map(|says| is_hung_up_on(scene.addr(), says)))).await;
    scene.counts("handshake", 3 * EACH).await;
    let more = scene.grown(before);
    assert!(more < 64 * MIB, "{} MiB more", more / MIB);
    scene.end().await;
}

/// Whether control ended the call that says this; its connection goes on.
async fn call_ends(frames: &mut Frames, head: &Head<'_>, says: &[u8], last: bool) {
    let stream = frames.begin(head).await.expect("it begins");
    frames.send(stream, says, last).await.expect("it is taken");
    in_time("the call is ended", frames.ended(1)).await.expect("the call alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_can_not_be_understood_are_refused_one_by_one() {
    let scene = Scene::start().await;
    let (secret, before) = (scene.secret(), scene.memory());
    let mut frames = Frames::connect(scene.addr()).await.expect("a port");
    let nonsense = message(3, b"\xff\xff\xff");
    let mut refused = 0;
    for path in [NARINFO, ATTACH] {
        let good = Head::call(path, Some(&secret));
        let json = Head { content_type: "application/json", ..good.clone() };
        let cases = [
            // 4 GiB, of which nothing has come.
            (&good, message(u32::MAX, b""), false),
            (&good, message(u32::MAX, &[7; 1000]), true),
            (&good, b"\x01\0\0\0\x01x".to_vec(), true),
            (&good, message(100, b"ends here"), true),
            (&good, nonsense.clone(), true),
            (&json, b"{}".to_vec(), true),
        ];
        for (head, says, last) in cases {
            call_ends(&mut frames, head, &says, last).await;
            refused += 1;
        }
    }
    scene.counts("malformed", refused).await;
    let more = scene.grown(before);
    assert!(more < 64 * MIB, "{} MiB more", more / MIB);
    // Who says nothing more would hold control's end up until it is pinged in vain.
    drop(frames);
    scene.end().await;
}

/// Who stands between an edge and control, and keeps what edges say.
struct Recorder {
    addr: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    async fn start() -> (Recorder, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        (Recorder { addr, said: Arc::default() }, listener)
    }

    /// Passes everything on, and keeps what the first connection says.
    fn record(&self, listener: TcpListener, control: SocketAddr) {
        let mut kept = Some(Arc::clone(&self.said));
        tokio::spawn(async move {
            while let Ok((edge, _)) = listener.accept().await {
                tokio::spawn(passes(edge, control, kept.take()));
            }
        });
    }
}

async fn passes(
    edge: TcpStream,
    control: SocketAddr,
    kept: Option<Arc<Mutex<Vec<u8>>>>,
) -> std::io::Result<()> {
    let (mut hears, mut says) = edge.into_split();
    let (mut answers, mut asks) = TcpStream::connect(control).await?.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut says).await });
    let mut some = vec![0; 64 << 10];
    loop {
        let read = hears.read(&mut some).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        asks.write_all(&some[..read]).await?;
        if let Some(kept) = &kept {
            kept.lock().extend_from_slice(&some[..read]);
        }
    }
}

/// Says the same again, and goes before anybody answers.
async fn replay(addr: SocketAddr, said: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(said).await?;
    stream.shutdown().await?;
    // It is read to the end, so that control is not kept from reading by a reset.
    in_time("control has enough of it", stream.read_to_end(&mut Vec::new())).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_edge_said_says_nothing_when_others_repeat_it() {
    const TIMES: usize = 20;
    let (recorder, listener) = Recorder::start().await;
    let through = recorder.addr;
    let mut scene = Scene::start_through(|control| {
        recorder.record(listener, control);
        through
    })
    .await;
    scene.serves().await;
    let said = recorder.said.lock().clone();
    let report = Frame::all_of(&said).into_iter().find_map(|frame| frame.data().cloned()).expect("a hello");
    let before = scene.memory();

    // Nobody but whoever is on the way of plaintext has the token in it, and he can be the edge; but no more than it.
    for _ in 0..TIMES {
        scene.serves_during(replay(scene.addr(), &said)).await.ok();
    }
    eventually("the edge alone is attached", async || {
        let edges = scene.fleet.cli().json(&["edges"]).await;
        edges["attached"].as_array().is_some_and(|all| all.len() == 1 && all[0]["name"] == "honest")
    })
    .await;
    // A report alone is worth nothing without the token.
    let mut frames = Frames::connect(scene.addr()).await.expect("a port");
    for _ in 0..TIMES {
        call_ends(&mut frames, &Head::call(ATTACH, None), &report, true).await;
    }
    scene.counts("token", TIMES).await;
    // Nor is what was said once more in the same session.
    let secret = scene.secret();
    let stream = frames.begin(&Head::call(ATTACH, Some(&secret))).await.expect("it begins");
    frames.send(stream, &[&report[..], &report].concat(), false).await.expect("it is taken");
    in_time("the session is ended", frames.ended(1)).await.expect("the call alone");
    scene.counts("hello", 1).await;
    let more = scene.grown(before);
    assert!(more < 64 * MIB, "{} MiB more", more / MIB);

    // With the token revoked it is as if it said nothing, word for word.
    scene.fleet.cli().ok(&["token", "revoke", "honest"]).await;
    for _ in 0..TIMES {
        replay(scene.addr(), &said).await.ok();
    }
    scene.counts("token", 2 * TIMES).await;
    assert!(scene.control.try_exit().is_none(), "it runs on");
}
