//! `PUT` and `DELETE`, at the root and under `/upload/`. What is switched off (405), who may not (401) and what is too
//! large (413) is said before the body is read; hyper sends `100 Continue` only when somebody reads it.
//!
//! Another edge that passes something on shows a warrant in place of the client's token, which control takes back here: it
//! is good for that one thing.
//!
//! Absent on purpose: what becomes of a body (see [`crate::uploads`]).

use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use ncps_nix::{ObjectName, StorePathHash};
use ncps_proto::{Bearer, ChangedBy, Code, EdgeSettings, Errand, Error, Scope, Writer, Writing};
use parking_lot::Mutex;

use super::credentials::{self, secret};
use super::reply::{self, Told};
use super::{Service, object};
use crate::relay::{Answer, Passing, warrant};
use crate::transfer::{Incoming, Wanted, too_large};
use crate::uploads::Door;
use crate::upstream::body::{Chunks, paced};
use crate::upstream::{Coding, UpstreamError};
use crate::via::Via;

/// Reads go on; what writes is answered here.
pub(super) async fn by_method(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => next.run(request).await,
        _ => answer(&service, request).await.unwrap_or_else(|refusal| *refusal),
    }
}

/// What a client writes to.
enum Target {
    Narinfo(StorePathHash),
    Nar(Wanted),
    Object(ObjectName),
}

/// The target of a request; `None` for what nobody writes, an error for a misspelled name.
fn target(uri: &Uri) -> Result<Option<(Door, Target)>, Error> {
    let (door, uri) = match stripped(uri) {
        Some(stripped) => (Door::Upload, stripped),
        None => (Door::Root, uri.clone()),
    };
    let path = uri.path().trim_start_matches('/');
    let misspelled = || Error::new(Code::Invalid, format!("{path:?} names nothing that a binary cache has"));
    if let Some(file) = path.strip_prefix("nar/") {
        let wanted = Wanted::parse(file, Via::direct()).map_err(|_| misspelled())?;
        return Ok(Some((door, Target::Nar(wanted))));
    }
    if let Some(hash) = path.strip_suffix(".narinfo").filter(|hash| !hash.contains('/')) {
        let hash = StorePathHash::parse(hash).map_err(|_| misspelled())?;
        return Ok(Some((door, Target::Narinfo(hash))));
    }
    match object::name(&uri) {
        Some(name) => Ok(Some((door, Target::Object(name)))),
        None if object::is_folder(path) => Err(misspelled()),
        None => Ok(None),
    }
}

/// The same without `/upload`.
pub(super) fn stripped(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/upload")?;
    rest.starts_with('/').then(|| rest.parse().ok()).flatten()
}

type Refused = Box<Response>;

async fn answer(service: &Arc<Service>, request: Request) -> Result<Response, Refused> {
    let live = service.current.get().map_err(told)?;
    let settings = &live.settings;
    let target = target(request.uri());
    let is_writable = !matches!(target, Ok(None));
    let scope = match *request.method() {
        Method::PUT if is_writable && settings.writing.put => Scope::Write,
        Method::DELETE if is_writable && settings.writing.delete => Scope::Delete,
        _ => return Err(Box::new(reply::only(&allowed(settings.writing, is_writable)))),
    };
    let by = service.admit(settings, scope, &target, request.headers()).await?;
    if scope == Scope::Delete && service.current.is_foreign() {
        return Err(told(foreign()));
    }
    let Some((door, target)) = target.map_err(told)? else {
        return Err(Box::new(reply::only(&allowed(settings.writing, false))));
    };
    let (head, body) = request.into_parts();
    let done = match scope {
        Scope::Write => service.put(settings, door, target, &head, body, by).await,
        _ => service.delete(target, &head, by).await,
    };
    match done {
        Ok(Done::Here) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Done::Absent) => Ok(reply::not_found()),
        Ok(Done::Elsewhere(answer)) => Ok(passed_back(answer)),
        Err(error) if error.code() == Code::VerbOff => {
            let settings = Writing { put: false, ..settings.writing };
            Err(Box::new(reply::only_since(&allowed(settings, true), &error)))
        }
        Err(error) => Err(told(error)),
    }
}

/// What another edge may ask for: narinfos, and the deletion of what control knows, are control's at every edge.
fn errand(scope: Scope, target: &Target) -> Option<Errand> {
    match (scope, target) {
        (Scope::Write, Target::Nar(wanted)) => Some(Errand::KeepNar(wanted.name)),
        (Scope::Write, Target::Object(name)) => Some(Errand::KeepObject(name.clone())),
        (Scope::Delete, Target::Object(name)) => Some(Errand::DeleteObject(name.clone())),
        _ => None,
    }
}

/// What became of a request.
enum Done {
    Here,
    Absent,
    /// At another edge, which said this.
    Elsewhere(Answer),
}

/// The other edge's answer as ours.
fn passed_back(Answer { status, text }: Answer) -> Response {
    match status {
        status if status.is_success() => StatusCode::NO_CONTENT.into_response(),
        StatusCode::UNAUTHORIZED => credentials::refusal(),
        status => reply::said(status, text),
    }
}

/// The index may be a wrong one: nothing goes for it.
fn foreign() -> Error {
    let why = "this edge belongs to another index, and removes nothing until ncps-cli index rebuild";
    Error::new(Code::Refused, why)
}

fn told(error: Error) -> Refused {
    Box::new(Told(error).into_response())
}

fn allowed(writing: Writing, is_writable: bool) -> String {
    let verbs = [(writing.put, ", PUT"), (writing.delete, ", DELETE")];
    let verbs = verbs.iter().filter(|(on, _)| *on && is_writable).map(|(_, verb)| *verb);
    ["GET, HEAD"].into_iter().chain(verbs).collect()
}

impl Service {
    fn writer(&self, headers: &HeaderMap) -> Writer {
        let secret = secret(headers).and_then(|secret| String::from_utf8(secret).ok());
        let instance = self.engine.instance().to_owned();
        Writer { instance, secret: secret.map(ncps_proto::Secret::new) }
    }

    /// Who has something written here: a client who may, or another edge that control lets have it done.
    async fn admit(
        &self,
        settings: &EdgeSettings,
        scope: Scope,
        target: &Result<Option<(Door, Target)>, Error>,
        headers: &HeaderMap,
    ) -> Result<ChangedBy, Refused> {
        let refusal = || Box::new(credentials::refusal());
        let Some(warrant) = warrant(headers) else {
            let by = || ChangedBy::Client(self.writer(headers));
            return self.may(settings, scope, headers).then(by).ok_or_else(refusal);
        };
        let target = target.as_ref().ok().and_then(Option::as_ref);
        let errand = target.and_then(|(_, target)| errand(scope, target)).ok_or_else(refusal)?;
        let bearer = Bearer { instance: self.engine.instance().to_owned(), warrant };
        match self.uploads.redeem(bearer.clone(), errand).await {
            Ok(()) => Ok(ChangedBy::Errand(bearer)),
            Err(error) if error.code() == Code::Unauthenticated => Err(refusal()),
            Err(error) => Err(told(error)),
        }
    }

    async fn put(
        &self,
        settings: &EdgeSettings,
        door: Door,
        target: Target,
        head: &Parts,
        body: Body,
        by: ChangedBy,
    ) -> Result<Done, Error> {
        let coding = Coding::of(&head.headers);
        if let Coding::Other(other) = &coding {
            return Err(Error::new(Code::Invalid, format!("Content-Encoding {other:?} can't be decoded")));
        }
        let chunks = chunks(body, settings);
        let coming = self.uploads.rest_here();
        if !matches!(target, Target::Narinfo(_)) && coming.is_none() {
            return self.pass_on(settings, target, head, chunks, by).await;
        }
        match target {
            Target::Nar(wanted) => self.put_nar(settings, wanted, head, chunks, &by).await,
            Target::Narinfo(hash) => {
                self.uploads.narinfo(hash, chunks, &coding, door, self.writer(&head.headers)).await
            }
            Target::Object(name) => self.uploads.object(name, chunks, &coding, by).await,
        }
        .map(|()| Done::Here)
    }

    /// What can't rest here goes on to where it can. What is clear without the other edge is said before it is asked.
    async fn pass_on(
        &self,
        settings: &EdgeSettings,
        target: Target,
        head: &Parts,
        body: Chunks,
        by: ChangedBy,
    ) -> Result<Done, Error> {
        let (ChangedBy::Client(writer), Some(errand)) = (by, errand(Scope::Write, &target)) else {
            return Err(Error::new(
                Code::Unavailable,
                "an upload was passed on to an edge that can't keep it",
            ));
        };
        let mut most = u64::MAX;
        if let Target::Nar(wanted) = &target {
            most = settings.writing.max_upload_bytes;
            fits(&head.headers, most)?;
            if self.uploads.has_nar(wanted.name).await? {
                return drain(head, body, most).await.map(|()| Done::Here);
            }
        }
        let passing = Passing { errand, writer, headers: &head.headers, body, most };
        Ok(Done::Elsewhere(self.uploads.pass_on(passing).await?))
    }

    async fn put_nar(
        &self,
        settings: &EdgeSettings,
        wanted: Wanted,
        head: &Parts,
        chunks: Chunks,
        by: &ChangedBy,
    ) -> Result<(), Error> {
        if Coding::of(&head.headers) != Coding::Identity {
            return Err(Error::new(
                Code::Invalid,
                "a NAR file has no Content-Encoding: it is compressed itself",
            ));
        }
        let most = settings.writing.max_upload_bytes;
        let length = fits(&head.headers, most)?;
        if self.uploads.has_nar(wanted.name).await? {
            return drain(head, chunks, most).await;
        }
        let (chunks, rest) = lent(chunks);
        let taken = self.uploads.nar(Incoming { name: wanted.name, length, most, chunks }).await;
        if taken.is_err() && matches!(by, ChangedBy::Errand(_)) {
            hear_out(&rest, most).await;
        }
        taken
    }

    async fn delete(&self, target: Target, head: &Parts, by: ChangedBy) -> Result<Done, Error> {
        let headers = &head.headers;
        let found = match target {
            Target::Narinfo(hash) => self.uploads.delete_narinfo(hash, self.writer(headers)).await?,
            Target::Nar(wanted) => self.uploads.delete_nar(wanted.name, self.writer(headers)).await?,
            Target::Object(name) => {
                let removed = self.uploads.delete_object(&name, by.clone()).await?;
                // Control does not know where objects are: whoever may have one is asked.
                match by {
                    ChangedBy::Client(writer) => {
                        self.uploads.delete_elsewhere(name, writer).await? || removed
                    }
                    ChangedBy::Errand(_) => removed,
                }
            }
        };
        Ok(if found { Done::Here } else { Done::Absent })
    }
}

/// The announced length of a body, of at most so many bytes.
fn fits(headers: &HeaderMap, most: u64) -> Result<Option<u64>, Error> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > most => Err(too_large(most)),
        length => Ok(length),
    }
}

/// The body, which must keep coming.
fn chunks(body: Body, settings: &EdgeSettings) -> Chunks {
    let cut = |error: axum::Error| UpstreamError::Transport(error.to_string());
    paced(body.into_data_stream().map_err(cut).boxed(), settings.idle_timeout)
}

/// A body that can be read on when whoever it was given to has left it.
type Rest = Arc<Mutex<Option<Chunks>>>;

/// The same body to be given away, and what is left of it then: nothing before it was begun, so that `100 Continue` is
/// not said for nothing.
fn lent(chunks: Chunks) -> (Chunks, Rest) {
    let (mut unbegun, rest) = (Some(chunks.fuse().boxed()), Rest::default());
    let lender = Arc::clone(&rest);
    let given = futures::stream::poll_fn(move |context| {
        let mut chunks = lender.lock();
        if let Some(first) = unbegun.take() {
            *chunks = Some(first);
        }
        chunks.as_mut().map_or(Poll::Ready(None), |chunks| chunks.poll_next_unpin(context))
    });
    (given.boxed(), rest)
}

/// Another edge hears why a body is refused only when it could send all of it: a connection that is closed under its hands
/// looks like an edge that broke.
async fn hear_out(rest: &Rest, most: u64) {
    let rest = rest.lock().take();
    if let Some(chunks) = rest {
        // Why it is refused is known already.
        read_out(chunks, most).await.ok();
    }
}

/// Who sends what is there already may not listen before he has sent it. Who waits for 100 Continue does.
async fn drain(head: &Parts, chunks: Chunks, most: u64) -> Result<(), Error> {
    match head.headers.contains_key(header::EXPECT) {
        true => Ok(()),
        false => read_out(chunks, most).await,
    }
}

/// Reads a body of at most so many bytes to its end, for nothing.
async fn read_out(mut chunks: Chunks, most: u64) -> Result<(), Error> {
    let mut came = 0;
    while let Some(chunk) = chunks.next().await {
        came += chunk.map_err(crate::transfer::broken)?.len() as u64;
        if came > most {
            return Err(too_large(most));
        }
    }
    Ok(())
}
