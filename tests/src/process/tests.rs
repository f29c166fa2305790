//! Processes, with a shell in their place.

use std::os::unix::process::ExitStatusExt;

use super::*;

fn shell(script: &str) -> Process {
    Process::spawn(Path::new("/bin/sh"), &["-c", script], &[("GREETING", "hello")])
}

#[tokio::test]
async fn lines_of_both_outputs_are_kept() {
    let mut process = shell("echo $GREETING; echo there >&2; exit 3");
    assert_eq!(process.line_with("hel").await, "hello");
    assert_eq!(process.line_with("there").await, "there");
    assert_eq!(process.printed(), ["hello"]);
    assert_eq!(process.exit().await.code(), Some(3));
}

#[tokio::test]
async fn signals_arrive() {
    let mut process = shell("trap 'exit 7' TERM; echo set; while :; do sleep 0.01; done");
    process.line_with("set").await;
    assert!(process.anonymous_memory().expect("it runs") > 0);
    assert!(process.open_files().expect("it runs") >= 3);
    assert_eq!(process.terminate().await.code(), Some(7));
    let mut process = shell("echo set; while :; do sleep 0.01; done");
    process.line_with("set").await;
    assert_eq!(process.kill().await.signal(), Some(9));
    process.signal(Signal::TERM);
}

#[tokio::test]
#[should_panic(expected = "has ended (exit status: 4), saying:\nno luck")]
async fn an_early_end_is_noticed() {
    let mut process = shell("echo no luck; exit 4");
    process.exit().await;
    eventually("its line", async || !process.lines().is_empty()).await;
    process.ready(crate::ReservedPort::new().addr()).await;
}

#[tokio::test]
async fn readiness_is_seen() {
    let upstream = crate::Upstream::start().await;
    upstream.script(crate::Rule::on("/readyz").times(2).status(503));
    upstream.put("/readyz", "ok");
    shell("sleep 60").ready(upstream.addr()).await;
    assert_eq!(upstream.count("GET", "/readyz"), 3);
}

#[test]
fn memory_is_read() {
    assert_eq!(rss_anon("Name:\tx\nRssAnon:\t    5 kB\nRssFile:\t 9 kB\n"), Some(5 * 1024));
    assert_eq!(rss_anon("Name:\tx\n"), None);
}
