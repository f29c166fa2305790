//! A link that can be broken: a proxy for byte streams, from TCP or a Unix socket to either.
//!
//! It knows nothing of what goes through it. Cutting resets every connection (over a Unix socket:
//! closes it); refusing cuts and stops listening; hanging accepts connections and passes nothing;
//! a delay makes it as long as a way through the world, and no narrower; a throttle makes it narrow; and one that loses
//! things does to connections what lost packets do: they are late, and some break or fall silent.

mod loss;
mod pass;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ReservedPort;
use crate::netns::Host;

pub use loss::Loss;
use loss::Losses;
pub use stream::Endpoint;
use stream::Listener;

#[derive(Debug)]
struct Shared {
    target: Endpoint,
    /// The host that connects to it, if not this one.
    from: Option<PathBuf>,
    hanging: watch::Sender<bool>,
    /// From one end to the other.
    delay: Mutex<Duration>,
    throttle: Mutex<Option<Throttle>>,
    losses: Losses,
    /// Bytes that still pass before a connection breaks.
    left: Mutex<Option<u64>>,
    passed: AtomicU64,
    accepted: AtomicUsize,
}

/// How much it carries, all connections and both directions together.
#[derive(Debug)]
struct Throttle {
    bytes_per_second: u64,
    /// When it has carried what it was given.
    free: Instant,
}

#[derive(Debug)]
struct Listening {
    stop: CancellationToken,
    /// A child of `stop`, renewed with every cut.
    cut: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
enum Front {
    Tcp(ReservedPort),
    Unix(PathBuf),
}

/// A link to a target, whole at first. Dropped, it is cut.
#[derive(Debug)]
pub struct Link {
    front: Front,
    shared: Arc<Shared>,
    listening: Arc<Mutex<Option<Listening>>>,
}

impl Link {
    /// A link from a new port on 127.0.0.1 to the target. The target need not be there yet.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if there is no port.
    pub async fn tcp(target: impl Into<Endpoint>) -> Self {
        Self::start(Front::Tcp(ReservedPort::new()), target.into(), None).await
    }

    /// A link from a new port of a host to the target, which is connected to from here.
    ///
    /// # Panics
    /// As [`Link::tcp`].
    pub async fn tcp_on(host: &Host, target: impl Into<Endpoint>) -> Self {
        Self::start(Front::Tcp(ReservedPort::on(host)), target.into(), None).await
    }

    /// A link from a new port of a host to another one there: the way of all others to it.
    ///
    /// # Panics
    /// As [`Link::tcp`].
    pub async fn before(host: &Host, port: u16) -> Self {
        let target = SocketAddr::from((host.addr(), port));
        Self::start(Front::Tcp(ReservedPort::on(host)), target.into(), Some(host.file())).await
    }

    /// A link from a new port on 127.0.0.1 to one of a host: the way of who is on none.
    ///
    /// # Panics
    /// As [`Link::tcp`].
    pub async fn into_host(host: &Host, port: u16) -> Self {
        let target = SocketAddr::from((host.addr(), port));
        Self::start(Front::Tcp(ReservedPort::new()), target.into(), Some(host.file())).await
    }

    /// A link from a new Unix socket at `path` to the target.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the socket can't be made.
    pub async fn unix(path: &Path, target: impl Into<Endpoint>) -> Self {
        Self::start(Front::Unix(path.to_owned()), target.into(), None).await
    }

    async fn start(front: Front, target: Endpoint, from: Option<PathBuf>) -> Self {
        let hanging = watch::Sender::new(false);
        let shared = Shared {
            target,
            from,
            hanging,
            delay: Mutex::default(),
            throttle: Mutex::default(),
            losses: Losses::default(),
            left: Mutex::default(),
            passed: AtomicU64::new(0),
            accepted: AtomicUsize::new(0),
        };
        let link = Self { front, shared: Arc::new(shared), listening: Arc::default() };
        link.mend().await;
        link
    }

    /// Where to connect to.
    pub fn endpoint(&self) -> Endpoint {
        match &self.front {
            Front::Tcp(port) => Endpoint::Tcp(port.addr()),
            Front::Unix(path) => Endpoint::Unix(path.clone()),
        }
    }

    /// Where to connect to, if that is TCP.
    ///
    /// # Panics
    /// If it is a Unix socket.
    pub fn addr(&self) -> SocketAddr {
        match &self.front {
            Front::Tcp(port) => port.addr(),
            Front::Unix(path) => panic!("{} has no address", path.display()),
        }
    }

    /// Breaks all connections that there are; new ones are served.
    pub fn cut(&self) {
        if let Some(listening) = self.listening.lock().as_mut() {
            let broken = std::mem::replace(&mut listening.cut, listening.stop.child_token());
            broken.cancel();
        }
    }

    /// Breaks the connection over which the last of so many bytes goes, both directions of all connections counted
    /// from now on. The byte still arrives, and the link is whole again.
    pub fn break_after(&self, bytes: u64) {
        *self.shared.left.lock() = Some(bytes);
    }

    /// What goes in from now on comes out so much later, at either end; a new connection takes a round trip before
    /// that. Whole milliseconds.
    pub fn delay(&self, one_way: Duration) {
        *self.shared.delay.lock() = one_way;
    }

    /// Carries no more than this from now on, in both directions together.
    pub fn throttle(&self, bytes_per_second: u64) {
        *self.shared.throttle.lock() = Some(Throttle { bytes_per_second, free: Instant::now() });
    }

    /// Loses things from now on, until [`Link::mend`]. What it loses follows from the seed and from the order in which
    /// things come.
    pub fn lose(&self, loss: Loss, seed: u64) {
        self.shared.losses.begin(loss, seed);
    }

    /// Connections that broke or fell silent by that.
    pub fn lost(&self) -> usize {
        self.shared.losses.connections()
    }

    /// Breaks all connections and refuses new ones, until [`Link::mend`].
    pub async fn refuse(&self) {
        let listening = self.listening.lock().take();
        if let Some(Listening { stop, tasks, .. }) = listening {
            stop.cancel();
            tasks.wait().await;
        }
    }

    /// Passes nothing more, in either direction, and accepts connections, until [`Link::mend`]:
    /// as when packets are dropped.
    pub fn hang(&self) {
        self.shared.hanging.send_replace(true);
    }

    /// Whole again, not to break later, and as wide as it was. What hung goes on where it was.
    ///
    /// # Panics
    /// If its place was taken meanwhile.
    pub async fn mend(&self) {
        self.shared.hanging.send_replace(false);
        *self.shared.left.lock() = None;
        *self.shared.throttle.lock() = None;
        self.shared.losses.end();
        let mut listening = self.listening.lock();
        if listening.is_none() {
            let listener = self.listen().expect("the link's own place is free");
            *listening = Some(self.serve(listener));
        }
    }

    /// Bytes that went through, both directions together.
    pub fn bytes_passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    fn listen(&self) -> io::Result<Listener> {
        match &self.front {
            Front::Tcp(port) => port.listen().map(Listener::Tcp),
            Front::Unix(path) => {
                // The socket of the listener that was: the file outlives it.
                drop(std::fs::remove_file(path));
                UnixListener::bind(path).map(Listener::Unix)
            }
        }
    }

    fn serve(&self, listener: Listener) -> Listening {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let listening = Listening { cut: stop.child_token(), stop: stop.clone(), tasks: tasks.clone() };
        let accept =
            pass::accept(listener, Arc::clone(&self.shared), Arc::clone(&self.listening), tasks.clone());
        tasks.spawn(async move { stop.run_until_cancelled(accept).await });
        tasks.close();
        listening
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.lock().as_ref() {
            listening.stop.cancel();
        }
    }
}
