//! New connections as streams, as the gRPC server wants them. Absent: TLS (see [`crate::handshakes`]).

use std::io;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use ncps_runtime::accepting::Accepting;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::connections::{Door, Held};

/// Connections in plaintext that have a place; others are closed.
pub(crate) fn plain(
    listener: TcpListener,
    door: Arc<Door>,
) -> BoxStream<'static, io::Result<Held<TcpStream>>> {
    stream::unfold((listener, door, Accepting::default()), async |(listener, door, mut accepting)| {
        loop {
            let (stream, peer) = accepting.next(|| listener.accept()).await;
            let Some(place) = door.enter(peer) else { continue };
            // Latency matters more than packets; a socket that refuses is used as it is.
            stream.set_nodelay(true).ok();
            return Some((Ok(place.hold(stream)), (listener, door, accepting)));
        }
    })
    .boxed()
}

/// Connections to a socket that only its owner can connect to.
pub(crate) fn unix(listener: UnixListener) -> BoxStream<'static, io::Result<UnixStream>> {
    stream::unfold((listener, Accepting::default()), async |(listener, mut accepting)| {
        let (stream, _) = accepting.next(|| listener.accept()).await;
        Some((Ok(stream), (listener, accepting)))
    })
    .boxed()
}
