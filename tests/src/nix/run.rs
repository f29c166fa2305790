//! Running a command to its end: with a limit, and with its output kept.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// More than Nix's five tries of anything, each with its pause, ever take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// Its exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed, without white space around it.
    ///
    /// # Panics
    /// If it failed.
    pub fn ok(self) -> String {
        assert!(self.succeeded(), "{} failed ({:?}):\n{}", self.command, self.code, self.stderr);
        self.stdout.trim().to_owned()
    }

    /// What it complained about.
    ///
    /// # Panics
    /// If it succeeded.
    pub fn failed(self) -> String {
        assert!(!self.succeeded(), "{} succeeded:\n{}{}", self.command, self.stdout, self.stderr);
        self.stderr
    }
}

pub(super) async fn to_its_end(mut command: Command) -> Output {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{line} does not start: {error}"));
    let mut running = Running(Some(Pid::from_child(&child)));
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(LIMIT, ended).await;
    let output = ended.unwrap_or_else(|_| panic!("{line} takes longer than {LIMIT:?}"));
    running.0 = None;
    let output = output.expect("waiting does not panic").expect("a child can be waited for");
    Output {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Kills the command if nobody waits for it any more.
struct Running(Option<Pid>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // It may have ended in this very moment.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}
