//! Control's own HTTP port: whether the process lives and is ready, its metrics, and the dashboard. For probes,
//! Prometheus and administrators, not for Nix clients.
//!
//! Absent: TLS, so it should not be reachable by everybody; and authentication of anything but the dashboard.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ncps_runtime::config::ListenAddr;
use ncps_runtime::lifecycle::LifeHandle;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::telemetry::{PROMETHEUS_TEXT, Telemetry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::dashboard::{Dashboard, Peer};
use crate::reply::{Body, TEXT, text};
use ncps_runtime::accepting::Accepting;

/// The port by default.
pub const PORT: u16 = 8503;
/// For the head of a request, and so for how long a silent connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Probes and scrapes are few and short; past this, connections wait in the kernel's queue or are closed.
const MAX_CONNECTIONS: usize = 64;
const CONNECTION_TIME: Duration = Duration::from_secs(600);

/// The port can't be used.
#[derive(Debug, thiserror::Error)]
#[error("listen at {addr} (--control-http-addr)")]
pub struct BindError {
    addr: ListenAddr,
    source: io::Error,
}

/// What it answers with.
#[derive(Clone)]
struct Answers {
    life: LifeHandle,
    telemetry: Telemetry,
    dashboard: Dashboard,
}

/// Listens and serves until the hard token fires: probes are answered while the process drains. Returns where.
///
/// `insecure`: the dashboard is for others than this machine, too.
///
/// # Errors
/// See [`BindError`].
pub async fn serve(
    addr: ListenAddr,
    control: &Arc<Control>,
    insecure: bool,
    tasks: &Tasks,
    telemetry: &Telemetry,
) -> Result<SocketAddr, BindError> {
    let failed = |source| BindError { addr, source };
    let listener = addr.bind().await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tracing::info!(addr = %bound, "control's HTTP port");
    let dashboard = Dashboard::start(control, insecure, tasks);
    let answers = Answers { life: tasks.life().clone(), telemetry: telemetry.clone(), dashboard };
    tasks.spawn_critical_background("control-http", accept(listener, answers, tasks.clone()));
    Ok(bound)
}

async fn accept(listener: TcpListener, answers: Answers, tasks: Tasks) {
    let (stop, places) = (tasks.life().hard(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let mut accepting = Accepting::default();
    let mut next = async || {
        // A place first: without one the connection is left to the kernel.
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let (stream, addr) = accepting.next(|| listener.accept()).await;
        (stream, addr, place)
    };
    while let Some((stream, addr, place)) = stop.run_until_cancelled(next()).await {
        let peer = Peer { ip: addr.ip(), cut: CancellationToken::new() };
        let cut = peer.cut.clone();
        let connection = connection(stream, answers.clone(), peer);
        let until = stop.clone().cancelled_owned();
        tasks.spawn_background("control-http-connection", async move {
            tokio::select! {
                () = connection => {}
                () = until => {}
                () = cut.cancelled() => {}
                () = tokio::time::sleep(CONNECTION_TIME) => {}
            }
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, answers: Answers, peer: Peer) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answers.answer(&request, &peer);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

impl Answers {
    fn answer(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned(), TEXT);
        }
        match path {
            "/healthz" => text(StatusCode::OK, ".".to_owned(), TEXT),
            "/readyz" => self.readiness(),
            "/metrics" => match self.telemetry.scrape() {
                Some(metrics) => text(StatusCode::OK, metrics, PROMETHEUS_TEXT),
                None => text(StatusCode::NOT_FOUND, "--prometheus-enabled is off\n".to_owned(), TEXT),
            },
            _ => {
                let page = self.dashboard.answer(method, path, request.headers(), peer);
                page.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not here\n".to_owned(), TEXT))
            }
        }
    }

    fn readiness(&self) -> Response<Body> {
        if self.life.is_ready() {
            return text(StatusCode::OK, "ready\n".to_owned(), TEXT);
        }
        let (phase, waiting) = (self.life.phase().name(), self.life.waiting_for().join(", "));
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{phase}: {waiting}\n"), TEXT)
    }
}
