//! Our programs as processes: started, watched, signalled, and never left behind.
//!
//! Both outputs are kept line by line; what a test waits for is looked for there. Absent on
//! purpose: knowing what the programs are and which flags they take.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::client;
use crate::wait::{eventually, eventually_some};

type Lines = Arc<Mutex<Vec<String>>>;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Lines,
    printed: Lines,
    /// Each ends with the output that it reads.
    readers: Vec<JoinHandle<()>>,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts a program with these arguments and nothing but these variables in its environment.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn spawn<A: AsRef<OsStr>>(program: &Path, args: &[A], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(env.iter().copied());
        Self::spawn_command(command)
    }

    /// Starts a command as it stands, with its outputs captured and no input.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn spawn_command(command: Command) -> Self {
        Self::spawn_with_input(command, Stdio::null())
    }

    /// The same with this input, which may be any open file or socket.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn spawn_with_input(mut command: Command, input: impl Into<Stdio>) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = Path::new(command.get_program()).display().to_string();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (lines, printed) = (Lines::default(), Lines::default());
        let readers = vec![
            keep_lines(child.stdout.take(), &[&printed, &lines]),
            keep_lines(child.stderr.take(), &[&lines]),
        ];
        Self { name, child, lines, printed, readers, exit: None }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to either output so far, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// The lines of its standard output alone.
    pub fn printed(&self) -> Vec<String> {
        self.printed.lock().clone()
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Panics
    /// If the process ends first, or within the usual patience no such line comes.
    pub async fn line_with(&mut self, text: &str) -> String {
        let what = format!("a line with {text:?} of {}", self.name);
        eventually_some(&what, async || {
            // In this order: what it wrote before it ended counts.
            let end = self.try_end();
            let found = self.lines.lock().iter().find(|line| line.contains(text)).cloned();
            self.still_runs_or(end.filter(|_| found.is_none()));
            found
        })
        .await
    }

    /// Waits until `GET /readyz` is answered with 200 there.
    ///
    /// # Panics
    /// If the process ends first, or is not ready within the usual patience.
    pub async fn ready(&mut self, addr: SocketAddr) {
        self.answers(addr, "/readyz").await;
    }

    /// As [`Process::ready`], for another path.
    ///
    /// # Panics
    /// As [`Process::ready`].
    pub async fn answers(&mut self, addr: SocketAddr, path: &str) {
        let what = format!("200 for {path} of {}", self.name);
        eventually(&what, async || {
            let end = self.try_end();
            self.still_runs_or(end);
            client::get(addr, path).await.is_ok_and(|response| response.status == 200)
        })
        .await;
    }

    /// Sends a signal, e.g. [`Signal::TERM`]. To a process that has ended it does nothing.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_exit().is_none() {
            let sent = kill_process(Pid::from_child(&self.child), signal);
            sent.expect("a child that was not waited for can be signalled");
        }
    }

    /// Asks it to end, with SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// As [`Process::exit`].
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }

    /// Ends it without a chance to clean up, with SIGKILL, and waits until it has ended.
    ///
    /// # Panics
    /// As [`Process::exit`].
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.exit().await
    }

    /// How it ended, if it has.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("a child can be waited for");
        }
        self.exit
    }

    /// Waits until it has ended, and all that it wrote is read.
    ///
    /// # Panics
    /// If it has not within the usual patience.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually_some(&what, async || self.try_end()).await
    }

    /// Bytes of memory that is its own: `RssAnon`, which leaves mapped files and the page cache
    /// out. None once it has ended.
    pub fn anonymous_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        rss_anon(&status)
    }

    /// How many files and sockets it has open. None once it has ended.
    pub fn open_files(&self) -> Option<usize> {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).ok().map(Iterator::count)
    }

    /// How it ended, once all that it wrote has been read too.
    fn try_end(&mut self) -> Option<ExitStatus> {
        let all_read = self.readers.iter().all(JoinHandle::is_finished);
        self.try_exit().filter(|_| all_read)
    }

    fn still_runs_or(&self, exit: Option<ExitStatus>) {
        if let Some(status) = exit {
            panic!("{} has ended ({status}), saying:\n{}", self.name, self.lines().join("\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both only fail for a process that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{} wrote:\n{}", self.name, self.lines().join("\n"));
        }
    }
}

fn keep_lines(output: Option<impl Read + Send + 'static>, kept: &[&Lines]) -> JoinHandle<()> {
    let output = BufReader::new(output.expect("it was asked to be piped"));
    let kept: Vec<Lines> = kept.iter().map(|lines| Arc::clone(lines)).collect();
    std::thread::spawn(move || {
        for line in output.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            kept.iter().for_each(|lines| lines.lock().push(line.clone()));
        }
    })
}

fn rss_anon(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
