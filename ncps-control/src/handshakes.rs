//! Connections to control's TLS port: each shakes hands in a task of its own, so that one that is slow, or speaks no
//! TLS, keeps nobody waiting. Those that succeed come out as a stream.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use ncps_runtime::tasks::Tasks;
use ncps_runtime::tls::{Opening, Tls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::connections::{Door, Held, Place};
use crate::identity::Certificate;
use crate::refusals::{Reason, Who};
use ncps_runtime::accepting::Accepting;

/// Handshakes at once; more connections wait in the kernel's queue. More than one address may have connections.
const AT_ONCE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
type Secured = io::Result<Held<TlsStream<TcpStream>>>;

/// Connections from now on, until the process drains.
pub(crate) fn secured(
    listener: TcpListener,
    tls: &Tls,
    door: Arc<Door>,
    tasks: &Tasks,
) -> impl Stream<Item = Secured> + use<> {
    let (done, secured) = mpsc::channel(1);
    let front = Front { tls: tls.clone(), tasks: tasks.clone(), door, done };
    tasks.spawn_background("control-accept", front.accept(listener));
    ReceiverStream::new(secured)
}

#[derive(Clone)]
struct Front {
    tls: Tls,
    tasks: Tasks,
    door: Arc<Door>,
    done: mpsc::Sender<Secured>,
}

impl Front {
    async fn accept(self, listener: TcpListener) {
        let (drain, places) = (self.tasks.life().soft(), Arc::new(Semaphore::new(AT_ONCE)));
        let mut accepting = Accepting::default();
        let mut next = async || {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            (place, accepting.next(|| listener.accept()).await)
        };
        while let Some((place, (stream, peer))) = drain.run_until_cancelled(next()).await {
            let Some(inside) = self.door.enter(peer) else { continue };
            let front = self.clone();
            self.tasks.spawn_background("control-handshake", async move {
                front.shake(stream, peer, inside).await;
                drop(place);
            });
        }
    }

    async fn shake(&self, stream: TcpStream, peer: SocketAddr, inside: Place) {
        // Latency matters more than packets; a socket that refuses is used as it is.
        stream.set_nodelay(true).ok();
        let handshake = tokio::time::timeout(PATIENCE, self.handshake(stream));
        match self.tasks.life().hard().run_until_cancelled(handshake).await {
            Some(Ok(Ok(Some(stream)))) => {
                let certificate = self.tls.shown(&stream).map(Certificate::of);
                let held = inside.certified(certificate).hold(stream);
                self.done.send(Ok(held)).await.unwrap_or_default();
            }
            // Who connects and says nothing may only have looked whether somebody is there.
            Some(Ok(Ok(None))) => {}
            Some(Ok(Err(error))) => self.failed(peer, reason(&error), &error.to_string()),
            Some(Err(_)) => self.failed(peer, Reason::Handshake, "it took too long"),
            None => {}
        }
    }

    fn failed(&self, peer: SocketAddr, reason: Reason, why: &str) {
        let why = format!("a TLS handshake with control failed: {why}");
        self.door.refusals().note(&Who::from(peer.ip()), reason, &why);
    }

    /// `None`: nobody wanted one.
    async fn handshake(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        match Tls::opening(&stream).await? {
            Some(Opening::Handshake) => self.tls.accept(stream).await.map(Some),
            Some(Opening::Plaintext) => Err(io::Error::other("plaintext on a TLS port")),
            None => Ok(None),
        }
    }
}

/// Whether it is about a certificate: theirs, or ours in their eyes.
fn reason(error: &io::Error) -> Reason {
    use tokio_rustls::rustls::{AlertDescription as Alert, Error};
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match error {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Reason::Certificate,
        Some(Error::AlertReceived(
            // A stranger's authority of a name that is trusted.
            Alert::DecryptError
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate,
        )) => Reason::Certificate,
        _ => Reason::Handshake,
    }
}
