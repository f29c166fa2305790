//! Connections of the upstream: accepting them, reading requests, choosing rules.

use std::future::pending;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Headers;
use crate::http1::{Head, Wire};
use crate::script::Behaviour;

use super::answer::answer;
use super::content::split_query;
use super::log::{End, Seen, Ticket};
use super::send::{Exchange, Next};
use super::{Listening, Shared};

/// Serves a listener until it is stopped; then connections are reset.
pub(super) fn listen(listener: TcpListener, shared: Arc<Shared>) -> Listening {
    let listening = Listening { stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let (stop, tasks) = (listening.stop.clone(), listening.tasks.clone());
    listening.tasks.spawn(async move {
        stop.run_until_cancelled(accept(listener, shared, &stop, &tasks)).await;
    });
    listening.tasks.close();
    listening
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: &CancellationToken, tasks: &TaskTracker) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        shared.log.lock().connections += 1;
        tasks.spawn(connection(Wire::new(stream), Arc::clone(&shared), stop.clone()));
    }
}

async fn connection(mut wire: Wire, shared: Arc<Shared>, stop: CancellationToken) {
    let ended = stop.run_until_cancelled(requests(&mut wire, &shared)).await;
    if ended.is_none() {
        wire.reset_on_drop();
    }
}

async fn requests(wire: &mut Wire, shared: &Arc<Shared>) {
    while let Ok(Some(head)) = wire.read_head().await {
        let Some(request) = Request::parse(head) else {
            drop(wire.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await);
            return;
        };
        if let Next::Close = respond(wire, shared, request).await {
            return;
        }
    }
}

async fn respond(wire: &mut Wire, shared: &Arc<Shared>, request: Request) -> Next {
    let ticket = Ticket::take(shared, request.seen());
    let does = behaviour(shared, &request);
    if !request.is_bodiless() && skip_body(wire, &request).await.is_none() {
        ticket.end(End::ClientGone);
        return Next::Close;
    }
    let answer = answer(&request, &shared.content.lock(), &does);
    let keep = !request.headers.get("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let mut exchange =
        Exchange { wire, ticket: &ticket, blackhole: shared.blackhole.subscribe(), does: &does };
    let (end, next) = exchange.run(answer).await;
    ticket.end(end);
    if keep { next } else { Next::Close }
}

/// What all rules that match say together.
fn behaviour(shared: &Shared, request: &Request) -> Behaviour {
    let mut all = Behaviour::default();
    let ranged = request.headers.has("Range");
    for (_, rule) in shared.rules.lock().iter_mut() {
        if rule.take(&request.method, &request.path, ranged) {
            all.and_then(&rule.does);
        }
    }
    all
}

/// Reads past a request's body; None if the client goes away, or sends chunks, which nobody does
/// to a cache that is only read.
async fn skip_body(wire: &mut Wire, request: &Request) -> Option<()> {
    let mut left = request.headers.number("Content-Length")?;
    while left > 0 {
        let len = wire.buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        drop(wire.buf.split_to(len));
        left -= len as u64;
        if left > 0 && wire.fill().await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

/// A request whose head was read.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Headers,
}

impl Request {
    fn parse(Head { first_line, headers }: Head) -> Option<Self> {
        let mut words = first_line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = split_query(origin_form(target));
        let (path, query) = (path.to_owned(), query.map(ToOwned::to_owned));
        words.next()?.starts_with("HTTP/1.").then_some(Self { method, path, query, headers })
    }

    fn is_bodiless(&self) -> bool {
        !self.headers.has("Content-Length") && !self.headers.has("Transfer-Encoding")
    }

    fn seen(&self) -> Seen {
        Seen {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            status: None,
            sent: 0,
            end: End::Running,
        }
    }
}

/// Runs `future`, unless the client goes away meanwhile; then None.
pub(super) async fn while_there<T>(wire: &mut Wire, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = gone(wire) => None,
    }
}

/// Ready when the client has closed; requests that it sends ahead are kept, up to a limit.
async fn gone(wire: &mut Wire) {
    while wire.buf.len() < 1 << 20 {
        if matches!(wire.fill().await, Ok(0) | Err(_)) {
            return;
        }
    }
    pending().await
}

/// The target as a server sees it; a proxy is told the scheme and the host before it (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://") else { return target };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}
