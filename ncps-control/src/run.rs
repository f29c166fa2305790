//! The program `ncps-control`: control in a process of its own.

use std::ffi::OsString;
use std::sync::Arc;

use ncps_runtime::clap::Command;
use ncps_runtime::clock::SystemClock;
use ncps_runtime::config::{Env, ListenAddr, Resolver};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::DATA;
use ncps_runtime::keys::EDGE_KEYS;
use ncps_runtime::program::Program;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;

use crate::compose::{Composed, compose};
use crate::config::{CONTROL, ControlConfig, LATER, LATER_GLOBAL};
use crate::http;
use crate::serve::{ControlListener, open_beside, serve};

const PROGRAM: Program<'_> = Program {
    name: "ncps-control",
    about: "Control plane of ncps, a Nix binary cache: index, signing key and coordination of edges",
    fields: &[DATA, CONTROL, LATER, LATER_GLOBAL],
    known: EDGE_KEYS,
};

/// Runs until asked to stop. Never panics on what it is given.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    PROGRAM.run(args, env, read, start)
}

/// Its command line.
pub fn command() -> Command {
    PROGRAM.command()
}

/// Prometheus and probes come from other machines.
fn read(r: &mut Resolver, env: Env<'_>) -> Option<ControlConfig> {
    let mut config = ControlConfig::read(r, env)?;
    config.default_http_addr(r, ListenAddr::Every(http::PORT));
    config.note(r);
    Some(config)
}

async fn start(config: ControlConfig, tasks: Tasks, telemetry: Telemetry) -> anyhow::Result<()> {
    let (addr, socket, http_addr) = (config.addr.clone(), config.socket.clone(), config.http_addr);
    let insecure = config.insecure;
    let Composed { control } = compose(config, &tasks, Arc::new(SystemClock), &telemetry).await?;
    if let Some(addr) = http_addr {
        http::serve(addr, &control, insecure, &tasks, &telemetry).await?;
    }
    if let Some(socket) = socket {
        open_beside(&socket, Arc::clone(&control), &tasks).await;
    }
    serve(ControlListener::bind(&addr).await?, control, &tasks);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_help_leaves_nothing_out() {
        assert_eq!(ncps_runtime::config::undescribed(PROGRAM.command()), Vec::<String>::new());
    }
}
