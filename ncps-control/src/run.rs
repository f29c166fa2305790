//! The program `ncps-control`: control in a process of its own.

use std::ffi::OsString;
use std::sync::Arc;

use ncps_runtime::clock::SystemClock;
use ncps_runtime::config::Env;
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::DATA;
use ncps_runtime::program::Program;
use ncps_runtime::tasks::Tasks;

use crate::compose::{Composed, compose};
use crate::config::{CONTROL, ControlConfig};
use crate::serve::{ControlListener, serve};

const PROGRAM: Program<'_> = Program {
    name: "ncps-control",
    about: "Control plane of ncps, a Nix binary cache: index, signing key and coordination of edges",
    fields: &[DATA, CONTROL],
    known: &[],
};

/// Runs until asked to stop. Never panics on what it is given.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    PROGRAM.run(args, env, ControlConfig::read, start)
}

async fn start(config: ControlConfig, tasks: Tasks) -> anyhow::Result<()> {
    let addr = config.addr.clone();
    let Composed { control } = compose(config, &tasks, Arc::new(SystemClock)).await?;
    serve(ControlListener::bind(&addr).await?, control, &tasks);
    Ok(())
}
