//! What the main function of a serving program does, for all of them: command line, configuration with all its
//! problems at once, logs, threads, open files, signals, and the exit code. What is served is handed in.

use std::ffi::OsString;

use anyhow::Context;

use crate::config::{self, Answer, CommandLine, ConfigErrors, Env, Field, Resolver, Sources};
use crate::configuration;
use crate::exit::Exit;
use crate::fields::{RUNTIME, RuntimeConfig};
use crate::files::raise_file_limit;
use crate::lifecycle::Lifecycle;
use crate::logs;
use crate::systemd::Notify;
use crate::tasks::Tasks;
use crate::telemetry::{self, Exporters, Telemetry};

/// Threads for work that blocks: files, and decoders, which keep theirs as long as their stream lasts. They are made
/// when they are needed. Whatever may keep threads for long is limited to half of them together, so that a file can
/// always be opened: else decoders could wait for bytes that wait for a thread.
pub const BLOCKING_THREADS: usize = 1024;

/// A serving program's command line.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// What it is called.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Its own fields; those of [`RUNTIME`] come beside.
    pub fields: &'a [&'a [Field]],
    /// File keys of other programs, which a shared file may have.
    pub known: &'a [&'a str],
}

/// Reads a program's own configuration; nothing where a problem was noted that leaves nothing to say.
pub type Read<C> = fn(&mut Resolver, Env<'_>) -> Option<C>;

impl Program<'_> {
    /// Parses, starts, and runs until asked to stop. `start` puts the parts together; its failure is exit 2,
    /// since it is about what the configuration points at.
    pub fn run<C>(
        &self,
        args: impl IntoIterator<Item = OsString>,
        env: Env<'_>,
        read: Read<C>,
        start: impl AsyncFnOnce(C, Tasks, Telemetry) -> anyhow::Result<()>,
    ) -> Exit {
        match CommandLine::parse(self.command(), &self.groups(), args) {
            Ok(line) if line.has_subcommand() => self.look(line, env, read),
            Ok(line) => self.run_parsed(&line, env, read, start),
            Err(answer) => print(self.name, &answer),
        }
    }

    /// Its command line.
    #[must_use]
    pub fn command(&self) -> clap::Command {
        // All flags are global.
        let look = configuration::command(|command| command);
        config::command(self.name, self.about, &self.groups()).subcommand(look)
    }

    /// `config check|show`.
    fn look<C>(&self, line: CommandLine, env: Env<'_>, read: Read<C>) -> Exit {
        // clap lets nothing through but `config` and these two.
        let Some((_, line)) = line.subcommand() else { return Exit::Usage };
        let Some((asked, line)) = line.subcommand() else { return Exit::Usage };
        configuration::answer(self.name, &asked, self.read(&line, env, read).map(|(resolver, ..)| resolver))
    }

    fn groups(&self) -> Vec<&[Field]> {
        std::iter::once(RUNTIME).chain(self.fields.iter().copied()).collect()
    }

    /// The same for a command line that was parsed already.
    pub fn run_parsed<C>(
        &self,
        line: &CommandLine,
        env: Env<'_>,
        read: Read<C>,
        start: impl AsyncFnOnce(C, Tasks, Telemetry) -> anyhow::Result<()>,
    ) -> Exit {
        let read = self.read(line, env, read);
        let served = match read {
            Ok((_, runtime, config)) => {
                let start = async move |tasks, telemetry| start(config, tasks, telemetry).await;
                serve(self.name, runtime, Notify::from_env(env), start)
            }
            Err(problems) => Err(problems.into()),
        };
        served.unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", self.name);
            Exit::Usage
        })
    }

    /// The configuration, and the resolver that knows where each value came from.
    ///
    /// # Errors
    /// All problems at once.
    pub fn read<C>(
        &self,
        line: &CommandLine,
        env: Env<'_>,
        read: Read<C>,
    ) -> Result<(Resolver, RuntimeConfig, C), ConfigErrors> {
        let file = config::find_file(line, env);
        let mut r = Resolver::new(Sources::gather(&self.groups(), self.known, line, env, file.as_deref()));
        let runtime = RuntimeConfig::read(&mut r);
        let own = read(&mut r, env);
        r.finish()?;
        // `read` gives nothing only where it noted a problem, which `finish` has just returned.
        Ok((r, runtime, own.expect("no problem was noted")))
    }
}

/// Runs one thing to its end, for commands that don't serve.
///
/// # Errors
/// What it fails with, or that there can be no runtime.
pub fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().context("threads")?;
    Ok(threads.block_on(work)?)
}

/// Help and version are answers, too; otherwise all that is wrong with the line is said.
pub fn print(name: &str, answer: &Answer) -> Exit {
    let refused = answer.error.use_stderr();
    if let Some(problems) = answer.problems.as_ref().filter(|_| refused) {
        eprintln!("{name}: {problems}\n");
    }
    // Where the output is closed there is nobody to tell.
    answer.error.print().ok();
    if refused { Exit::Usage } else { Exit::Ok }
}

fn serve<F>(name: &'static str, runtime: RuntimeConfig, notify: Notify, start: F) -> anyhow::Result<Exit>
where
    F: AsyncFnOnce(Tasks, Telemetry) -> anyhow::Result<()>,
{
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let threads = threads.enable_all().max_blocking_threads(BLOCKING_THREADS).build().context("threads")?;
    let most_files = raise_file_limit();
    let (telemetry, exporters) = report(name, &runtime, &threads)?;
    tracing::debug!(most_files, "files and sockets that may be open");
    let served = threads.block_on(async {
        let life = Lifecycle::new(runtime.timing).with_notify(notify);
        life.install_signals().context("signals")?;
        let tasks = life.tasks();
        let started = start(tasks.clone(), telemetry).await;
        if started.is_err() {
            // What was opened is closed in order.
            life.handle().stop_now();
        }
        let exit = life.run_until_stopped(tasks).await;
        started.map(|()| exit)
    });
    // On this thread, which is none of the runtime's: it blocks while the runtime sends.
    exporters.finish();
    served
}

/// Logs and telemetry; exporters need the runtime, and the subscriber needs the exporters.
fn report(
    name: &'static str,
    runtime: &RuntimeConfig,
    threads: &tokio::runtime::Runtime,
) -> anyhow::Result<(Telemetry, Exporters)> {
    let _entered = threads.enter();
    let (telemetry, exporters) = telemetry::start(&runtime.telemetry, name)?;
    logs::init_with(&runtime.logs, &exporters).context("logging")?;
    Ok((telemetry, exporters))
}
