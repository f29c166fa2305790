//! The dashboard: a page on control's HTTP port that shows the fleet as it is, live. It changes nothing.
//!
//! It knows what administrators can ask, and shows the same figures. `entry` says who may look, `files` is what a
//! browser loads, `snapshot` what is shown now, `history` what was within the hour, `viewers` who looks, `board` ties
//! them together. Absent: TLS, which the port does not have; and any figure in the database that nobody else needs.

mod board;
mod entry;
mod files;
mod history;
mod snapshot;
mod viewers;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response, StatusCode};
use ncps_runtime::tasks::Tasks;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::reply::{Body, TEXT, text};
use board::Board;
use entry::Entry;

/// Where the page hears what is new.
const EVENTS: &str = "/events";

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// Ends the connection.
    pub(crate) cut: CancellationToken,
}

/// The page, and what it needs.
#[derive(Clone)]
pub(crate) struct Dashboard {
    entry: Entry,
    board: Arc<Board>,
}

impl Dashboard {
    /// `insecure`: it may be shown to other hosts without TLS.
    pub(crate) fn start(control: &Arc<Control>, insecure: bool, tasks: &Tasks) -> Dashboard {
        let board = Board::new(Arc::clone(control));
        let (running, stop) = (Arc::clone(&board), tasks.life().hard());
        tasks.spawn_background("dashboard", async move { running.run(stop).await });
        Dashboard { entry: Entry::new(control, insecure), board }
    }

    /// The answer, where the path is one of the dashboard's.
    pub(crate) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Option<Response<Body>> {
        let file = files::of(path);
        if file.is_none() && path != EVENTS {
            return None;
        }
        let response = match (self.entry.admit(headers, peer.ip), file) {
            (Err(refusal), file) => refusal.into_response(file.is_some()),
            (Ok(_), Some(file)) => file.response(),
            (Ok(_), None) if method == Method::HEAD => stream(futures::stream::empty()),
            (Ok(over), None) => self.watch(over, peer),
        };
        Some(files::guarded(response))
    }

    /// What is new, until the token counts no more.
    fn watch(&self, over: CancellationToken, peer: &Peer) -> Response<Body> {
        match self.board.watch(&peer.cut) {
            Some(news) => stream(ReceiverStream::new(news).take_until(over.cancelled_owned())),
            None => {
                let why = format!("{} browsers look already, as many as may\n", viewers::MOST);
                let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why, TEXT);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
                response
            }
        }
    }
}

fn stream(news: impl futures::Stream<Item = bytes::Bytes> + Send + 'static) -> Response<Body> {
    let frames = news.map(|said| Ok::<_, Infallible>(Frame::data(said)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy passes on what comes, when it comes.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
