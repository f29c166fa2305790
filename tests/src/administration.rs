//! `ncps-cli` as a shell runs it: a process, its two outputs and its exit code.
//!
//! Knows where control is asked. Absent: what any command means.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program, with where it asks.
#[derive(Clone, Debug)]
pub struct Cli {
    under_test: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
}

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub printed: String,
    /// Its standard error.
    pub said: String,
}

impl Cli {
    /// Of the test binary `under_test`, asking at no place in particular, with an empty environment.
    pub fn new(under_test: &str) -> Cli {
        Cli { under_test: under_test.into(), flags: Vec::new(), env: Vec::new() }
    }

    /// Asking at this socket.
    pub fn at(under_test: &str, socket: &Path) -> Cli {
        Cli::new(under_test).flag(format!("--control=unix:{}", socket.display()))
    }

    /// One flag more before every command.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Cli {
        self.flags.push(flag.into());
        self
    }

    /// One variable more in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Cli {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it can't be started, is killed, or prints what is no UTF-8.
    pub async fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        Ran::of(output.expect("the program starts"))
    }

    /// The same of a command that has to end with 0; gives what it printed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, 0, "ncps-cli {args:?}: {ran:?}");
        ran.printed
    }

    /// The same with `--output=json`, parsed.
    ///
    /// # Panics
    /// If it does not end with 0, or prints no JSON.
    pub async fn json(&self, args: &[&str]) -> serde_json::Value {
        let printed = self.clone().flag("--output=json").ok(args).await;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Runs a command on a terminal of its own, where this is typed: both outputs are `printed`. `None` where there is no
    /// `script` of util-linux, which makes terminals.
    ///
    /// # Panics
    /// As [`Cli::run`].
    pub async fn on_a_terminal(&self, args: &[&str], typed: &str) -> Option<Ran> {
        let version = Command::new("script").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("util-linux") {
            return None;
        }
        let inner = self.command(args);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
        let mut command = Command::new("script");
        command.args(["-qec", &format!("exec {}", words.join(" ")), "/dev/null"]);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).env("SHELL", "/bin/sh");
        let typed = typed.to_owned();
        let run = move || {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn()?;
            child.stdin.take().expect("it is piped").write_all(typed.as_bytes())?;
            child.wait_with_output()
        };
        let output: std::io::Result<Output> = tokio::task::spawn_blocking(run).await.expect("no panic");
        Some(Ran::of(output.expect("the program starts")))
    }

    /// The command, for who wants to run it otherwise.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.under_test);
        command.arg("ncps-cli").args(&self.flags).args(args).env_clear();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Ran {
    fn of(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("it ended by itself");
        Ran { code, printed: text(output.stdout), said: text(output.stderr) }
    }
}
