//! Connections of the front: the handshake, the requests, and how they are made to end.

use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::Switches;
use super::counts::Counts;
use super::relay::Relay;

pub(super) struct Server {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) relay: Relay,
    pub(super) counts: Arc<Counts>,
    pub(super) switches: Arc<Switches>,
    pub(super) max_streams: u32,
    pub(super) tasks: TaskTracker,
}

impl Server {
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let stop = self.switches.stop.clone();
        let accept = async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    self.tasks.spawn(Arc::clone(&self).connection(stream));
                }
            }
        };
        stop.run_until_cancelled(accept).await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        self.counts.connection();
        // Without effect on what is tested; it only saves waiting.
        stream.set_nodelay(true).ok();
        let cut = self.switches.cut.lock().clone();
        let stop = self.switches.stop.clone();
        let life = async {
            match TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream).await {
                Ok(stream) => Arc::clone(&self).requests(stream).await,
                Err(_) => self.counts.refuse(),
            }
        };
        stop.run_until_cancelled(cut.run_until_cancelled(life)).await;
    }

    async fn requests(self: Arc<Self>, stream: TlsStream<TcpStream>) {
        let goaway = self.switches.goaway.lock().clone();
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http2().max_concurrent_streams(self.max_streams);
        let service = service_fn(move |request: http::Request<_>| {
            let server = Arc::clone(&self);
            async move {
                let active = server.counts.request(request.version());
                server.relay.pass(request, active).await
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // A client that broke off is no news.
            _ = connection.as_mut() => return,
            () = goaway.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    }
}
