//! `PUT` and `DELETE`, at the root and under `/upload/`. What is switched off (405), who may not (401) and what is too
//! large (413) is said before the body is read; hyper sends `100 Continue` only when somebody reads it.
//!
//! Absent on purpose: what becomes of a body (see [`crate::uploads`]).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use ncps_nix::{ObjectName, StorePathHash};
use ncps_proto::{Code, EdgeSettings, Error, Scope, Writer, Writing};

use super::credentials::{self, secret};
use super::reply::{self, Told};
use super::{Service, object};
use crate::relay::{Answer, Passing, is_passed_on};
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
    if !service.may(settings, scope, request.headers()) {
        return Err(Box::new(credentials::refusal()));
    }
    if scope == Scope::Delete && service.current.is_foreign() {
        return Err(told(foreign()));
    }
    let Some((door, target)) = target.map_err(told)? else {
        return Err(Box::new(reply::only(&allowed(settings.writing, false))));
    };
    let (head, body) = request.into_parts();
    let done = match scope {
        Scope::Write => service.put(settings, door, target, &head, body).await,
        _ => service.delete(target, &head).await,
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

    async fn put(
        &self,
        settings: &EdgeSettings,
        door: Door,
        target: Target,
        head: &Parts,
        body: Body,
    ) -> Result<Done, Error> {
        let coding = Coding::of(&head.headers);
        if let Coding::Other(other) = &coding {
            return Err(Error::new(Code::Invalid, format!("Content-Encoding {other:?} can't be decoded")));
        }
        let chunks = chunks(body, settings);
        let coming = self.uploads.rest_here();
        if !matches!(target, Target::Narinfo(_)) && coming.is_none() {
            return self.pass_on(settings, target, head, chunks).await;
        }
        match target {
            Target::Nar(wanted) => self.put_nar(settings, wanted, head, chunks).await,
            Target::Narinfo(hash) => {
                self.uploads.narinfo(hash, chunks, &coding, door, self.writer(&head.headers)).await
            }
            Target::Object(name) => {
                self.uploads.object(name, chunks, &coding, self.writer(&head.headers)).await
            }
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
    ) -> Result<Done, Error> {
        if is_passed_on(&head.headers) {
            return Err(Error::new(
                Code::Unavailable,
                "an upload was passed on to an edge that can't keep it",
            ));
        }
        let mut most = u64::MAX;
        if let Target::Nar(wanted) = &target {
            most = settings.writing.max_upload_bytes;
            fits(&head.headers, most)?;
            if self.uploads.has_nar(wanted.name).await? {
                return drain(head, body, most).await.map(|()| Done::Here);
            }
        }
        let passing = Passing {
            method: head.method.clone(),
            target: head.uri.path_and_query().map_or("/", |target| target.as_str()),
            headers: &head.headers,
            body,
            most,
        };
        let answer = self.uploads.pass_on(passing, matches!(target, Target::Nar(_))).await?;
        Ok(Done::Elsewhere(answer))
    }

    async fn put_nar(
        &self,
        settings: &EdgeSettings,
        wanted: Wanted,
        head: &Parts,
        chunks: Chunks,
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
        self.uploads.nar(Incoming { name: wanted.name, length, most, chunks }).await
    }

    async fn delete(&self, target: Target, head: &Parts) -> Result<Done, Error> {
        let headers = &head.headers;
        let found = match target {
            Target::Narinfo(hash) => self.uploads.delete_narinfo(hash, self.writer(headers)).await?,
            Target::Nar(wanted) => self.uploads.delete_nar(wanted.name, self.writer(headers)).await?,
            Target::Object(name) => {
                let removed = self.uploads.delete_object(name, self.writer(headers)).await?;
                let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
                // Control does not know where objects are: whoever may have one is asked.
                removed | (!is_passed_on(headers) && self.uploads.delete_elsewhere(target, headers).await?)
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

/// Who sends what is there already may not listen before he has sent it. Who waits for 100 Continue does.
async fn drain(head: &Parts, mut chunks: Chunks, most: u64) -> Result<(), Error> {
    if head.headers.contains_key(header::EXPECT) {
        return Ok(());
    }
    let mut came = 0;
    while let Some(chunk) = chunks.next().await {
        came += chunk.map_err(crate::transfer::broken)?.len() as u64;
        if came > most {
            return Err(too_large(most));
        }
    }
    Ok(())
}
