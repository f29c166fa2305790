//! The program `ncps-edge`: an edge in a process of its own.

use std::ffi::OsString;

use anyhow::Context;
use ncps_runtime::clap::Command;
use ncps_runtime::config::{Env, Resolver};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::DATA;
use ncps_runtime::foreign::refuse_go_data;
use ncps_runtime::keys::CONTROL_KEYS;
use ncps_runtime::lock::DirLock;
use ncps_runtime::program::Program;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;

use crate::compose::compose;
use crate::config::{ControlLink, EDGE, EdgeConfig, REMOTE};
use crate::remote;

const PROGRAM: Program<'_> = Program {
    name: "ncps-edge",
    about: "Edge of ncps, a Nix binary cache: serves Nix clients and streams NARs",
    fields: &[DATA, EDGE, REMOTE],
    known: CONTROL_KEYS,
};

/// Runs until asked to stop.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    PROGRAM.run(args, env, read, start)
}

/// Its command line.
pub fn command() -> Command {
    PROGRAM.command()
}

fn read(r: &mut Resolver, env: Env<'_>) -> Option<(EdgeConfig, ControlLink)> {
    let edge = EdgeConfig::read(r, env, false);
    let data = edge.as_ref().map(|edge| edge.data_path.as_path());
    let control = ControlLink::read(r, env, data)?;
    let edge = EdgeConfig { authorities: control.ca_file.clone(), ..edge? };
    Some((edge, control))
}

async fn start(
    (edge, control): (EdgeConfig, ControlLink),
    tasks: Tasks,
    telemetry: Telemetry,
) -> anyhow::Result<()> {
    refuse_go_data(&edge.data_path)?;
    let made = std::fs::create_dir_all(&edge.data_path);
    made.with_context(|| format!("make {} (--cache-data-path)", edge.data_path.display()))?;
    let lock = DirLock::acquire(&edge.data_path.join("lock"))?;
    let control = remote::connect(&control, remote::DEADLINE);
    let control = control.context(
        "--control-url, --control-ca-file, --control-token-file, --control-client-cert, --control-client-key",
    )?;
    compose(edge, control, &tasks, &telemetry).await?;
    keep_locked(lock, &tasks);
    Ok(())
}

/// The lock is let go when everything else has ended.
fn keep_locked(lock: DirLock, tasks: &Tasks) {
    let stop = tasks.life().hard();
    tasks.spawn_background("lock of the data path", async move {
        stop.cancelled().await;
        drop(lock);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_help_leaves_nothing_out() {
        assert_eq!(ncps_runtime::config::undescribed(PROGRAM.command()), Vec::<String>::new());
    }
}
