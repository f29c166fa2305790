//! How many connections there may be, and how long those that nobody let in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::refusals;

fn door(all: usize, of_one: usize) -> Arc<Door> {
    Door::new(Limits { all, of_one, ..Limits::default() }, refusals())
}

fn from(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 1000))
}

#[test]
fn one_address_can_not_take_every_place_and_places_come_back() {
    let door = door(3, 2);
    let mut held: Vec<_> = (0..2).map(|_| door.enter(from(1)).expect("a place")).collect();
    assert!(door.enter(from(1)).is_none(), "it has two");
    held.push(door.enter(from(2)).expect("another has not"));
    assert!(door.enter(from(3)).is_none(), "there are three");
    let reasons: Vec<_> = door.refusals().recent().into_iter().map(|r| (r.peer, r.reason, r.times)).collect();
    let full = |ip: &str| (Some(ip.to_owned()), "full".to_owned(), 1);
    assert_eq!(reasons, [full("10.0.0.3"), full("10.0.0.1")]);
    held.clear();
    assert!(door.inside.lock().is_empty());
    assert!(door.enter(from(3)).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_is_let_in_for_nothing_has_to_go() {
    let door = door(1, 1);
    let (near, _far) = tokio::io::duplex(64);
    let mut held = door.enter(from(1)).expect("a place").hold(near);
    let broken = held.read_u8().await.expect_err("nothing was let in");
    assert_eq!(broken.kind(), io::ErrorKind::TimedOut);
    assert_eq!(door.refusals().recent()[0].reason, "idle");
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_may_be_silent() {
    let door = door(1, 1);
    let (near, _far) = tokio::io::duplex(64);
    let mut held = door.enter(from(1)).expect("a place").hold(near);
    held.connect_info().admit();
    let silent = tokio::time::timeout(10 * PROVEN_WITHIN, held.read_u8()).await;
    assert!(silent.is_err(), "nothing came, and nothing broke");
}

/// What was noted of a connection that says this, makes a call or not, and ends.
async fn noted(says: &[u8], calls: bool) -> Vec<String> {
    let door = door(1, 1);
    let (near, mut far) = tokio::io::duplex(64);
    let mut held = door.enter(from(1)).expect("a place").hold(near);
    far.write_all(says).await.expect("room");
    drop(far);
    held.read_to_end(&mut Vec::new()).await.expect("an end");
    if calls {
        held.connect_info().call();
    }
    drop(held);
    door.refusals().recent().into_iter().map(|refused| refused.reason).collect()
}

#[tokio::test]
async fn who_says_something_and_makes_no_call_is_counted() {
    assert_eq!(noted(b"GET / HTTP/1.1", false).await, ["handshake"]);
    assert!(noted(b"PRI * HTTP/2.0", true).await.is_empty(), "it made one");
    assert!(noted(b"", false).await.is_empty(), "it only looked whether somebody is there");
}
