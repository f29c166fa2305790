//! Other edges of the fleet as sources of NARs, and of objects that clients brought. They are asked at the URL that control
//! named, with the fleet's secret, by way of no proxy and no redirect: the secret is for them alone. What clients have done
//! elsewhere goes to them the same way, without it.
//!
//! What NARs they send is proven like what upstreams send. Absent: who is asked, and in which order (control says it).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use http::{HeaderValue, Method, header};
use ncps_nix::{Compression, NarFileName, ObjectName};
use ncps_proto::{EdgeSettings, Error, trace};
use parking_lot::Mutex;
use reqwest::{RequestBuilder, Response};
use tokio::time::Instant;
use tracing::{Instrument, info_span};
use url::Url;

use super::nar::{Body, Opening, continues_at, header_number};
use super::object::{Coding, ObjectBody};
use super::outward::Rules;
use super::send::tracing_headers;
use super::{Surroundings, UpstreamError, base, body, client};
use crate::http::peer::{FLEET, ONLY_STORED, PATIENCE};
use crate::metrics::EdgeMetrics;
use crate::via::Via;

/// How long a transfer of a peer may be without a byte before it is left to itself.
const MOST_WAITING: Duration = Duration::from_secs(60);
/// Before a peer is asked again that has no byte yet. It has kept us waiting itself.
const AGAIN: Duration = Duration::from_millis(20);
/// A peer that did not answer in time is not asked for what it stores for this long.
const AWAY: Duration = Duration::from_secs(10);
/// Peers that are remembered. Control names those that are attached.
const MOST: usize = 1000;

/// What of a peer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lends {
    /// What lies in its store.
    Stored,
    /// What is on its way there, too.
    Running,
}

/// The edges of the fleet, as far as they were named.
pub(crate) struct Peers {
    settings: EdgeSettings,
    known: Mutex<HashMap<String, Arc<Peer>>>,
    rules: Arc<Rules>,
    /// One for all of them, since it takes a while to make: no client is to wait for that.
    client: Mutex<Option<reqwest::Client>>,
    authorities: Option<Arc<str>>,
    metrics: Arc<EdgeMetrics>,
}

struct Peer {
    base: Url,
    away_until: Mutex<Option<Instant>>,
}

/// A file that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) name: NarFileName,
    pub(crate) lends: Lends,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    /// The way of the request for which it is.
    pub(crate) via: &'a Via,
}

impl Peers {
    /// # Errors
    /// Where a TLS client can't be made.
    pub(super) fn new(settings: &EdgeSettings, around: &Surroundings) -> Result<Peers, Error> {
        let peers = Peers {
            settings: settings.clone(),
            known: Mutex::default(),
            rules: Rules::of_peers(),
            client: Mutex::default(),
            authorities: around.authorities.clone(),
            metrics: Arc::clone(&around.metrics),
        };
        if around.has_peers {
            peers.client()?;
        }
        Ok(peers)
    }

    /// Opens a file at the peer of this URL.
    pub(crate) async fn open(&self, url: &str, wish: Wish<'_>) -> Opening {
        let span = info_span!(target: trace::TARGET, "ask peer", otel.kind = "client", peer = url);
        let answer = self.ask(url, wish, tracing_headers(&span)).instrument(span).await;
        self.metrics.peer_requests.request(&answer);
        match answer.and_then(|response| response.map(|r| self.body(r, wish)).transpose()) {
            Ok(Some(body)) => Opening::Body(body),
            Ok(None) => Opening::Absent,
            Err(error) => Opening::Failed(error),
        }
    }

    /// An object that a client brought to the peer of this URL; `None` where it has none of this name.
    pub(crate) async fn object(
        &self,
        url: &str,
        name: &ObjectName,
    ) -> Result<Option<ObjectBody>, UpstreamError> {
        let peer = self.peer(url)?;
        if peer.is_away() {
            return Err(UpstreamError::Paused);
        }
        let response = self.send(&peer, self.request(&peer.base, &name.url_path())?).await?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(UpstreamError::Status(status)),
        }
        let metrics = Arc::clone(&self.metrics);
        let stream = body::bytes(response, self.settings.idle_timeout);
        let stream = stream.inspect_ok(move |chunk| metrics.peer_fetched.add((), chunk.len() as u64));
        Ok(Some(ObjectBody { stream: stream.boxed(), coding: Coding::Identity }))
    }

    /// A request to the peer of this URL that is no reading: it shows nothing that edges know one another by.
    pub(crate) async fn errand(
        &self,
        method: Method,
        url: &str,
        path: &str,
    ) -> Result<RequestBuilder, UpstreamError> {
        let peer = self.peer(url)?;
        self.rules.permit(&peer.base).await?;
        let client = self.client().map_err(|error| UpstreamError::Transport(error.story()))?;
        Ok(client.request(method, super::resolve(&peer.base, path)?))
    }

    /// The head of a good answer; none where it does not have it.
    async fn ask(
        &self,
        url: &str,
        wish: Wish<'_>,
        trace: http::HeaderMap,
    ) -> Result<Option<Response>, UpstreamError> {
        let peer = self.peer(url)?;
        if wish.lends == Lends::Stored && peer.is_away() {
            return Err(UpstreamError::Paused);
        }
        let until = Instant::now() + MOST_WAITING;
        loop {
            let request = self.wish(&peer.base, wish)?.headers(trace.clone());
            let response = self.send(&peer, request).await?;
            match response.status().as_u16() {
                200 | 206 => return Ok(Some(response)),
                404 => return Ok(None),
                202 if Instant::now() >= until => return Err(UpstreamError::Timeout),
                202 => tokio::time::sleep(AGAIN).await,
                status => return Err(UpstreamError::Status(status)),
            }
        }
    }

    fn head_timeout(&self) -> Duration {
        self.settings.connect_timeout + self.settings.header_timeout + PATIENCE
    }

    fn body(&self, response: Response, wish: Wish<'_>) -> Result<Body, UpstreamError> {
        let (offset, total) = match response.status().as_u16() {
            206 => (wish.from, continues_at(response.headers(), wish.from)?),
            _ => (0, header_number(response.headers(), header::CONTENT_LENGTH)),
        };
        let metrics = Arc::clone(&self.metrics);
        let stream = body::bytes(response, self.idle_timeout(wish.lends));
        let stream = stream.inspect_ok(move |chunk| metrics.peer_fetched.add((), chunk.len() as u64));
        Ok(Body { stream: stream.boxed(), offset, total, coding: Compression::None })
    }

    /// Where a transfer stalls, its edge notices first and goes on elsewhere, and we with it.
    fn idle_timeout(&self, lends: Lends) -> Duration {
        match lends {
            Lends::Stored => self.settings.idle_timeout,
            Lends::Running => self.settings.idle_timeout + self.head_timeout(),
        }
    }

    fn peer(&self, url: &str) -> Result<Arc<Peer>, UpstreamError> {
        let mut known = self.known.lock();
        if let Some(peer) = known.get(url) {
            return Ok(Arc::clone(peer));
        }
        let base = base(url).map_err(|error| UpstreamError::Transport(error.story()))?;
        let peer = Arc::new(Peer { base, away_until: Mutex::default() });
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(url.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }

    fn client(&self) -> Result<reqwest::Client, Error> {
        let mut made = self.client.lock();
        if let Some(client) = &*made {
            return Ok(client.clone());
        }
        let client = client::for_peers(&self.settings, self.authorities.as_deref(), &self.rules)?;
        Ok(made.insert(client).clone())
    }

    /// For a path below the URL of a peer, with the fleet's secret.
    fn request(&self, base: &Url, path: &str) -> Result<RequestBuilder, UpstreamError> {
        let secret = self.settings.fleet_secret.as_ref().ok_or(UpstreamError::Stranger)?;
        let url = super::resolve(base, path)?;
        let unusable = |_| UpstreamError::BadUrl(url.to_string());
        let mut shown = HeaderValue::from_str(secret.reveal()).map_err(unusable)?;
        shown.set_sensitive(true);
        let client = self.client().map_err(|error| UpstreamError::Transport(error.story()))?;
        Ok(client.get(url.clone()).header(FLEET, shown))
    }

    fn wish(&self, base: &Url, wish: Wish<'_>) -> Result<RequestBuilder, UpstreamError> {
        let mut request = self.request(base, &wish.name.url())?;
        if wish.lends == Lends::Stored {
            request = request.header(header::CACHE_CONTROL, ONLY_STORED);
        }
        if wish.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", wish.from));
        }
        if let Some(way) = wish.via.so_far() {
            request = request.header(header::VIA, way);
        }
        Ok(request)
    }

    async fn send(&self, peer: &Peer, request: RequestBuilder) -> Result<Response, UpstreamError> {
        self.rules.permit(&peer.base).await?;
        let sent = tokio::time::timeout(self.head_timeout(), request.send()).await;
        let response = sent.map_err(|_| UpstreamError::Timeout).and_then(|sent| Ok(sent?));
        let away = matches!(response, Err(UpstreamError::Timeout)).then(|| Instant::now() + AWAY);
        *peer.away_until.lock() = away;
        response
    }
}

impl Peer {
    fn is_away(&self) -> bool {
        self.away_until.lock().is_some_and(|until| Instant::now() < until)
    }
}
