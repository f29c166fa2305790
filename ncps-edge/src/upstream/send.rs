//! One request to an upstream, up to the head of its answer: in time, counted, part of the trace. Redirects are
//! followed here, each checked and with the login of its own host.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ncps_proto::trace;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use url::Url;

use super::{Upstream, UpstreamError};
use crate::via::Via;

/// As many as Nix follows.
const MAX_REDIRECTS: usize = 10;
/// The pause where an upstream says "too many requests" and not for how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// A request.
pub(super) struct Ask {
    method: Method,
    url: Url,
    headers: HeaderMap,
    via: Via,
}

impl Ask {
    pub(super) fn new(method: Method, url: Url, via: &Via) -> Ask {
        Ask { method, url, headers: HeaderMap::new(), via: via.clone() }
    }

    /// From this byte to the end; 0 is the whole.
    pub(super) fn from(mut self, byte: u64) -> Ask {
        if byte > 0 {
            let range = format!("bytes={byte}-");
            self.headers.insert(header::RANGE, range.try_into().expect("digits are a header value"));
        }
        self
    }

    /// It may come as `Content-Encoding: zstd`.
    pub(super) fn accepting_zstd(mut self) -> Ask {
        self.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("zstd"));
        self
    }
}

impl Upstream {
    /// Sends a request and waits for the head of the answer, of whatever status but a redirect or a plea for a
    /// pause.
    pub(super) async fn send(&self, ask: Ask) -> Result<reqwest::Response, UpstreamError> {
        let (span, started) = (self.span(), Instant::now());
        self.quiet.ends();
        let sent = tokio::time::timeout(self.common.head_timeout, self.follow(ask, &span));
        let answer = sent.instrument(span.clone()).await;
        self.metrics.answered(started.elapsed());
        let answer = answer.map_err(|_| UpstreamError::Timeout).and_then(|sent| sent);
        note(&span, &answer);
        if let Some(peer) = answer.as_ref().ok().and_then(|response| Via::nearest(response.headers())) {
            *self.peer.lock() = Some(peer);
        }
        match answer.as_ref().ok().and_then(busy) {
            Some(pause) => Err(UpstreamError::Busy(pause)),
            None => answer,
        }
    }

    async fn follow(&self, mut ask: Ask, span: &Span) -> Result<reqwest::Response, UpstreamError> {
        if let Ok(value) = ask.via.onward(&self.common.own_id).try_into() {
            ask.headers.insert(header::VIA, value);
        }
        ask.headers.extend(tracing_headers(span));
        for _ in 0..=MAX_REDIRECTS {
            let response = self.hop(&ask).await?;
            match redirect(&response, &ask.url)? {
                Some(next) => ask.url = next,
                None => return Ok(response),
            }
        }
        Err(UpstreamError::Redirects)
    }

    async fn hop(&self, ask: &Ask) -> Result<reqwest::Response, UpstreamError> {
        self.rules.permit(&ask.url).await?;
        let is_own = ask.url.origin() == self.base.origin();
        let client = if is_own { &self.client } else { &self.stranger };
        let request = client.request(ask.method.clone(), ask.url.clone()).headers(ask.headers.clone());
        let request = match self.logins.of(&ask.url) {
            Some(login) => request.basic_auth(&login.user, Some(login.password.reveal())),
            None => request,
        };
        Ok(request.send().await?)
    }

    fn span(&self) -> Span {
        info_span!(target: trace::TARGET, "ask upstream", otel.kind = "client", upstream = self.name,
            http.response.status_code = Empty, otel.status_code = Empty)
    }
}

/// Where a redirect leads, http and https alike. What names no place is an answer like any other.
fn redirect(response: &reqwest::Response, from: &Url) -> Result<Option<Url>, UpstreamError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else { return Ok(None) };
    let location = String::from_utf8_lossy(location.as_bytes());
    super::resolve(from, &location).map(Some)
}

/// For how long an upstream wants to be left alone (RFC 6585, 4; RFC 9110, 10.2.3).
fn busy(response: &reqwest::Response) -> Option<Duration> {
    let after = response.headers().get(header::RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?));
    match response.status().as_u16() {
        429 => Some(after.unwrap_or(DEFAULT_PAUSE)),
        503 => after,
        _ => None,
    }
}

/// Seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text.trim()).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The trace for the upstream to go on with. Nothing without traces.
pub(super) fn tracing_headers(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::new();
    trace::inject(span, |name, value| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    });
    headers
}

fn note(span: &Span, answer: &Result<reqwest::Response, UpstreamError>) {
    match answer {
        Ok(response) => drop(span.record("http.response.status_code", response.status().as_u16())),
        Err(_) => trace::failed(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "long ago");
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(pause(&soon).is_some_and(|pause| (90..=100).contains(&pause.as_secs())));
        assert_eq!(pause("soon"), None);
    }
}
