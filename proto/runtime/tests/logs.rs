//! What another process would see of our standard error.

use std::process::Command;

use ncps_runtime::lifecycle::{Lifecycle, Timing};
use ncps_runtime::logs::{self, LogFilter, LogFormat, LogOptions};

const CHILD: &str = "NCPS_TEST_LOGS_CHILD";

/// Not a test of its own: the other process of the test below.
#[tokio::test]
#[ignore = "started by a_panic_is_one_object_like_other_lines"]
async fn talker() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let options = LogOptions { filter: LogFilter::default(), format: LogFormat::Auto };
    logs::init(&options).expect("the first");
    assert!(logs::init(&options).is_err(), "a process logs once");
    let lifecycle = Lifecycle::new(Timing { delay: Default::default(), grace: Default::default() });
    let broken = lifecycle.tasks().spawn("transfer", async { panic!("disk on fire") });
    assert!(broken.await.map(|(): ()| ()).is_err());
}

#[test]
fn a_panic_is_one_object_like_other_lines() {
    let output = Command::new(std::env::current_exe().expect("the test program"))
        .args(["--ignored", "--exact", "talker", "--nocapture"])
        .env(CHILD, "yes")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("started");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).expect("log lines are text");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, ["panic", "task panicked"]);
    assert_eq!(lines[0]["panic"], "disk on fire");
    assert_eq!(lines[0]["spans"][0]["task"], "transfer");
    assert!(lines[0]["place"].as_str().is_some_and(|place| place.contains("logs.rs:")));
    assert_eq!(lines[1]["task"], "transfer");
}
