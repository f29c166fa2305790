//! The gRPC server of control: a socket that edges and administrators connect to. Knows how a socket is made so
//! that nobody else can use it, that a port has TLS and gates, and how the server ends. Absent:
//! what is served (see [`ncps_proto::grpc`] and [`ncps_proto::admin`]).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ncps_proto::admin::{self, AdminPlane};
use ncps_proto::{ControlPlane, Scope, grpc};
use ncps_runtime::config::ListenAddr;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::tls::{Tls, TlsError};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tower::layer::layer_fn;

use crate::Control;
use crate::arriving;
use crate::calls::{self, Calls, Intake};
use crate::config::{ControlAddr, PortTls};
use crate::connections::{Door, Limits};
use crate::handshakes::secured;
use crate::introspection;

/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls at once on one connection; an edge's further ones wait there.
const CALLS: u32 = 1024;
/// Of a call, in bytes.
const HEADERS: u32 = 16 << 10;

/// Why control can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket can't be made.
    #[error("can't listen at {at}")]
    At {
        /// The address.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// TLS can't be used.
    #[error("--control-tls-cert, --control-tls-key, --control-tls-client-ca, --control-tls-client-crl")]
    Tls(#[from] TlsError),
    /// None of the default places can have a socket.
    #[error("can't make a socket in any of the default places; name one with --control-addr ({tried})")]
    Nowhere {
        /// Each place, and why not.
        tried: String,
    },
}

/// A port that others can connect to.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    addr: SocketAddr,
    tls: Option<Tls>,
    calls: calls::Limits,
}

/// A bound socket.
#[derive(Debug)]
pub enum ControlListener {
    /// Of mode 0600.
    Unix(UnixListener, SocketFile),
    /// At an address of the machine.
    Tcp(Port),
}

impl fmt::Display for ControlListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(_, file) => write!(f, "unix:{}", file.path.display()),
            Self::Tcp(port) => port.addr.fmt(f),
        }
    }
}

impl ControlListener {
    /// Binds where the configuration says. A socket that somebody else answers at is left alone; one that
    /// nobody answers at is replaced.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(addr: &ControlAddr) -> Result<Self, BindError> {
        match addr {
            ControlAddr::Unix(path) => {
                unix(path).await.map_err(|e| at(format!("unix:{}", path.display()), e))
            }
            ControlAddr::Tcp { addr, tls } => {
                let load = |tls: &PortTls| Tls::load(&tls.files, tls.clients.as_ref(), &["h2"]);
                let tls = tls.as_ref().map(load).transpose()?;
                tcp(*addr, tls).await.map_err(|e| at(addr.to_string(), e))
            }
            ControlAddr::FirstOf(paths) => first_of(paths).await,
        }
    }
}

fn at(at: String, source: io::Error) -> BindError {
    BindError::At { at, source }
}

async fn tcp(addr: ListenAddr, tls: Option<Tls>) -> io::Result<ControlListener> {
    let listener = addr.bind().await?;
    let addr = listener.local_addr()?;
    Ok(ControlListener::Tcp(Port { listener, addr, tls, calls: calls::Limits::default() }))
}

async fn first_of(paths: &[PathBuf]) -> Result<ControlListener, BindError> {
    let mut tried = Vec::with_capacity(paths.len());
    for path in paths {
        match in_own_folder(path).await {
            Ok(listener) => return Ok(listener),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Err(BindError::Nowhere { tried: tried.join("; ") })
}

/// Makes the socket's own folder, never one above it.
async fn in_own_folder(path: &Path) -> io::Result<ControlListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::create_dir(folder)?;
    }
    unix(path).await
}

/// Bound under another name, closed to others, and only then given its own: at no time can anybody else
/// connect, nor does a stale socket stand in the way.
async fn unix(path: &Path) -> io::Result<ControlListener> {
    check_free(path).await?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed?,
    }
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, path)?;
    let inode = std::fs::metadata(path)?.ino();
    Ok(ControlListener::Unix(listener, SocketFile { path: path.to_owned(), inode }))
}

/// Nothing lies there, or a socket that nobody answers at.
async fn check_free(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "something that is no socket lies there"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process answers there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

/// The socket's name, taken away at the end unless somebody else has made it theirs.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Nobody can be told any more, and a socket that is left behind is replaced at the next start.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Serves control at a socket until the soft token fires; then sessions end, calls that run finish, and no
/// new ones come. The process can't do without it: its early end is the process'.
pub fn serve(listener: ControlListener, control: Arc<Control>, tasks: &Tasks) {
    let (stop, sessions) = (tasks.life().soft(), Arc::clone(&control));
    let asked = async move {
        stop.cancelled().await;
        sessions.cut_sessions();
    };
    tasks.spawn_critical("control-grpc", served(listener, control, tasks, asked));
}

/// The same in a process that can do without it, since its own edge needs no socket: sessions go on while work
/// finishes.
pub fn serve_beside(listener: ControlListener, control: Arc<Control>, tasks: &Tasks) {
    let asked = tasks.life().soft().cancelled_owned();
    tasks.spawn_background("control-grpc", served(listener, control, tasks, asked));
}

/// The server, until it is `asked` to end and has, or its time is over.
fn served(
    listener: ControlListener,
    control: Arc<Control>,
    tasks: &Tasks,
    asked: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let tls = matches!(listener, ControlListener::Tcp(Port { tls: Some(_), .. }));
    tracing::info!(addr = %listener, tls, "control listens");
    let (hard, tasks) = (tasks.life().hard(), tasks.clone());
    async move {
        let ran = hard.run_until_cancelled(run(listener, control, &tasks, asked)).await;
        if let Some(Err(error)) = ran {
            tracing::error!(%error, "the control server failed");
        }
    }
}

/// The same at a socket that is a convenience: where it can't be made, that is a warning.
pub async fn open_beside(addr: &ControlAddr, control: Arc<Control>, tasks: &Tasks) {
    match ControlListener::bind(addr).await {
        Ok(listener) => serve_beside(listener, control, tasks),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "going on without control's socket, so without ncps-cli at it");
        }
    }
}

async fn run(
    listener: ControlListener,
    control: Arc<Control>,
    tasks: &Tasks,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let plane: Arc<dyn ControlPlane> = Arc::clone(&control) as _;
    let admin: Arc<dyn AdminPlane> = Arc::clone(&control) as _;
    let (health, reflection) = (introspection::health(tasks).await, introspection::reflection()?);
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(CALLS)
        .http2_max_header_list_size(HEADERS)
        .tcp_nodelay(true);
    match listener {
        ControlListener::Unix(listener, _file) => {
            let router = server.add_service(grpc::server(plane)).add_service(admin::server(admin));
            let router = router.add_service(health).add_service(reflection);
            router.serve_with_incoming_shutdown(arriving::unix(listener), stop).await?;
        }
        ControlListener::Tcp(Port { listener, addr, tls, calls }) => {
            let intake = Intake::new(calls, Arc::clone(&control.refusals));
            let mut server = server.layer(layer_fn(|inner| Calls::new(inner, &intake)));
            // Until there is a token or an authority, whoever is on this machine may be an edge.
            let certified = tls.as_ref().is_some_and(Tls::asks_clients);
            let edges = control.gate(Scope::Edge, addr.ip().is_loopback() && !certified);
            let edges = InterceptedService::new(grpc::server(plane), edges);
            let admins = InterceptedService::new(admin::server(admin), control.gate(Scope::Admin, false));
            let described = InterceptedService::new(reflection, control.gate(Scope::Admin, false));
            // Probes have no token, and learn nothing.
            let router = server.add_service(edges).add_service(admins).add_service(described);
            let router = router.add_service(health);
            let door = Door::new(Limits::default(), Arc::clone(&control.refusals));
            match tls {
                None => {
                    let plain = arriving::plain(listener, door);
                    router.serve_with_incoming_shutdown(plain, stop).await?;
                }
                Some(tls) => {
                    let secured = secured(listener, &tls, door, tasks);
                    tasks.spawn_background("control-certificate", tls.watch(tasks.life().hard()));
                    router.serve_with_incoming_shutdown(secured, stop).await?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
