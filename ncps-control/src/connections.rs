//! Connections to control's port: how many there may be, in all and from one address, and how long one may stay that
//! is let in for nothing. Past a limit a connection is closed at once, and counted: a queue would only keep edges
//! waiting behind whoever fills it.
//!
//! Absent: a Unix socket, which nobody else can connect to, and what lets a call in (see [`crate::gate`]).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

use crate::identity::Certificate;
use crate::rate::Rate;
use crate::refusals::{Reason, Refusals, Who};

/// At once. An edge needs one.
const MOST: usize = 2048;
/// At once from one address: many edges may share a host.
const MOST_OF_ONE: usize = 512;
/// By then a call has to have been let in. Health checks ask for no token, and reconnect.
const PROVEN_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection stays whose certificate has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many may be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) all: usize,
    pub(crate) of_one: usize,
    pub(crate) proven_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { all: MOST, of_one: MOST_OF_ONE, proven_within: PROVEN_WITHIN }
    }
}

/// The door of a port.
pub(crate) struct Door {
    limits: Limits,
    inside: Mutex<HashMap<IpAddr, usize>>,
    refusals: Arc<Refusals>,
}

impl Door {
    pub(crate) fn new(limits: Limits, refusals: Arc<Refusals>) -> Arc<Door> {
        Arc::new(Door { limits, inside: Mutex::default(), refusals })
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// A place for a connection. `None` where there is none: it is to be closed.
    pub(crate) fn enter(self: &Arc<Door>, peer: SocketAddr) -> Option<Place> {
        let ip = peer.ip();
        let Limits { all, of_one, .. } = self.limits;
        let why = {
            let mut inside = self.inside.lock();
            let (total, own) = (inside.values().sum::<usize>(), inside.get(&ip).copied().unwrap_or(0));
            if total < all && own < of_one {
                inside.insert(ip, own + 1);
                return Some(Place {
                    door: Arc::clone(self),
                    peer,
                    certificate: None,
                    heard: false,
                    conduct: Arc::new(Conduct::new()),
                });
            }
            if own < of_one {
                format!("there are {all} connections to control, as many as may be")
            } else {
                format!("there are {of_one} connections from this address, as many as may be")
            }
        };
        self.refusals.note(&Who::from(ip), Reason::Full, &why);
        None
    }
}

/// What the calls of a connection have shown of it.
#[derive(Debug)]
struct Conduct {
    /// There was one, whatever became of it.
    called: AtomicBool,
    /// One was let in.
    admitted: AtomicBool,
    rate: Rate,
    /// Bytes that they take.
    held: AtomicUsize,
}

impl Conduct {
    fn new() -> Conduct {
        let no = AtomicBool::default;
        Conduct {
            called: no(),
            admitted: no(),
            rate: Rate::new(Instant::now()),
            held: AtomicUsize::default(),
        }
    }
}

/// A connection's place, free again when it is dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    peer: SocketAddr,
    certificate: Option<Certificate>,
    /// It said something for which it was not turned away yet.
    heard: bool,
    conduct: Arc<Conduct>,
}

impl Place {
    /// Who is at the other end has shown this.
    pub(crate) fn certified(mut self, certificate: Option<Certificate>) -> Place {
        self.certificate = certificate;
        self
    }

    pub(crate) fn hold<S>(self, stream: S) -> Held<S> {
        let patience = Box::pin(sleep(self.door.limits.proven_within));
        let outlived = self.certificate.as_ref().map(|certificate| {
            let over = certificate.over();
            let outlived = async move {
                over.cancelled().await;
                // Calls that run are told why first.
                sleep(LAST_WORDS).await;
            };
            outlived.boxed()
        });
        Held { stream, place: self, patience: Some(patience), outlived }
    }

    fn turn_away(&mut self, reason: Reason, why: &str) {
        self.heard = false;
        self.door.refusals.note(&Who::from(self.peer.ip()), reason, why);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Who connects and says nothing may only have looked whether somebody is there.
        if self.heard && !self.conduct.called.load(Ordering::Relaxed) {
            self.turn_away(Reason::Handshake, "it ended without a call, as where it speaks no HTTP/2");
        }
        let mut inside = self.door.inside.lock();
        let ip = self.peer.ip();
        match inside.get_mut(&ip) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(inside.remove(&ip)),
        }
    }
}

/// Where a call comes from, for whoever lets it in.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    pub(crate) peer: SocketAddr,
    /// That the connection has shown.
    pub(crate) certificate: Option<Certificate>,
    conduct: Arc<Conduct>,
}

impl Visitor {
    /// This connection makes a call.
    pub(crate) fn call(&self) {
        self.conduct.called.store(true, Ordering::Relaxed);
    }

    /// A call of this connection was let in: it may stay.
    pub(crate) fn admit(&self) {
        self.conduct.admitted.store(true, Ordering::Relaxed);
    }

    /// Bytes that the calls of this connection take, as these count them (see [`crate::calls`]).
    pub(crate) fn held(&self) -> &AtomicUsize {
        &self.conduct.held
    }

    /// Takes a call of this connection. False where it makes too many.
    pub(crate) fn may_call(&self) -> bool {
        self.conduct.rate.take(Instant::now())
    }
}

/// A connection in its place.
pub(crate) struct Held<S> {
    stream: S,
    place: Place,
    /// Until when it has to be let in; `None` when it was.
    patience: Option<Pin<Box<Sleep>>>,
    /// When its certificate counts no more: who has another one shows it on another connection.
    outlived: Option<BoxFuture<'static, ()>>,
}

impl<S> Held<S> {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(patience) = &mut self.patience else { return false };
        if self.place.conduct.admitted.load(Ordering::Relaxed) {
            self.patience = None;
            return false;
        }
        patience.as_mut().poll(cx).is_ready() && {
            // Once: who polls again after the error is not waited for anew.
            self.patience = None;
            !self.place.conduct.admitted.load(Ordering::Relaxed)
        }
    }
}

impl<S> Connected for Held<S> {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        let Place { peer, certificate, conduct, .. } = &self.place;
        Visitor { peer: *peer, certificate: certificate.clone(), conduct: Arc::clone(conduct) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            let why = "nothing that this connection asked for was let in in its time";
            self.place.turn_away(Reason::Idle, why);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        if self.outlived.as_mut().is_some_and(|outlived| outlived.poll_unpin(cx).is_ready()) {
            self.outlived = None;
            let why = "its certificate counts no more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.place.heard |= buf.filled().len() > before;
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
