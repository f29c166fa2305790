//! The calls that come in at control's port, before anything is asked of them: each has to be one of gRPC, to say in its
//! time what it says, and to find room. A connection has some room of its own, enough for what an edge asks while it
//! serves; the rest is of its address, so that whoever begins many calls and ends none takes no more memory than that,
//! however many connections it has, and leaves something to an edge behind the same address.
//!
//! Absent: a Unix socket, whose owner may do as he likes; how many calls a connection makes a second and who may call
//! (see [`crate::gate`]); and what lies in the windows of HTTP/2 because nobody reads it yet, which these limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use ncps_proto::grpc::{Overhearing, Overhears, is_undecodable, to_status};
use ncps_proto::{Code, Error};
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::connections::Visitor;
use crate::messages::Messages;
use crate::refusals::{Reason, Refusals, Who};

/// For all calls of one address that go on, in bytes: 16 messages of the longest kind at once.
const ROOM: usize = 128 << 20;
/// For those of one connection before they take any of it, in bytes: 64 small ones.
const OWN_ROOM: usize = 512 << 10;
/// What a call takes beside its messages, in bytes.
const OF_A_CALL: usize = 8 << 10;
/// For one message, from the first moment in which control waits for it.
const WITHIN: Duration = Duration::from_secs(30);

/// What calls may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one address at once, beside what its connections have for themselves.
    pub(crate) room: usize,
    /// Bytes that each connection has for itself.
    pub(crate) own: usize,
    /// How long a message is waited for; between the messages of a stream there is no limit.
    pub(crate) within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { room: ROOM, own: OWN_ROOM, within: WITHIN }
    }
}

/// What all calls of one port share.
pub(crate) struct Intake {
    limits: Limits,
    /// Bytes by address, beyond what its connections have for themselves. What a connection holds changes under its lock.
    taken: Mutex<HashMap<IpAddr, usize>>,
    refusals: Arc<Refusals>,
}

impl Intake {
    pub(crate) fn new(limits: Limits, refusals: Arc<Refusals>) -> Arc<Intake> {
        Arc::new(Intake { limits, taken: Mutex::default(), refusals })
    }

    /// A call of this connection, if there is room for one.
    pub(crate) fn begin(self: &Arc<Self>, visitor: &Visitor) -> Result<Arc<Call>, Status> {
        let (held, answered) = (AtomicUsize::new(0), AtomicBool::new(false));
        let call = Arc::new(Call { intake: Arc::clone(self), visitor: visitor.clone(), held, answered });
        if call.hold(0) { Ok(call) } else { Err(call.too_much()) }
    }

    /// Takes `more` in place of `less` for this connection. False where that is too much, and nothing changes.
    fn exchange(&self, visitor: &Visitor, less: usize, more: usize) -> bool {
        let (peer, mut taken) = (visitor.peer.ip(), self.taken.lock());
        let held = visitor.held().load(Ordering::Relaxed);
        let then = held - less + more;
        let beyond = |held: usize| held.saturating_sub(self.limits.own);
        let of_all = taken.get(&peer).copied().unwrap_or(0) - beyond(held) + beyond(then);
        if then > held && beyond(then) > 0 && of_all > self.limits.room {
            return false;
        }
        visitor.held().store(then, Ordering::Relaxed);
        if of_all == 0 {
            taken.remove(&peer);
        } else {
            taken.insert(peer, of_all);
        }
        true
    }
}

/// A call that goes on: its place in the room, free again when it is dropped.
pub(crate) struct Call {
    intake: Arc<Intake>,
    visitor: Visitor,
    held: AtomicUsize,
    answered: AtomicBool,
}

impl Call {
    /// From now on so many bytes of its messages are there. False where there is no room for them.
    pub(crate) fn hold(&self, bytes: usize) -> bool {
        self.exchange(OF_A_CALL + bytes)
    }

    /// Only whoever reads its messages comes here, and its end.
    fn exchange(&self, more: usize) -> bool {
        let less = self.held.load(Ordering::Relaxed);
        let fits = self.intake.exchange(&self.visitor, less, more);
        if fits {
            self.held.store(more, Ordering::Relaxed);
        }
        fits
    }

    /// Its answer has begun: what it says from now on is a stream that it may pause in.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// There is no room for what it says.
    pub(crate) fn too_much(&self) -> Status {
        let room = self.intake.limits.room >> 20;
        self.refuse(
            Reason::Flood,
            Code::Overloaded,
            &format!("calls of this address take more than {room} MiB"),
        )
    }

    /// A message did not come, or not to its end.
    pub(crate) fn too_slow(&self) -> Status {
        let within = self.intake.limits.within;
        self.refuse(Reason::Idle, Code::TooSlow, &format!("a message was not there within {within:?}"))
    }

    /// It says what is no message.
    pub(crate) fn malformed(&self, why: &str) -> Status {
        self.refuse(Reason::Malformed, Code::Invalid, why)
    }

    fn refuse(&self, reason: Reason, code: Code, why: &str) -> Status {
        let error = Error::new(code, why);
        to_status(self.intake.refusals.turn_away(&Who::from(self.visitor.peer.ip()), reason, error))
    }

    /// Its answer is there. Where a message could not be decoded it is the answer that says so.
    pub(crate) fn answer(&self, response: &Response<Body>) {
        self.answered.store(true, Ordering::Relaxed);
        let status = response.extensions().get::<Status>();
        if let Some(status) = status.filter(|status| is_undecodable(status)) {
            self.not_understood(status.message());
        }
    }
}

impl Overhears for Call {
    fn not_understood(&self, why: &str) {
        self.intake.refusals.note(&Who::from(self.visitor.peer.ip()), Reason::Malformed, why);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.exchange(0);
    }
}

/// A request that may go on, and its call.
type TakenIn = (Request<Body>, Arc<Call>);

/// All services of the port, behind this.
#[derive(Clone)]
pub(crate) struct Calls<S> {
    inner: S,
    intake: Arc<Intake>,
}

impl<S> Calls<S> {
    pub(crate) fn new(inner: S, intake: &Arc<Intake>) -> Calls<S> {
        Calls { inner, intake: Arc::clone(intake) }
    }

    /// What is to be answered; or the answer.
    fn take_in(&self, request: Request<Body>) -> Result<TakenIn, Box<Response<Body>>> {
        let visitor = request.extensions().get::<Visitor>().expect("connections of the port are held");
        visitor.call();
        let call = self.intake.begin(visitor).map_err(Status::into_http).map_err(Box::new)?;
        if !is_grpc(&request) {
            call.malformed("it is no POST of application/grpc");
            return Err(Box::new(not_grpc()));
        }
        let (of_body, within) = (Arc::clone(&call), self.intake.limits.within);
        let mut request = request.map(|body| Body::new(Messages::new(body, of_body, within)));
        request.extensions_mut().insert(Overhearing(Arc::clone(&call) as _));
        Ok((request, call))
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (request, call) = match self.take_in(request) {
            Ok(taken) => taken,
            Err(answer) => return std::future::ready(Ok(*answer)).boxed(),
        };
        self.inner
            .call(request)
            .map(move |answered| answered.inspect(|response| call.answer(response)))
            .boxed()
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    request.method() == Method::POST && kind.starts_with(b"application/grpc")
}

fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
