//! Connections: accepted until the process drains, then asked to finish what they have begun. How many at once, and which
//! of them go so that others have a place, is in [`super::seats`].
//!
//! HTTP/1.1 and HTTP/2 on one port: by ALPN under TLS, else with prior knowledge.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ncps_runtime::accepting::Accepting;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::tls::Tls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tracing::Instrument;

use super::admission::{Admission, MAX_HEADERS};
use super::log::Noted;
use super::seats::{Busy, Place, Seats};
use super::{Service, router, tls, warm};
use crate::config::Limits;

/// Nix asks up to 125 things at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// What an HTTP/1.1 connection may hold that its client has not taken, beside one chunk, and the longest request
/// head (431 past it). With hyper's 400 KiB the memory of a hundred slow clients is felt.
const MAX_BUFFER: usize = 64 << 10;
const HTTP2_PING: Duration = Duration::from_secs(30);

/// What all connections share.
struct Front {
    service: Arc<Service>,
    router: Router,
    admission: Admission,
    limits: Limits,
    tls: Option<Tls>,
    tasks: Tasks,
}

/// Accepts connections until the process drains.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    limits: Limits,
    tls: Option<Tls>,
    tasks: Tasks,
) {
    let (drain, seats) = (tasks.life().soft(), Seats::new(limits.connections));
    let admission = Admission::new(limits.requests);
    let router = router(Arc::clone(&service));
    let front = Arc::new(Front { service, router, admission, limits, tls, tasks: tasks.clone() });
    let mut accepting = Accepting::default();
    let mut next = async || {
        // A place first: without one the connection is left to the kernel.
        let place = seats.take().await;
        let (stream, _) = accepting.next(|| listener.accept()).await;
        (stream, place)
    };
    while let Some((stream, place)) = drain.run_until_cancelled(next()).await {
        let front = Arc::clone(&front);
        tasks.spawn("connection", async move { front.connection(stream, &place).await });
    }
}

impl Front {
    async fn connection(self: &Arc<Self>, stream: TcpStream, place: &Place) {
        // Latency matters more than packets; a socket that refuses is used as it is.
        stream.set_nodelay(true).ok();
        if let Ok(live) = self.service.current.get() {
            live.upstreams.warm_up();
        }
        let Some(tls) = &self.tls else { return self.talk(stream, place).await };
        let handshake = tokio::time::timeout(self.limits.handshake_timeout, tls::accept(tls, stream));
        match self.tasks.life().hard().run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.talk(stream, place).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
            Some(Err(_)) => tracing::debug!("a TLS handshake took too long"),
            None => {}
        }
    }

    async fn talk(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        place: &Place,
    ) {
        let (drain, stop) = (self.tasks.life().soft(), self.tasks.life().hard());
        let builder = builder(self.limits.head_timeout);
        let service = service_fn(|request: Request<Incoming>| Arc::clone(self).answer(request, place.busy()));
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent_for(self.limits.head_timeout, place) => return,
            () = async { tokio::select! { () = drain.cancelled() => {}, () = place.is_needed() => {} } } => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = stop.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        busy: Busy,
    ) -> Result<axum::response::Response, std::convert::Infallible> {
        let noted = Noted::new(&request, &self.service.metrics);
        let turn = match self.admission.admit(&request) {
            Ok(turn) => turn,
            Err(refusal) => return Ok(noted.answered(*refusal, (None, busy))),
        };
        if let Some(response) = warm::narinfo(&self.service, &request) {
            return Ok(noted.answered(response, (turn, busy)));
        }
        let handled = self.router.clone().oneshot(request.map(Body::new));
        let response = handled.instrument(noted.span()).await?;
        Ok(noted.answered(response, (turn, busy)))
    }
}

/// Which version a connection speaks is found out without a timer: one that never says a request would keep its
/// place for ever.
async fn silent_for(time: Duration, place: &Place) {
    tokio::time::sleep(time).await;
    if place.has_asked() {
        std::future::pending().await
    }
}

/// `head_timeout` runs from one answer to the end of the next request's head.
fn builder(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32)
        .keep_alive_interval(HTTP2_PING)
        .adaptive_window(true);
    builder
}
