//! What goes through a link: connections accepted, joined with the target, and broken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stream::{Listener, Stream};
use super::{Listening, Shared};

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
    // A side that broke, or a cut: the other one breaks too.
    if !matches!(ended, Some(Ok(()))) {
        near.reset_on_drop();
        far.reset_on_drop();
    }
}

async fn connect(shared: &Shared) -> Option<Stream> {
    whole(shared).await;
    Stream::connect(&shared.target).await.ok()
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
    let mut buf = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buf).await?;
        whole(shared).await;
        if len == 0 {
            return to.shutdown().await;
        }
        let (len, breaks) = let_through(shared, len);
        to.write_all(&buf[..len]).await?;
        shared.passed.fetch_add(len as u64, Ordering::Relaxed);
        if breaks {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
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
