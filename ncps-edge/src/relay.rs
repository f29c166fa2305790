//! Uploads that can't rest here: they go on to an edge whose disk is kept, as they come, and its answer is the client's.
//!
//! Control names these edges, in the order to ask. Another one is tried only while the body was not begun: it comes but
//! once. The client's credentials go along, and are judged there again. Absent on purpose: what becomes of a body, which
//! is the other edge's, and a copy of it here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use ncps_proto::{Code, ControlPlane, DurableEdges, Error, Result};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::transfer::{broken, too_large};
use crate::upstream::UpstreamError;
use crate::upstream::body::Chunks;

/// Without a byte more that the other edge takes, or its answer, it counts as broken. It may wait for its turn, for room
/// and for the proof.
const PATIENCE: Duration = Duration::from_secs(120);
const IDLE_CONNECTION: Duration = Duration::from_secs(90);
/// Of an answer: it is a line of text.
const MOST_ANSWERED: usize = 4096;
/// What goes along of the client's request.
const PASSED: [HeaderName; 4] =
    [header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH];

/// A client's request, to be made again.
pub(crate) struct Passing<'a> {
    pub(crate) method: Method,
    /// Path and query, as the client wrote them.
    pub(crate) target: &'a str,
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
    instance: String,
    client: reqwest::Client,
}

impl Relay {
    /// # Errors
    /// Where no HTTP client can be made.
    pub(crate) fn new(control: Arc<dyn ControlPlane>, instance: String) -> Result<Relay> {
        // Installed once a process; a second caller finds it there.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .user_agent(concat!("ncps/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .no_proxy()
            .pool_idle_timeout(IDLE_CONNECTION)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let client =
            client.map_err(|e| Error::internal("the client for other edges can't be made").because(e))?;
        Ok(Relay { control, instance, client })
    }

    /// The edges that may be asked, of which there is one at least.
    ///
    /// # Errors
    /// [`Code::VerbOff`] where no edge keeps its disk, [`Code::Unavailable`] where none can be reached now.
    pub(crate) async fn durable_edges(&self) -> Result<Vec<String>> {
        let DurableEdges { urls, known } = self.control.durable_edges(&self.instance).await?;
        match (urls.is_empty(), known) {
            (false, _) => Ok(urls),
            (true, true) => Err(Error::new(Code::Unavailable, "no edge that keeps uploads can be reached")),
            (true, false) => Err(Error::new(
                Code::VerbOff,
                "no edge of this cache keeps its disk, so that no upload could last (--edge-durable)",
            )),
        }
    }

    /// Passes an upload on, and returns what the other edge said.
    ///
    /// # Errors
    /// Those of [`Relay::durable_edges`]; of the client's body; [`Code::Unavailable`] where no edge took it.
    pub(crate) async fn pass_on(&self, passing: Passing<'_>) -> Result<Answer> {
        let urls = self.durable_edges().await?;
        let body = OneBody::new(passing.body, passing.most);
        for url in &urls {
            let request = self.request(&passing.method, url, passing.target, passing.headers);
            let request = request.body(reqwest::Body::wrap_stream(body.stream()));
            let failure = match body.watched(answer(request)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if let Some(trouble) = body.trouble() {
                return Err(if matches!(trouble, UpstreamError::TooMuch) {
                    too_large(passing.most)
                } else {
                    broken(trouble)
                });
            }
            tracing::warn!(edge = url, error = failure.story(), "an upload can't be passed on");
            if body.is_begun() {
                return Err(failure);
            }
        }
        Err(Error::new(Code::Unavailable, format!("none of {} edges that keep uploads takes it", urls.len())))
    }

    /// Has something deleted wherever it may rest, and says whether it was anywhere.
    ///
    /// # Errors
    /// [`Code::Unavailable`] where an edge can't be asked: it may be there yet.
    pub(crate) async fn delete(&self, target: &str, headers: &HeaderMap) -> Result<bool> {
        let mut found = false;
        for url in self.control.durable_edges(&self.instance).await?.urls {
            let request = self.request(&Method::DELETE, &url, target, headers);
            let Answer { status, text } = answer(request.timeout(PATIENCE)).await?;
            match status {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => found = true,
                status => {
                    let said = format!("{url} does not delete it: {status} {}", text.trim());
                    return Err(Error::new(Code::Unavailable, said));
                }
            }
        }
        Ok(found)
    }

    fn request(
        &self,
        method: &Method,
        url: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> reqwest::RequestBuilder {
        let passed = PASSED.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
        let request = self.client.request(method.clone(), format!("{url}{target}"));
        let mark = (PASSED_ON, HeaderValue::from_static("1"));
        request.headers(passed.chain([mark]).collect())
    }
}

/// Says that another edge asks: what the one that is asked can't keep itself it does not pass on again. Whoever else says
/// so gains nothing.
const PASSED_ON: HeaderName = HeaderName::from_static("ncps-passed-on");

/// Whether another edge passed a request on.
pub(crate) fn is_passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(PASSED_ON)
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
    Ok(Answer { status, text: String::from_utf8_lossy(&text).into_owned() })
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
