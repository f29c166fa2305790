//! `GET` and `HEAD` of `/nar/<file hash>.nar[.ext]`: from the store, from a running transfer, or by starting
//! one. A query is ignored: the name says it all. What is asked for uncompressed and lies here as zstd is another
//! answer for some clients (see [`super::encoded`]).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ncps_nix::{Compression, NarFileName};
use ncps_proto::{Code, Error};

use super::Service;
use super::conditional::{etag, not_modified, part};
use super::encoded;
use super::measure::FromUpstream;
use super::range::{Part, Span};
use super::reply::{self, Refusal};
use crate::store::StoredNar;
use crate::store_read;
use crate::transfer::{Reader, StoredZstd, Wanted};
use crate::via::Via;

pub(super) async fn nar(
    State(service): State<Arc<Service>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // A compression that we can't decode is an absence, too: Nix takes a 400 for an error.
    let Ok(wanted) = Wanted::parse(&file, Via::of(&headers)) else { return Ok(reply::not_found()) };
    let name = wanted.name;
    let request = Asked::new(headers, wanted);
    let here = request.here(&service, &method).await?;
    let served = here.name().unwrap_or(name);
    if let Here::Plain(_) = here {
        service.engine.transcodes().offer(name);
    }
    let response = match here {
        Here::Zstd(zstd) => encoded::answer(&method, &request.headers, name, zstd),
        here if method == Method::HEAD => request.head(&service, here.plain()).await?,
        here => request.get(&service, here.plain()).await?,
    };
    if method == Method::GET {
        service.accesses.nar(served);
        service.ahead.reads(served);
    }
    Ok(response)
}

/// What the store has of a NAR.
enum Here {
    Nothing,
    Plain(StoredNar),
    /// Its zstd file, which this client prefers.
    Zstd(StoredZstd),
}

impl Here {
    fn name(&self) -> Option<NarFileName> {
        if let Here::Zstd(zstd) = self { Some(zstd.name) } else { None }
    }

    fn plain(self) -> Option<StoredNar> {
        if let Here::Plain(stored) = self { Some(stored) } else { None }
    }
}

/// A file of the store, whatever else there is.
pub(super) fn from_store(method: &Method, headers: HeaderMap, wanted: Wanted, stored: StoredNar) -> Response {
    let request = Asked::new(headers, wanted);
    match *method {
        Method::HEAD => request.described(Some(stored.size)),
        _ => request.stored(stored),
    }
}

/// What is known of one that is not here yet.
pub(super) fn described(headers: HeaderMap, wanted: Wanted, length: Option<u64>) -> Response {
    Asked::new(headers, wanted).described(length)
}

/// A transfer that runs, to another edge.
pub(super) async fn from_running(
    headers: HeaderMap,
    wanted: Wanted,
    reader: Reader,
) -> Result<Response, Refusal> {
    let response = Asked::new(headers, wanted).running(reader).await?;
    Ok(with(FromUpstream { shared: true }, response))
}

/// A file that another edge holds, of this length where it is known: read from there.
pub(super) async fn from_peer(
    service: &Arc<Service>,
    method: &Method,
    headers: HeaderMap,
    wanted: Wanted,
    length: Option<u64>,
) -> Result<Response, Refusal> {
    let request = Asked::new(headers, wanted);
    match *method {
        Method::HEAD => Ok(request.described(length)),
        _ => request.get(service, None).await,
    }
}

struct Asked {
    name: NarFileName,
    wanted: Wanted,
    etag: String,
    headers: HeaderMap,
}

impl Asked {
    fn new(headers: HeaderMap, wanted: Wanted) -> Asked {
        let name = wanted.name;
        Asked { name, wanted, etag: etag(name), headers }
    }

    /// The file itself is looked for first: where it lies here nobody else is asked for another.
    async fn here(&self, service: &Arc<Service>, method: &Method) -> Result<Here, Refusal> {
        let plain = match *method {
            // `nix copy` asks so before it sends a NAR.
            Method::HEAD if service.engine.takes_uploads() => {
                service.engine.stored_for_sender(self.name).await?
            }
            _ => service.engine.stored(self.name).await?,
        };
        if encoded::is_wanted(self.name, &self.headers, &self.etag)
            && let Some(zstd) = service.engine.zstd_of(self.name, plain.is_none()).await?
        {
            return Ok(Here::Zstd(zstd));
        }
        Ok(plain.map_or(Here::Nothing, Here::Plain))
    }

    async fn get(&self, service: &Arc<Service>, here: Option<StoredNar>) -> Result<Response, Refusal> {
        if let Some(stored) = here {
            return Ok(self.stored(stored));
        }
        self.refuse_loops(service)?;
        if not_modified(&self.headers, &self.etag) {
            // Who names our ETag has the bytes: nothing is fetched to say so.
            service.engine.describe(&self.wanted).await?;
            return Ok(with(FromUpstream { shared: false }, self.unmodified()));
        }
        let reader = service.engine.join(&self.wanted)?;
        let from_upstream = FromUpstream { shared: reader.is_shared() };
        // One that was begun for a cache that lists us did not look there.
        let limited = self.wanted.via.is_direct() && !reader.is_direct();
        match self.running(reader).await {
            Err(refusal) if limited && refusal.is_absence() => {
                self.running(service.engine.join(&self.wanted)?).await
            }
            response => response,
        }
        .map(|response| with(from_upstream, response))
    }

    /// What came through here before gets what is stored: whoever asks may be whom a transfer of ours waits for.
    fn refuse_loops(&self, service: &Service) -> Result<(), Error> {
        match service.current.loops(&self.wanted.via) {
            true => Err(Error::new(Code::Absent, "a request came back to the cache that it came through")),
            false => Ok(()),
        }
    }

    async fn head(&self, service: &Arc<Service>, here: Option<StoredNar>) -> Result<Response, Refusal> {
        let length = match here {
            Some(stored) => Some(stored.size),
            None if self.refuse_loops(service).is_err() => return Ok(reply::not_found()),
            None => match service.engine.peek(self.name).and_then(|running| running.length_now()) {
                Some(length) => Some(length),
                None => service.engine.describe(&self.wanted).await?,
            },
        };
        Ok(self.described(length))
    }

    fn described(&self, length: Option<u64>) -> Response {
        if not_modified(&self.headers, &self.etag) {
            return self.unmodified();
        }
        self.whole(length, Body::empty())
    }

    fn stored(&self, stored: StoredNar) -> Response {
        if not_modified(&self.headers, &self.etag) {
            return self.unmodified();
        }
        let part = part(&self.headers, &self.etag);
        let Some(Span { from, to }) = part.span(stored.size) else { return self.beyond(stored.size) };
        let body = Body::from_stream(store_read::stream(stored.file, from, to));
        match part {
            Part::Whole => self.whole(Some(stored.size), body),
            _ => self.partial(Span { from, to }, stored.size, body),
        }
    }

    /// Whole bodies and open ranges stream while the transfer runs; a range that may end inside the unproven
    /// file waits for the proof. Until the first byte can go out, a failure is still a status.
    async fn running(&self, mut reader: Reader) -> Result<Response, Refusal> {
        let part = part(&self.headers, &self.etag);
        let length = match part {
            Part::Whole => None,
            Part::From(first) => match reader.head(first).await?.length {
                Some(length) => Some(length),
                // Another edge is rather sent all of it now than a part when it is whole.
                None if reader.is_lent() => None,
                None => reader.proven().await?,
            },
            Part::Between(..) | Part::Last(_) => reader.proven().await?,
        };
        // A range that can't be proven before it is sent is answered by the whole, as RFC 9110 allows.
        let Some(length) = length else {
            let head = reader.head(0).await?;
            let stands_in = reader.stands_in().map(|which| format!("\"{which}\""));
            let body = Body::from_stream(reader.stream(0, None));
            return match stands_in {
                Some(etag) => self.standing_in(part, etag, head.length, body),
                None => Ok(self.whole(head.length, body)),
            };
        };
        if reader.stands_in().is_some() {
            return Err(no_part().into());
        }
        let Some(span) = part.span(length) else { return Ok(self.beyond(length)) };
        let body = Body::from_stream(reader.stream(span.from, Some(span.to)));
        Ok(self.partial(span, length, body))
    }

    /// Another file of the same NAR: for who wants the whole, which it unpacks to the same. A part of it, after a part of
    /// the file that was asked for, would be neither.
    fn standing_in(
        &self,
        part: Part,
        etag: String,
        length: Option<u64>,
        body: Body,
    ) -> Result<Response, Refusal> {
        if part != Part::Whole {
            return Err(no_part().into());
        }
        let mut response = self.whole(length, body);
        response.headers_mut().remove(header::ACCEPT_RANGES);
        insert(response.headers_mut(), header::ETAG, etag);
        Ok(response)
    }

    fn whole(&self, length: Option<u64>, body: Body) -> Response {
        let mut response = self.response(StatusCode::OK, body);
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }

    fn partial(&self, span: Span, length: u64, body: Body) -> Response {
        let mut response = self.response(StatusCode::PARTIAL_CONTENT, body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(span.to - span.from));
        insert(headers, header::CONTENT_RANGE, format!("bytes {}-{}/{length}", span.from, span.to - 1));
        response
    }

    fn beyond(&self, length: u64) -> Response {
        let mut response = self.response(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
        insert(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{length}"));
        response
    }

    fn unmodified(&self) -> Response {
        self.response(StatusCode::NOT_MODIFIED, Body::empty())
    }

    fn response(&self, status: StatusCode, body: Body) -> Response {
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        insert(headers, header::ETAG, self.etag.clone());
        if self.name.compression == Compression::None {
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }
}

fn no_part() -> Error {
    Error::new(Code::Absent, "the file is gone, and another one of its NAR has other parts")
}

fn with(from_upstream: FromUpstream, mut response: Response) -> Response {
    response.extensions_mut().insert(from_upstream);
    response
}

pub(super) fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    let value = HeaderValue::try_from(value).expect("numbers and hashes are header values");
    headers.insert(name, value);
}
