//! What goes through a link: connections accepted, joined with the target, and broken.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::loss::Fate;
use super::stream::{Listener, Stream};
use super::{Listening, Shared, Throttle};

const READ: usize = 64 << 10;
/// Pieces that a delayed way holds, for either direction: 16 MiB.
const MOST_ON_THE_WAY: usize = 256;

/// What a narrow link makes up for when it could have carried something and did not: timers are no finer than 1 ms.
const BURST: Duration = Duration::from_millis(5);

/// What TCP waits before it sends again.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// How a connection ends that fell silent.
const SILENT: io::ErrorKind = io::ErrorKind::TimedOut;

/// What came in at one end, and when it comes out at the other. Nothing: the end.
type OnTheWay = VecDeque<(Instant, Bytes)>;

pub(super) async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    listening: Arc<Mutex<Option<Listening>>>,
    tasks: TaskTracker,
) {
    loop {
        let Ok(stream) = listener.accept().await else {
            continue;
        };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        // None: the link was refused at this moment, and this task is about to end.
        let Some(cut) = listening.lock().as_ref().map(|listening| listening.cut.clone()) else {
            return;
        };
        tasks.spawn(pass(stream, Arc::clone(&shared), cut));
    }
}

async fn pass(mut near: Stream, shared: Arc<Shared>, cut: CancellationToken) {
    let Some(Some(mut far)) = cut.run_until_cancelled(connect(&shared)).await else {
        near.reset_on_drop();
        return;
    };
    let ended = cut.run_until_cancelled(both_ways(&mut near, &mut far, &shared)).await;
    if matches!(&ended, Some(Err(error)) if error.kind() == SILENT) {
        // Neither side is told.
        cut.cancelled().await;
    }
    // A side that broke, or a cut: the other one breaks too.
    if !matches!(ended, Some(Ok(()))) {
        near.reset_on_drop();
        far.reset_on_drop();
    }
}

async fn connect(shared: &Shared) -> Option<Stream> {
    whole(shared).await;
    let round_trip = 2 * *shared.delay.lock();
    if round_trip > Duration::ZERO {
        tokio::time::sleep(round_trip).await;
    }
    Stream::connect(&shared.target, shared.from.as_deref()).await.ok()
}

async fn both_ways(near: &mut Stream, far: &mut Stream, shared: &Shared) -> io::Result<()> {
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(one_way(near_read, far_write, shared), one_way(far_read, near_write, shared))?;
    Ok(())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
) -> io::Result<()> {
    let (mut on_the_way, mut buf) = (OnTheWay::new(), vec![0; READ]);
    loop {
        let next = on_the_way.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = until(next) => {
                let Some((_, bytes)) = on_the_way.pop_front() else { continue };
                if bytes.is_empty() {
                    return to.shutdown().await;
                }
                come_out(&bytes, &mut to, shared).await?;
            }
            read = from.read(&mut buf), if takes_more(&on_the_way, shared) => {
                let due = Instant::now() + *shared.delay.lock();
                on_the_way.push_back((due, Bytes::copy_from_slice(&buf[..read?])));
            }
        }
    }
}

/// Without a delay one piece after the other, so that a link holds no more than its sockets do.
fn takes_more(on_the_way: &OnTheWay, shared: &Shared) -> bool {
    let most = if shared.delay.lock().is_zero() { 1 } else { MOST_ON_THE_WAY };
    let ended = on_the_way.back().is_some_and(|(_, bytes)| bytes.is_empty());
    !ended && on_the_way.len() < most
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn come_out(bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), shared: &Shared) -> io::Result<()> {
    whole(shared).await;
    match shared.losses.next() {
        Fate::Passes => {}
        Fate::Late => tokio::time::sleep(RETRANSMISSION).await,
        Fate::Breaks => return Err(io::ErrorKind::ConnectionReset.into()),
        Fate::Silent => return Err(SILENT.into()),
    }
    if let Some(carried) = carried(shared, bytes.len()) {
        tokio::time::sleep_until(carried).await;
    }
    let (len, breaks) = let_through(shared, bytes.len());
    to.write_all(&bytes[..len]).await?;
    shared.passed.fetch_add(len as u64, Ordering::Relaxed);
    if breaks { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

/// When a narrow link has carried so many bytes more.
fn carried(shared: &Shared, len: usize) -> Option<Instant> {
    let mut throttle = shared.throttle.lock();
    let Throttle { bytes_per_second, free } = throttle.as_mut()?;
    let now = Instant::now();
    *free = (*free).max(now.checked_sub(BURST).unwrap_or(now))
        + Duration::from_secs(len as u64) / u32::try_from(*bytes_per_second).ok()?;
    Some(*free)
}

/// How many of so many bytes pass, and whether the connection breaks then.
fn let_through(shared: &Shared, len: usize) -> (usize, bool) {
    let mut left = shared.left.lock();
    match *left {
        Some(few) if few <= len as u64 => {
            *left = None;
            (few as usize, true)
        }
        Some(many) => {
            *left = Some(many - len as u64);
            (len, false)
        }
        None => (len, false),
    }
}

/// Waits while the link hangs.
async fn whole(shared: &Shared) {
    let mut hanging = shared.hanging.subscribe();
    hanging.wait_for(|hanging| !hanging).await.expect("the sender lives in `shared`");
}
