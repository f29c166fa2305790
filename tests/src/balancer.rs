//! What a Service of Kubernetes does, or a TCP balancer before several servers: each new connection goes to the next
//! one whose `/readyz` said 200 when it was looked at last, and stays there.
//!
//! It knows nothing of what goes through a connection. Absent on purpose: trying a second server where the first one
//! refuses, since what it stands for does not do that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{ReservedPort, client};

/// How often each server is looked at.
pub const LOOKS_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Server {
    addr: SocketAddr,
    ready: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    next: AtomicUsize,
}

/// A balancer. Dropped, it takes no more connections.
#[derive(Debug)]
pub struct Balancer {
    port: ReservedPort,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Balancer {
    /// Before these servers, each of which counts as not ready until it was looked at.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if there is no port.
    pub fn before(servers: impl IntoIterator<Item = SocketAddr>) -> Balancer {
        let servers =
            servers.into_iter().map(|addr| Server { addr, ready: AtomicBool::new(false) }).collect();
        let shared = Arc::new(Shared { servers, next: AtomicUsize::new(0) });
        let (port, stop) = (ReservedPort::new(), CancellationToken::new());
        let listener = port.listen().expect("the port is ours");
        for server in 0..shared.servers.len() {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(look(&shared.servers[server])).await });
        }
        let (passing, until) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move { until.run_until_cancelled(accept(listener, passing)).await });
        Balancer { port, shared, _stop: stop.drop_guard() }
    }

    /// Where clients connect to.
    pub const fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// How many servers get connections now.
    pub fn ready(&self) -> usize {
        self.shared.servers.iter().filter(|server| server.ready.load(Ordering::Relaxed)).count()
    }
}

async fn look(server: &Server) {
    loop {
        let ready = client::get(server.addr, "/readyz").await.is_ok_and(|answer| answer.status == 200);
        server.ready.store(ready, Ordering::Relaxed);
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        // Nobody is ready: the connection is closed.
        let Some(addr) = shared.next() else { continue };
        tokio::spawn(pass(near, addr));
    }
}

async fn pass(mut near: TcpStream, addr: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(addr).await {
        // A side that broke breaks the other one by being dropped.
        copy_bidirectional(&mut near, &mut far).await.ok();
    }
}

impl Shared {
    fn next(&self) -> Option<SocketAddr> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..self.servers.len()).map(|n| &self.servers[(first + n) % self.servers.len()]);
        in_turn.find(|server| server.ready.load(Ordering::Relaxed)).map(|server| server.addr)
    }
}
