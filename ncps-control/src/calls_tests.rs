//! Which calls are taken in, what is counted, and that room comes back.

use bytes::Bytes;
use http_body_util::Full;

use super::*;
use crate::testing::{refusals, visitor};

const OWN: usize = 2 * OF_A_CALL;

fn intake(room: usize) -> Arc<Intake> {
    Intake::new(Limits { room, own: OWN, ..Limits::default() }, refusals())
}

fn noted(intake: &Intake) -> Vec<String> {
    intake.refusals.recent().into_iter().map(|refused| refused.reason).collect()
}

#[tokio::test]
async fn one_address_takes_no_others_room_and_what_is_done_gives_it_back() {
    let intake = intake(100);
    let (one, other) = (visitor(1), visitor(2));
    let (first, second) = (intake.begin(&one).expect("room"), intake.begin(&one).expect("room"));
    assert!(intake.begin(&one).is_err(), "there is none for a third");
    assert!(first.hold(100) && !second.hold(1));
    assert!(intake.begin(&other).expect("room").hold(OWN - OF_A_CALL + 100), "it is another's");
    assert_eq!(noted(&intake), ["flood"]);
    assert!(first.hold(0) && second.hold(100));
    drop((first, second));
    assert!(intake.taken.lock().is_empty());
}

#[tokio::test]
async fn a_connection_keeps_its_own_room_when_its_address_has_none_left() {
    let intake = intake(100);
    let greedy = intake.begin(&visitor(1)).expect("room");
    assert!(greedy.hold(OWN - OF_A_CALL + 100) && !greedy.hold(OWN - OF_A_CALL + 101));
    let honest = intake.begin(&visitor(1)).expect("it is of another connection");
    assert!(honest.hold(OWN - OF_A_CALL) && !honest.hold(OWN - OF_A_CALL + 1));
    assert!(greedy.hold(0) && honest.hold(OWN - OF_A_CALL + 1));
    drop((greedy, honest));
    assert!(intake.taken.lock().is_empty());
}

/// What a service that answers so is asked, and what became of it.
async fn asked(
    intake: &Arc<Intake>,
    request: hyper::http::request::Builder,
    answer: fn() -> Response<Body>,
) -> Response<Body> {
    let body = Body::new(Full::new(Bytes::from_static(b"\0\0\0\0\0")));
    let request = request.extension(visitor(1)).body(body).expect("a request");
    let inner = tower::service_fn(move |_| std::future::ready(Ok::<_, std::convert::Infallible>(answer())));
    Calls::new(inner, intake).call(request).await.expect("it can't fail")
}

fn post() -> hyper::http::request::Builder {
    Request::post("/ncps.v1.ControlPlane/Narinfo").header(CONTENT_TYPE, "application/grpc")
}

#[tokio::test]
async fn what_is_no_call_of_grpc_goes_to_nobody() {
    let never = || panic!("nobody is asked");
    for request in [
        Request::post("/"),
        Request::post("/").header(CONTENT_TYPE, "application/json"),
        Request::get("/").header(CONTENT_TYPE, "application/grpc"),
    ] {
        let intake = intake(ROOM);
        assert_eq!(asked(&intake, request, never).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(noted(&intake), ["malformed"]);
        assert!(intake.taken.lock().is_empty());
    }
}

#[tokio::test]
async fn a_message_that_can_not_be_decoded_is_counted_and_other_answers_are_not() {
    let intake = intake(ROOM);
    for other in [
        || Response::new(Body::empty()),
        || Status::internal("a bug").into_http(),
        || Status::not_found("failed to decode Protobuf message").into_http(),
    ] {
        asked(&intake, post(), other).await;
    }
    assert!(noted(&intake).is_empty());
    let undecodable = || Status::internal("failed to decode Protobuf message: buffer underflow").into_http();
    asked(&intake, post(), undecodable).await;
    assert_eq!(noted(&intake), ["malformed"]);
    assert!(intake.taken.lock().is_empty());
}
