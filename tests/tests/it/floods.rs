//! Much of what nobody wants at control's port: connections, streams, halves of messages, and calls that nobody let in.
//! All of it is refused and counted, takes bounded memory and files, and an honest edge is served meanwhile.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use ncps_edge::config::{ControlLink, ControlUrl};
use ncps_edge::remote;
use ncps_nix::StorePathHash;
use ncps_proto::{Code, ControlPlane, Lookup};
use ncps_tests::frames::{Frames, Head, message};
use ncps_tests::{eventually, in_time};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::flooded::{NARINFO, Scene};

const MIB: u64 = 1 << 20;
/// Of a message, at most: what is announced of it has not come yet.
const LONGEST: u32 = 8 << 20;
/// Most of what control waits for the rest of a message; the rest of it is waited for where the end is.
const UNTIL_TOO_SLOW: Duration = Duration::from_secs(25);

fn hash(n: u32) -> StorePathHash {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    StorePathHash::from_bytes(bytes)
}

/// Control, as an edge with this token reaches it. Nobody gives up here, as an edge would after its deadline.
fn client(scene: &Scene, token: &std::path::Path) -> std::sync::Arc<dyn ControlPlane> {
    let url = ControlUrl::Http(scene.fleet.url("http").parse().expect("a URL"));
    let link = ControlLink { token_file: Some(token.to_owned()), ..ControlLink::from(url) };
    remote::connect(&link, remote::DEADLINE).expect("a link").plane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_lookups_over_one_connection_is_answered() {
    const LOOKUPS: u32 = 3000;
    let scene = Scene::start().await;
    let plane = client(&scene, &scene.token);
    let lookups = join_all((0..LOOKUPS).map(|n| plane.narinfo(hash(n))));
    // The client of an edge reads each answer to its end, trailers included. One that drops answers half read resets
    // their streams, and is cut off by its own HTTP/2 for the number of those.
    let answers = in_time("all answers", scene.serves_during(lookups)).await;
    for answer in answers {
        assert_eq!(answer.expect("answered"), Lookup::Unknown);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_nobody_let_in_are_refused_and_the_honest_edge_is_served() {
    const CLIENTS: usize = 4;
    const CALLS: u32 = 1000;
    let scene = Scene::start().await;
    let wrong = scene.fleet.at("wrong");
    std::fs::write(&wrong, "ncps_wrong\n").expect("room");
    let before = scene.memory();
    let flood = join_all((0..CLIENTS).map(|_| async {
        let plane = client(&scene, &wrong);
        let calls = stream::iter(0..CALLS).map(|n| plane.narinfo(hash(n))).buffer_unordered(100);
        calls
            .for_each(async |answer| assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated))
            .await;
    }));
    scene.serves_during(flood).await;
    scene.counts("token", CLIENTS * CALLS as usize).await;
    let more = scene.grown(before);
    assert!(more < 64 * MIB, "{more} bytes more");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_finds_no_more_places_than_there_are() {
    /// Of one address there may be 512, and all here are of one.
    const MANY: usize = 700;
    const PLACES: usize = 512;
    let scene = Scene::start().await;
    let before = scene.files();
    let mut connections = Vec::new();
    for _ in 0..MANY {
        connections.push(TcpStream::connect(scene.addr()).await.expect("the system takes it"));
    }
    scene.counts("full", MANY - PLACES).await;
    let more = scene.files() - before;
    assert!(more <= PLACES + 50, "{more} files more");
    // Who has a connection is served; who had none is turned away, and comes in when there is a place again.
    for _ in 0..5 {
        scene.serves().await;
    }
    let late = client(&scene, &scene.token);
    connections.clear();
    eventually("there is a place again", async || late.narinfo(hash(1)).await.is_ok()).await;
    eventually("their files are given back", async || scene.files() < before + 50).await;
    scene.end().await;
}

/// A connection with so many calls, each of which says so much of a message that is longer.
async fn begun(scene: &Scene, calls: usize, says: usize) -> std::io::Result<Frames> {
    let (secret, half) = (scene.secret(), message(LONGEST, &vec![7; says]));
    let mut frames = Frames::connect(scene.addr()).await?;
    for _ in 0..calls {
        let stream = frames.begin(&Head::call(NARINFO, Some(&secret))).await?;
        frames.send(stream, &half, false).await?;
    }
    // What was only written may not be in control's memory yet.
    frames.heard().await?;
    Ok(frames)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_of_large_messages_take_bounded_memory() {
    const CONNECTIONS: usize = 16;
    const CALLS: usize = 40;
    const SAYS: usize = 900_000;
    let scene = Scene::start().await;
    let before = scene.memory();
    let flood = join_all((0..CONNECTIONS).map(|_| begun(&scene, CALLS, SAYS)));
    let begun = scene.serves_during(flood).await;
    // There is room for 128 MiB, and what came of the next frame; what is read of a connection at once, and what the
    // allocator keeps, comes beside it. All that they say would be 549 MiB.
    let more = scene.grown(before);
    assert!(more < 320 * MIB, "{} MiB more", more / MIB);
    scene.counts("flood", CONNECTIONS * CALLS / 2).await;
    drop(begun);
    // What they took is given to others.
    let plane = client(&scene, &scene.token);
    eventually("there is room again", async || plane.narinfo(hash(1)).await.is_ok()).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_of_what_never_comes_take_no_memory() {
    const CONNECTIONS: usize = 10;
    const CALLS: usize = 1000;
    let scene = Scene::start().await;
    let before = scene.memory();
    let begun = scene.serves_during(join_all((0..CONNECTIONS).map(|_| begun(&scene, CALLS, 1)))).await;
    let more = scene.grown(before);
    // They announce 78 GiB; a call that has begun takes some KiB.
    assert!(more < 256 * MIB, "{} MiB more", more / MIB);
    assert!(begun.iter().all(Result::is_ok), "nobody is refused for that yet");
    scene.serves().await;
    drop(begun);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_nothing_has_to_go() {
    const CALLS: usize = 200;
    let scene = Scene::start().await;
    let secret = scene.secret();
    let mut halves = begun(&scene, CALLS, 10).await.expect("they begin");
    let mut silent = Frames::connect(scene.addr()).await.expect("a port");
    for _ in 0..CALLS {
        silent.begin(&Head::call(NARINFO, Some(&secret))).await.expect("it begins");
    }
    scene.serves_during(tokio::time::sleep(UNTIL_TOO_SLOW)).await;
    let ends = async { tokio::join!(halves.ended(CALLS), silent.ended(CALLS)) };
    let (halves_end, silence_ends) = in_time("all are ended", ends).await;
    halves_end.and(silence_ends).expect("each call of its own, and no connection");
    scene.counts("idle", 2 * CALLS).await;
    // The session of the edge was silent for as long, and nobody ended it.
    let attached =
        scene.edge.lines().iter().filter(|line| line.contains(crate::control_port::ATTACHED)).count();
    assert_eq!(attached, 1);
    drop((halves, silent));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_closed_in_its_time() {
    let scene = Scene::start().await;
    let mut silent = TcpStream::connect(scene.addr()).await.expect("a port");
    scene.serves_during(tokio::time::sleep(UNTIL_TOO_SLOW)).await;
    let mut said = Vec::new();
    // Reset, or closed; it may be greeted before.
    in_time("it is closed", silent.read_to_end(&mut said)).await.unwrap_or_default();
    scene.counts("idle", 1).await;
    scene.end().await;
}
