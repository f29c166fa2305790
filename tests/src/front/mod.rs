//! TLS and HTTP/2 before a scripted upstream: a server that relays every request to it as it comes, and every
//! answer as it goes. Where the upstream breaks off, the stream is reset; all else that happens on a connection
//! of HTTP/2 is done here: GOAWAY, few streams, and the end of the connection under its streams.
//!
//! Knows nothing of what is served. Absent on purpose: plaintext HTTP/2, certificates of more than one name.

mod authority;
mod counts;
mod relay;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{ReservedPort, Upstream};

pub use authority::Authority;
use counts::Counts;
use relay::Relay;

/// What a client may choose by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Both,
    Http1,
}

/// A front to be.
#[derive(Debug)]
pub struct FrontBuilder {
    target: SocketAddr,
    speaks: Speaks,
    clients: bool,
    max_streams: u32,
    name: String,
}

/// How a running front is told to behave.
#[derive(Debug)]
struct Switches {
    stop: CancellationToken,
    /// Renewed with every GOAWAY and every cut: both are for the connections that there are.
    goaway: Mutex<CancellationToken>,
    cut: Mutex<CancellationToken>,
}

/// A server that speaks TLS, and HTTP/2 to who wants it. Dropped, it closes its connections.
#[derive(Debug)]
pub struct Front {
    port: ReservedPort,
    authority: Authority,
    counts: Arc<Counts>,
    switches: Arc<Switches>,
}

impl FrontBuilder {
    /// HTTP/1.1 only.
    #[must_use]
    pub const fn http1_only(mut self) -> Self {
        self.speaks = Speaks::Http1;
        self
    }

    /// Lets in only clients with a certificate of its authority ([`Authority::client_identity`]).
    #[must_use]
    pub const fn with_client_certificates(mut self) -> Self {
        self.clients = true;
        self
    }

    /// Takes no more than these requests at once on an HTTP/2 connection (default 128).
    #[must_use]
    pub const fn max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams;
        self
    }

    /// Has a certificate for this host in place of 127.0.0.1, for who reaches it by that name.
    #[must_use]
    pub fn named(mut self, host: &str) -> Self {
        host.clone_into(&mut self.name);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if there is no port.
    pub async fn start(self) -> Front {
        let (port, authority, counts) = (ReservedPort::new(), Authority::new(), Arc::new(Counts::default()));
        let switches = Arc::new(Switches {
            stop: CancellationToken::new(),
            goaway: Mutex::new(CancellationToken::new()),
            cut: Mutex::new(CancellationToken::new()),
        });
        let server = serve::Server {
            tls: tls(&authority, &self),
            relay: Relay::to(self.target),
            counts: Arc::clone(&counts),
            switches: Arc::clone(&switches),
            max_streams: self.max_streams,
            tasks: TaskTracker::new(),
        };
        let listener = port.listen().expect("the port is ours");
        tokio::spawn(Arc::new(server).accept(listener));
        Front { port, authority, counts, switches }
    }
}

fn tls(authority: &Authority, front: &FrontBuilder) -> Arc<ServerConfig> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = ServerConfig::builder();
    let builder = if front.clients {
        let verifier = WebPkiClientVerifier::builder(authority.roots()).build();
        builder.with_client_cert_verifier(verifier.expect("there is a root"))
    } else {
        builder.with_no_client_auth()
    };
    let pair = authority.server(&front.name);
    let mut config = builder.with_single_cert(vec![pair.cert], pair.key).expect("they belong together");
    config.alpn_protocols = match front.speaks {
        Speaks::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Speaks::Http1 => vec![b"http/1.1".to_vec()],
    };
    Arc::new(config)
}

impl Front {
    /// A front of this upstream, which goes on to be reached without it.
    pub fn of(upstream: &Upstream) -> FrontBuilder {
        FrontBuilder {
            target: upstream.addr(),
            speaks: Speaks::Both,
            clients: false,
            max_streams: 128,
            name: "127.0.0.1".to_owned(),
        }
    }

    /// Its address.
    pub const fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// `https://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("https://{}", self.addr())
    }

    /// Who has signed its certificate.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Says GOAWAY on every connection of HTTP/2: what runs is finished, nothing new is taken there.
    pub fn go_away(&self) {
        std::mem::take(&mut *self.switches.goaway.lock()).cancel();
    }

    /// Closes every connection under its requests, without a word.
    pub fn cut(&self) {
        std::mem::take(&mut *self.switches.cut.lock()).cancel();
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.counts.connections()
    }

    /// Handshakes that came to nothing, e.g. for want of a client certificate.
    pub fn refused(&self) -> usize {
        self.counts.refused()
    }

    /// Requests that came by HTTP/2, and by HTTP/1.1.
    pub fn requests(&self) -> (usize, usize) {
        self.counts.requests()
    }

    /// Requests that are being answered now.
    pub fn active(&self) -> usize {
        self.counts.active()
    }

    /// The most requests that were ever being answered at the same time.
    pub fn max_concurrent(&self) -> usize {
        self.counts.max_active()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.switches.stop.cancel();
    }
}
