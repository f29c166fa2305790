//! What a client wants and can't be done here goes on to an edge whose disk is kept: uploads, as they come, and deletions. Its
//! answer is the client's.
//!
//! Control names these edges, in the order to ask, each with a warrant: its word that this may be done there. What the
//! client has shown stays here. Another edge is tried only while the body was not begun: it comes but once. Absent on
//! purpose: what becomes of a body, which is the other edge's, and a copy of it here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ncps_proto::{Code, ControlPlane, Errand, Error, Result, Secret, Warranted, Warrants, Writer};
use parking_lot::Mutex;
use reqwest::RequestBuilder;
use tokio::time::Instant;

use crate::live::Current;
use crate::transfer::{broken, too_large};
use crate::upstream::UpstreamError;
use crate::upstream::body::Chunks;

/// Without a byte more that the other edge takes, or its answer, it counts as broken. It may wait for its turn, for room
/// and for the proof.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of an answer: it is a line of text.
const MOST_ANSWERED: usize = 4096;
/// What goes along of the client's request: what its body is, and nothing of who the client is.
const PASSED: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH];
/// What the edge that is asked is shown.
const WARRANT: HeaderName = HeaderName::from_static("ncps-warrant");

/// A client's upload, to be made again.
pub(crate) struct Passing<'a> {
    pub(crate) errand: Errand,
    pub(crate) writer: Writer,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Chunks,
    /// Bytes of the body at most.
    pub(crate) most: u64,
}

/// What the other edge said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// For people.
    pub(crate) text: String,
}

/// The way to edges whose disks are kept.
pub(crate) struct Relay {
    control: Arc<dyn ControlPlane>,
    current: Arc<Current>,
}

impl Relay {
    pub(crate) const fn new(control: Arc<dyn ControlPlane>, current: Arc<Current>) -> Relay {
        Relay { control, current }
    }

    /// Passes an upload on, and returns what the other edge said.
    ///
    /// # Errors
    /// [`Code::VerbOff`] where no edge keeps its disk; [`Code::Unauthenticated`] where the writer may not have it done;
    /// those of the client's body; [`Code::Unavailable`] where no edge took it.
    pub(crate) async fn pass_on(&self, passing: Passing<'_>) -> Result<Answer> {
        let Passing { errand, writer, headers, body, most } = passing;
        let edges = takers(self.control.warrant(errand.clone(), writer).await?)?;
        let body = OneBody::new(body, most);
        for edge in &edges {
            let answer = async {
                let request = self.request(edge, &errand).await?.headers(passed(headers));
                answer(request.body(reqwest::Body::wrap_stream(body.stream()))).await
            };
            let failure = match body.watched(answer).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if let Some(trouble) = body.trouble() {
                return Err(if matches!(trouble, UpstreamError::TooMuch) {
                    too_large(most)
                } else {
                    broken(trouble)
                });
            }
            tracing::warn!(edge = edge.url, error = failure.story(), "an upload can't be passed on");
            if body.is_begun() {
                return Err(failure);
            }
        }
        Err(Error::new(
            Code::Unavailable,
            format!("none of {} edges that keep uploads takes it", edges.len()),
        ))
    }

    /// Has something deleted wherever else it may rest, and says whether it was anywhere.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] where the writer may not have it done; [`Code::Unavailable`] where an edge can't be asked:
    /// it may be there yet.
    pub(crate) async fn delete(&self, errand: &Errand, writer: Writer) -> Result<bool> {
        let mut found = false;
        for edge in self.control.warrant(errand.clone(), writer).await?.edges {
            let request = self.request(&edge, errand).await?;
            let Answer { status, text } = answer(request.timeout(PATIENCE)).await?;
            match status {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => found = true,
                status => {
                    let said = format!("{} does not delete it: {status} {}", edge.url, text.trim());
                    return Err(Error::new(Code::Unavailable, said));
                }
            }
        }
        Ok(found)
    }

    /// An errand as a request: its path is what control was asked for, and not what the client wrote.
    async fn request(&self, edge: &Warranted, errand: &Errand) -> Result<RequestBuilder> {
        let (method, path) = match errand {
            Errand::KeepNar(name) => (Method::PUT, name.url()),
            Errand::KeepObject(name) => (Method::PUT, name.url_path()),
            Errand::DeleteObject(name) => (Method::DELETE, name.url_path()),
        };
        let live = self.current.get()?;
        let request = live.upstreams.peers().errand(method, &edge.url, &path).await;
        let unreachable = |e| Error::new(Code::Unavailable, "another edge can't be asked").because(e);
        Ok(request.map_err(unreachable)?.header(WARRANT, shown(&edge.warrant)?))
    }
}

/// The edges that may be asked, of which there is one at least.
fn takers(Warrants { edges, known }: Warrants) -> Result<Vec<Warranted>> {
    match (edges.is_empty(), known) {
        (false, _) => Ok(edges),
        (true, true) => Err(Error::new(Code::Unavailable, "no edge that keeps uploads can be reached")),
        (true, false) => Err(Error::new(
            Code::VerbOff,
            "no edge of this cache keeps its disk, so that no upload could last (--edge-durable)",
        )),
    }
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    PASSED.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn shown(warrant: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(warrant.reveal())
        .map_err(|e| Error::internal("a warrant is no header").because(e))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The warrant that a request shows, by which another edge passes it on: what can't be done here is not passed on again.
pub(crate) fn warrant(headers: &HeaderMap) -> Option<Secret> {
    headers.get(WARRANT).map(|value| Secret::new(String::from_utf8_lossy(value.as_bytes())))
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let failed = |e: reqwest::Error| Error::new(Code::Unavailable, "another edge broke").because(e);
    let response = request.send().await.map_err(failed)?;
    let (status, mut body) = (response.status(), response.bytes_stream());
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await {
        text.extend_from_slice(&chunk.map_err(failed)?);
        if text.len() >= MOST_ANSWERED {
            text.truncate(MOST_ANSWERED);
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    if status == StatusCode::UNAUTHORIZED {
        // The client may have it done: control said so. It has been started anew since, or the answer came too late.
        return Err(Error::new(Code::Unavailable, format!("another edge does not do it: {}", text.trim())));
    }
    Ok(Answer { status, text })
}

/// A body that comes but once, for the first edge that begins to take it.
struct OneBody(Arc<Mutex<Body>>);

struct Body {
    /// Gone when it was begun.
    chunks: Option<Chunks>,
    left: u64,
    /// When the other edge took a chunk last.
    taken: Instant,
    trouble: Option<UpstreamError>,
}

impl OneBody {
    fn new(chunks: Chunks, most: u64) -> OneBody {
        let body = Body { chunks: Some(chunks), left: most, taken: Instant::now(), trouble: None };
        OneBody(Arc::new(Mutex::new(body)))
    }

    /// Nothing is read of it before it is polled.
    fn stream(
        &self,
    ) -> impl futures::Stream<Item = std::result::Result<Bytes, std::io::Error>> + Send + 'static {
        let (all, each) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let begun =
            stream::once(async move { all.lock().chunks.take().unwrap_or_else(|| stream::empty().boxed()) });
        begun.flatten().map(move |chunk| each.lock().passed(chunk))
    }

    /// The client's part in a failure.
    fn trouble(&self) -> Option<UpstreamError> {
        self.0.lock().trouble.take()
    }

    fn is_begun(&self) -> bool {
        self.0.lock().chunks.is_none()
    }

    /// The answer, as long as it gets on.
    async fn watched(&self, answer: impl Future<Output = Result<Answer>>) -> Result<Answer> {
        tokio::pin!(answer);
        loop {
            let until = self.0.lock().taken + PATIENCE;
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep_until(until) => {
                    if self.0.lock().taken + PATIENCE <= Instant::now() {
                        return Err(Error::new(Code::Unavailable, "another edge does not get on with an upload"));
                    }
                }
            }
        }
    }
}

impl Body {
    fn passed(
        &mut self,
        chunk: std::result::Result<Bytes, UpstreamError>,
    ) -> std::result::Result<Bytes, std::io::Error> {
        self.taken = Instant::now();
        let chunk = chunk.and_then(|chunk| {
            self.left = self.left.checked_sub(chunk.len() as u64).ok_or(UpstreamError::TooMuch)?;
            Ok(chunk)
        });
        chunk.map_err(|trouble| {
            let told = std::io::Error::other(trouble.to_string());
            self.trouble = Some(trouble);
            told
        })
    }
}
