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
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::refusals::{Reason, Refusals, Who};

/// At once. An edge needs one.
const MOST: usize = 2048;
/// At once from one address: many edges may share a host.
const MOST_OF_ONE: usize = 512;
/// By then a call has to have been let in. Health checks ask for no token, and reconnect.
const PROVEN_WITHIN: Duration = Duration::from_secs(30);

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
                return Some(Place { door: Arc::clone(self), peer, admitted: Arc::default() });
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

/// A connection's place, free again when it is dropped.
pub(crate) struct Place {
    door: Arc<Door>,
    peer: SocketAddr,
    admitted: Arc<AtomicBool>,
}

impl Place {
    pub(crate) fn hold<S>(self, stream: S) -> Held<S> {
        let patience = Box::pin(sleep(self.door.limits.proven_within));
        Held { stream, place: self, patience: Some(patience) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
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
    admitted: Arc<AtomicBool>,
}

impl Visitor {
    /// A call of this connection was let in: it may stay.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }
}

/// A connection in its place.
pub(crate) struct Held<S> {
    stream: S,
    place: Place,
    /// Until when it has to be let in; `None` when it was.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Held<S> {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(patience) = &mut self.patience else { return false };
        if self.place.admitted.load(Ordering::Relaxed) {
            self.patience = None;
            return false;
        }
        patience.as_mut().poll(cx).is_ready() && {
            // Once: who polls again after the error is not waited for anew.
            self.patience = None;
            !self.place.admitted.load(Ordering::Relaxed)
        }
    }
}

impl<S> Connected for Held<S> {
    type ConnectInfo = Visitor;

    fn connect_info(&self) -> Visitor {
        Visitor { peer: self.place.peer, admitted: Arc::clone(&self.place.admitted) }
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
            self.place.door.refusals.note(&Who::from(self.place.peer.ip()), Reason::Idle, why);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
mod tests {
    use ncps_runtime::clock::{ManualClock, UnixTime};
    use ncps_runtime::telemetry::Telemetry;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::metrics::ControlMetrics;

    fn door(all: usize, of_one: usize) -> Arc<Door> {
        let counted = Arc::clone(&ControlMetrics::new(&Telemetry::off()).refused);
        let refusals = Refusals::new(counted, Arc::new(ManualClock::at(UnixTime(1))));
        Door::new(Limits { all, of_one, ..Limits::default() }, refusals)
    }

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1000))
    }

    #[test]
    fn one_address_can_not_take_every_place_and_places_come_back() {
        let door = door(3, 2);
        let mut held: Vec<_> = (0..2).map(|_| door.enter(from(1)).expect("a place")).collect();
        assert!(door.enter(from(1)).is_none(), "it has two");
        held.push(door.enter(from(2)).expect("another has not"));
        assert!(door.enter(from(3)).is_none(), "there are three");
        let reasons: Vec<_> =
            door.refusals().recent().into_iter().map(|r| (r.peer, r.reason, r.times)).collect();
        let full = |ip: &str| (Some(ip.to_owned()), "full".to_owned(), 1);
        assert_eq!(reasons, [full("10.0.0.3"), full("10.0.0.1")]);
        held.clear();
        assert!(door.inside.lock().is_empty());
        assert!(door.enter(from(3)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_let_in_for_nothing_has_to_go() {
        let door = door(1, 1);
        let (near, _far) = tokio::io::duplex(64);
        let mut held = door.enter(from(1)).expect("a place").hold(near);
        let broken = held.read_u8().await.expect_err("nothing was let in");
        assert_eq!(broken.kind(), io::ErrorKind::TimedOut);
        assert_eq!(door.refusals().recent()[0].reason, "idle");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_let_in_may_be_silent() {
        let door = door(1, 1);
        let (near, _far) = tokio::io::duplex(64);
        let mut held = door.enter(from(1)).expect("a place").hold(near);
        held.connect_info().admit();
        let silent = tokio::time::timeout(10 * PROVEN_WITHIN, held.read_u8()).await;
        assert!(silent.is_err(), "nothing came, and nothing broke");
    }
}
