//! The shell: who waits is woken, and hears that a session is over.

use futures::{FutureExt, StreamExt};
use ncps_nix::Compression;

use super::*;
use crate::testing::{file, path};

fn open(sessions: &Arc<Sessions>, instance: &str) -> Opened {
    let url = Some(format!("http://{instance}"));
    let hello = Hello { url, durable: true, ..Hello::new(instance, instance) };
    sessions.open(&hello, UnixTime(1)).expect("there is room")
}

#[tokio::test]
async fn who_waits_for_a_directive_is_woken() {
    let sessions = Arc::new(Sessions::default());
    let mut edge = open(&sessions, "a");
    let waits = tokio::spawn(async move { (edge.directives.next().await, edge) });
    tokio::task::yield_now().await;
    sessions.invalidate(&[path(1).hash()]);
    let (told, mut edge) = waits.await.expect("no panic");
    assert_eq!(told.map(|told| told.directive), Some(Directive::Invalidate(vec![path(1).hash()])));
    let waits = tokio::spawn(async move { edge.directives.next().await });
    tokio::task::yield_now().await;
    sessions.cut("a");
    assert_eq!(waits.await.expect("no panic"), None, "the end");
}

#[tokio::test]
async fn who_waits_for_an_answer_hears_that_the_session_is_over() {
    let sessions = Arc::new(Sessions::default());
    let edge = open(&sessions, "a");
    let answered = sessions.remove("a", Vec::new(), Vec::new()).expect("it is attached");
    let counted = sessions.counted("a");
    let mut counted = Box::pin(counted);
    assert!(counted.as_mut().now_or_never().is_none(), "nothing was said yet");
    sessions.close(edge.id);
    assert!(edge.cut.is_cancelled());
    answered.await.expect_err("nobody answers");
    counted.await.expect_err("it is gone");
    assert!(sessions.remove("a", Vec::new(), Vec::new()).is_none());
    assert!(sessions.state.lock().waiting.is_empty() && sessions.state.lock().lines.is_empty());
}

#[tokio::test]
async fn an_answer_goes_to_who_waits_when_it_is_told() {
    let sessions = Arc::new(Sessions::default());
    let edge = open(&sessions, "a");
    let mut answered = sessions.remove("a", Vec::new(), Vec::new()).expect("it is attached");
    let settled = sessions.evicted(edge.id, 1, Vec::new()).expect("somebody waits");
    assert!(!settled.for_room && answered.try_recv().is_err(), "not yet");
    settled.tell();
    assert_eq!(answered.await.expect("told"), Gone::default());
}

#[tokio::test(start_paused = true)]
async fn turns_run_out_with_the_time() {
    let sessions = Arc::new(Sessions::default());
    let name = file("x", Compression::Xz);
    assert_eq!(sessions.begin("a", name, &[]), Turn::Yours(Vec::new()));
    assert_eq!(sessions.begin("b", name, &[]), Turn::Theirs(None), "without a session there is no URL");
    tokio::time::advance(crate::fleet::TTL).await;
    sessions.expire();
    assert_eq!(sessions.leases(), 0);
    assert_eq!(sessions.begin("b", name, &[]), Turn::Yours(Vec::new()));
}
