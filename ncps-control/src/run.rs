//! The program `ncps-control`: command line in, exit out. Everything it does is in the parts that it names.

use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context;
use ncps_runtime::clap::ArgMatches;
use ncps_runtime::clock::SystemClock;
use ncps_runtime::config::{self, ConfigErrors, Env, Resolver, Sources};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::{RUNTIME, RuntimeConfig};
use ncps_runtime::lifecycle::Lifecycle;
use ncps_runtime::logs;
use ncps_runtime::systemd::Notify;

use crate::compose::{Composed, DataLock, compose};
use crate::config::{CONTROL, ControlConfig};
use crate::serve::{ControlListener, serve};

const ABOUT: &str = "Control plane of ncps, a Nix binary cache: index, signing key and coordination of edges";

/// Runs until asked to stop. Never panics on what it is given.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    let matches = match config::command("ncps-control", ABOUT, &[RUNTIME, CONTROL]).try_get_matches_from(args)
    {
        Ok(matches) => matches,
        Err(answer) => return print(&answer),
    };
    let (runtime, control) = match read(&matches, env) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("ncps-control: {problems}");
            return Exit::Usage;
        }
    };
    match start(runtime, control, Notify::from_env(env)) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("ncps-control: {error:#}");
            Exit::Usage
        }
    }
}

/// Help and version are answers, too.
fn print(answer: &ncps_runtime::clap::Error) -> Exit {
    // Where standard output is closed there is nobody to tell.
    answer.print().ok();
    if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
}

fn read(matches: &ArgMatches, env: Env<'_>) -> Result<(RuntimeConfig, ControlConfig), ConfigErrors> {
    let file = config::find_file(matches, env);
    let mut r = Resolver::new(Sources::gather(&[RUNTIME, CONTROL], &[], matches, env, file.as_deref()));
    let runtime = RuntimeConfig::read(&mut r);
    let control = ControlConfig::read(&mut r, env);
    r.finish()?;
    // `read` gives nothing only where it noted a problem, which `finish` has just returned.
    Ok((runtime, control.expect("no problem was noted")))
}

fn start(runtime: RuntimeConfig, control: ControlConfig, notify: Notify) -> anyhow::Result<Exit> {
    logs::init(&runtime.logs).context("logging")?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("threads")?;
    threads.block_on(async {
        let life = Lifecycle::new(runtime.timing).with_notify(notify);
        life.install_signals().context("signals")?;
        let tasks = life.tasks();
        let listening = control.addr.clone();
        let Composed { control } = compose(control, DataLock::Take, &tasks, Arc::new(SystemClock)).await?;
        match ControlListener::bind(&listening).await {
            Ok(listener) => serve(listener, control, &tasks),
            Err(error) => {
                // The database is open: it is closed in order.
                life.handle().stop_now();
                life.run_until_stopped(tasks).await;
                return Err(error.into());
            }
        }
        Ok(life.run_until_stopped(tasks).await)
    })
}
