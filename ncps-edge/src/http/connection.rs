//! Connections: accepted until the process drains, then asked to finish what they have begun.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port. No TLS yet.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ncps_runtime::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tracing::Instrument;

use super::log::Noted;
use super::{Service, router};
use crate::metrics::EdgeMetrics;

/// Nix asks up to 125 things at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// From one answer to the end of the next request's head, so that it closes idle connections too: longer than
/// the 90 s after which clients close them themselves.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
const HTTP2_PING: Duration = Duration::from_secs(30);
/// When the process is out of file descriptors, a moment may bring one back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the process drains.
pub async fn serve(listener: TcpListener, service: Arc<Service>, tasks: Tasks) {
    let (metrics, router) = (Arc::clone(&service.metrics), router(service));
    let drain = tasks.life().soft();
    loop {
        let accepted = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(
                    "connection",
                    connection(
                        stream,
                        Served { router: router.clone(), metrics: metrics.clone() },
                        tasks.clone(),
                    ),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What every request of a connection needs.
#[derive(Clone)]
struct Served {
    router: Router,
    metrics: Arc<EdgeMetrics>,
}

async fn connection(stream: TcpStream, served: Served, tasks: Tasks) {
    // Latency matters more than packets; a socket that refuses is used as it is.
    stream.set_nodelay(true).ok();
    let (drain, stop) = (tasks.life().soft(), tasks.life().hard());
    let builder = builder();
    let service = service_fn(move |request: Request<Incoming>| answer(served.clone(), request));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
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
    served: Served,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let noted = Noted::new(&request, &served.metrics);
    let handled = served.router.oneshot(request.map(Body::new));
    let response = handled.instrument(noted.span()).await?;
    Ok(noted.answered(response))
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(HTTP2_PING)
        .adaptive_window(true);
    builder
}
