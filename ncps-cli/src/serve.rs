//! `ncps serve`: control and one edge in one process. The edge talks to control through the generated client
//! over the generated server, without a socket: the same codec and mappings as between two processes. The socket is
//! there for administrators.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ncps_control::compose::Composed;
use ncps_control::config::{CONTROL, ControlAddr, ControlConfig, LATER, LATER_GLOBAL};
use ncps_control::serve::{ControlListener, open_beside, serve_beside};
use ncps_control::{Control, http};
use ncps_edge::compose::Edge;
use ncps_edge::config::{EDGE, EdgeConfig};
use ncps_proto::grpc;
use ncps_runtime::clap::Command;
use ncps_runtime::clock::SystemClock;
use ncps_runtime::config::{self, CommandLine, Env, Field, ListenAddr, Resolver};
use ncps_runtime::exit::Exit;
use ncps_runtime::fields::{DATA, RUNTIME};
use ncps_runtime::keys::EDGE_KEYS;
use ncps_runtime::program::Program;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::Telemetry;

/// The fields of both planes that stand after the command's name.
pub(crate) const FIELDS: &[&[Field]] = &[DATA, CONTROL, EDGE, LATER];

pub(crate) const PROGRAM: Program<'_> = Program {
    name: "ncps",
    about: "",
    fields: &[DATA, CONTROL, EDGE, LATER, LATER_GLOBAL],
    // A file may be shared with an edge of its own process.
    known: EDGE_KEYS,
};

/// Those of every program.
pub(crate) fn all_fields() -> Vec<&'static [Field]> {
    [&[RUNTIME], PROGRAM.fields].concat()
}

/// Both planes' configuration.
pub(crate) struct Both {
    control: ControlConfig,
    edge: EdgeConfig,
}

pub(crate) fn command(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).args(config::args(FIELDS))
}

pub(crate) fn run(line: &CommandLine, env: Env<'_>) -> Exit {
    PROGRAM.run_parsed(line, env, read, async |both: Both, tasks, telemetry| {
        start(both.control, both.edge, &tasks, &telemetry).await.map(drop)
    })
}

pub(crate) fn read(r: &mut Resolver, env: Env<'_>) -> Option<Both> {
    let (control, edge) = (ControlConfig::read(r, env), EdgeConfig::read(r, env, true));
    let mut control = control?;
    // The edge's port says the same; this one is for whoever looks at the host.
    control.default_http_addr(r, ListenAddr::At((Ipv4Addr::LOCALHOST, http::PORT).into()));
    control.note(r);
    Some(Both { control, edge: edge? })
}

/// Starts both planes in this process.
///
/// # Errors
/// Where one of them can't start; what it opened is closed when the tasks end.
pub async fn start(
    control: ControlConfig,
    edge: EdgeConfig,
    tasks: &Tasks,
    telemetry: &Telemetry,
) -> anyhow::Result<(Arc<Control>, Edge)> {
    let (addr, socket, http_addr) = (control.addr.clone(), control.socket.clone(), control.http_addr);
    let insecure = control.insecure;
    // Control takes the lock of the data path that both share.
    let Composed { control } =
        ncps_control::compose::compose(control, tasks, Arc::new(SystemClock), telemetry).await?;
    let plane = grpc::in_process(Arc::clone(&control) as _);
    let edge = ncps_edge::compose::compose(edge, plane, tasks, telemetry).await?;
    listen(&addr, socket.as_ref(), Arc::clone(&control), tasks).await?;
    if let Some(addr) = http_addr
        && let Err(error) = http::serve(addr, &control, insecure, tasks, telemetry).await
    {
        // Clients are served all the same, and two on one host shouldn't have to know of it.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, cause, "going on without control's HTTP port");
    }
    Ok((control, edge))
}

/// A socket is for administrators alone, and clients are served without it, too. An address was asked for.
async fn listen(
    addr: &ControlAddr,
    socket: Option<&ControlAddr>,
    control: Arc<Control>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    if matches!(addr, ControlAddr::Tcp { .. }) {
        serve_beside(ControlListener::bind(addr).await?, Arc::clone(&control), tasks);
    } else {
        open_beside(addr, Arc::clone(&control), tasks).await;
    }
    if let Some(socket) = socket {
        open_beside(socket, control, tasks).await;
    }
    Ok(())
}
