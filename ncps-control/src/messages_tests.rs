//! Messages in pieces: which go on, which are refused, what time they have, and what room they take.

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use tonic::Code;

use super::*;
use crate::calls::{Intake, Limits};
use crate::refusals::Refusals;
use crate::testing::{refusals, visitor};

const WITHIN: Duration = Duration::from_secs(30);
const ROOM: usize = 1 << 20;

/// A call whose body is these pieces, each after a pause.
struct Scene {
    refusals: Arc<Refusals>,
    intake: Arc<Intake>,
    call: Arc<Call>,
}

impl Scene {
    fn new() -> Scene {
        let refusals = refusals();
        let intake = Intake::new(Limits { room: ROOM, own: 0, within: WITHIN }, Arc::clone(&refusals));
        let call = intake.begin(&visitor(1)).expect("room");
        Scene { refusals, intake, call }
    }

    fn reads(&self, pieces: BoxStream<'static, Bytes>) -> Messages {
        let frames = pieces.map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Messages::new(Body::new(StreamBody::new(frames)), Arc::clone(&self.call), WITHIN)
    }

    fn noted(&self) -> Vec<String> {
        self.refusals.recent().into_iter().map(|refused| refused.reason).collect()
    }
}

/// A message with its head.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

fn in_pieces(bytes: &[u8], of: usize) -> BoxStream<'static, Bytes> {
    let pieces: Vec<_> = bytes.chunks(of).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces).boxed()
}

/// The same, each after a pause.
fn slowly(bytes: &[u8], of: usize, pause: Duration) -> BoxStream<'static, Bytes> {
    let pieces = in_pieces(bytes, of).then(move |piece| async move {
        sleep(pause).await;
        piece
    });
    pieces.boxed()
}

async fn next(messages: &mut Messages) -> Option<Result<Bytes, Code>> {
    let frame = messages.frame().await?;
    Some(frame.map(|frame| frame.into_data().expect("data")).map_err(|status| status.code()))
}

#[tokio::test]
async fn only_whole_messages_go_on_in_whatever_pieces_they_come() {
    let three = [message(b"one"), message(b""), message(&[7; 1000])];
    let all = three.concat();
    for of in 1..all.len() {
        let scene = Scene::new();
        let (mut messages, mut came) = (scene.reads(in_pieces(&all, of)), Vec::new());
        while let Some(some) = next(&mut messages).await {
            let some = some.expect("well-formed");
            assert_eq!(whole(&some), Ok(some.len()), "in pieces of {of}");
            came.extend_from_slice(&some);
        }
        assert_eq!((came, scene.noted().len()), (all.clone(), 0), "in pieces of {of}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_counted() {
    let mut compressed = message(b"x");
    compressed[0] = 1;
    let cut = &message(b"long")[..6];
    for bytes in [&compressed[..], b"\x00\xff\xff\xff\xff", b"GET / HTTP/1.1", cut] {
        let scene = Scene::new();
        let first = next(&mut scene.reads(in_pieces(bytes, 1))).await;
        assert_eq!(first, Some(Err(Code::InvalidArgument)), "{bytes:?}");
        assert_eq!(scene.noted(), ["malformed"], "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_has_to_be_whole_in_its_time_however_it_drips() {
    let half = message(&[1; 100])[..50].to_vec();
    let silent = || in_pieces(&half, 50).chain(stream::pending()).boxed();
    let drips = || slowly(&message(&[1; 100]), 1, Duration::from_secs(1));
    for pieces in [silent(), drips(), stream::pending().boxed()] {
        let (scene, start) = (Scene::new(), Instant::now());
        let first = next(&mut scene.reads(pieces)).await;
        assert_eq!((first, start.elapsed().as_secs()), (Some(Err(Code::DeadlineExceeded)), 30));
        assert_eq!(scene.noted(), ["idle"]);
    }
}

#[tokio::test(start_paused = true)]
async fn between_messages_a_stream_that_goes_on_has_time_and_in_them_it_has_not() {
    let scene = Scene::new();
    let whole = |_| message(b"hello");
    let seldom = slowly(&(0..3).flat_map(whole).collect::<Vec<_>>(), 10, 10 * WITHIN);
    let half = in_pieces(&message(b"hello")[..7], 7).chain(stream::pending());
    let mut messages = scene.reads(seldom.chain(half).boxed());
    scene.call.answer(&hyper::Response::new(Body::empty()));
    for _ in 0..3 {
        assert_eq!(next(&mut messages).await, Some(Ok(message(b"hello").into())));
    }
    assert_eq!(next(&mut messages).await, Some(Err(Code::DeadlineExceeded)));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_control_takes_itself_is_not_the_callers() {
    let scene = Scene::new();
    let mut messages = scene.reads(slowly(&message(&[1; 15]), 10, WITHIN / 3));
    // It came to the half of it, and is busy for long.
    assert!(futures::poll!(Box::pin(next(&mut messages))).is_pending());
    let (wake, mut messages) = (sleep(WITHIN / 3), messages);
    wake.await;
    assert!(futures::poll!(Box::pin(next(&mut messages))).is_pending());
    assert_eq!(next(&mut messages).await, Some(Ok(message(&[1; 15]).into())));
}

#[tokio::test]
async fn what_a_call_says_takes_room_until_it_is_done_with() {
    let scene = Scene::new();
    let most = message(&vec![1; ROOM / 2]);
    let twice = [&most[..], &most].concat();
    let pieces = in_pieces(&twice, most.len()).chain(stream::pending()).boxed();
    let mut messages = scene.reads(pieces);
    assert!(next(&mut messages).await.expect("it is there").is_ok());
    let other = scene.intake.begin(&visitor(1)).expect("room for a call");
    assert!(!other.hold(ROOM / 2), "one is worked on");
    assert!(other.hold(ROOM / 4), "there is room for less");
    drop(other);
    assert_eq!(next(&mut messages).await, Some(Err(Code::ResourceExhausted)), "nobody answered the first");
    assert_eq!(scene.noted(), ["flood"]);
}

#[tokio::test]
async fn of_a_stream_the_last_message_takes_room_until_the_next_one_is_asked_for() {
    let scene = Scene::new();
    let most = message(&vec![1; ROOM / 2]);
    let many = stream::repeat(Bytes::from(most)).take(5).chain(stream::pending()).boxed();
    let mut messages = scene.reads(many);
    scene.call.answer(&hyper::Response::new(Body::empty()));
    for _ in 0..5 {
        assert!(next(&mut messages).await.expect("it is there").is_ok());
    }
    let other = scene.intake.begin(&visitor(1)).expect("room for a call");
    assert!(!other.hold(ROOM / 2), "the last one is worked on");
    assert!(futures::poll!(Box::pin(next(&mut messages))).is_pending());
    assert!(other.hold(ROOM / 2), "nobody works on it any more");
}
