//! The bytes of a NAR file from one origin: opened at an offset, streamed with an idle deadline.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, Method, header};
use ncps_nix::Compression;
use ncps_proto::Origin;

use super::body::Chunks;
use super::object::Coding;
use super::send::Ask;
use super::{Upstream, UpstreamError, Upstreams, body};
use crate::metrics::{Asked, UpstreamMetrics};
use crate::via::Via;

/// A body that an origin gives.
pub struct Body {
    /// Ends in an error where the body was cut, as far as HTTP shows it, or stalled.
    pub stream: Chunks,
    /// The first byte's place in the file: what was asked for, or 0 from an origin without ranges.
    pub offset: u64,
    /// The length of the whole file in bytes, where the origin says it.
    pub total: Option<u64>,
    /// What the stream must be decoded by to be the file: zstd where the origin chose to send it so.
    pub coding: Compression,
}

impl Body {
    /// All of a file, of unknown length.
    pub fn whole(stream: Chunks) -> Body {
        Body { stream, offset: 0, total: None, coding: Compression::None }
    }
}

/// How opening an origin went.
pub enum Opening {
    Body(Body),
    Absent,
    Failed(UpstreamError),
}

/// What an origin says of a file without sending it.
#[derive(Debug, PartialEq, Eq)]
pub enum Heading {
    /// It is there, of this length where the origin says it.
    Present(Option<u64>),
    Absent,
    Failed(UpstreamError),
}

impl Upstreams {
    /// Opens an origin's file at byte `from`.
    pub async fn open(&self, origin: &Origin, from: u64, via: &Via) -> Opening {
        let started = Instant::now();
        match self.request(Method::GET, origin, from, via).await {
            Ok(Some((upstream, response))) => match upstream.nar_body(response, origin, from, started) {
                Ok(body) => Opening::Body(body),
                Err(error) => Opening::Failed(error),
            },
            Ok(None) => Opening::Absent,
            Err(error) => Opening::Failed(error),
        }
    }

    /// Asks for an origin's file without its bytes.
    pub async fn head(&self, origin: &Origin, via: &Via) -> Heading {
        match self.request(Method::HEAD, origin, 0, via).await {
            Ok(Some((_, response))) => {
                Heading::Present(header_number(response.headers(), header::CONTENT_LENGTH))
            }
            Ok(None) => Heading::Absent,
            Err(error) => Heading::Failed(error),
        }
    }

    async fn request(
        &self,
        method: Method,
        origin: &Origin,
        from: u64,
        via: &Via,
    ) -> Result<Option<(&Arc<Upstream>, reqwest::Response)>, UpstreamError> {
        // An upstream that is no longer configured is not asked, whatever the index remembers of it.
        let Some(upstream) = self.named(&origin.upstream) else { return Ok(None) };
        let asked = if method == Method::GET { Asked::Nar } else { Asked::Head };
        let url = upstream.resolve(&origin.url)?;
        let mut ask = Ask::new(method, url, via).from(from);
        // Only what the narinfo calls uncompressed can come so (Harmonia); where it goes on must be found again.
        if asked == Asked::Nar && from == 0 && origin.compression == Compression::None {
            ask = ask.accepting_zstd();
        }
        let response = upstream.guarded(upstream.nar_head(ask)).await;
        let answer = response.and_then(|response| match response.status().as_u16() {
            200 | 206 => Ok(Some((upstream, response))),
            404 | 410 | 403 => Ok(None),
            status => Err(UpstreamError::Status(status)),
        });
        upstream.metrics.request(asked, &answer);
        answer
    }
}

impl Upstream {
    async fn nar_head(&self, ask: Ask) -> Result<reqwest::Response, UpstreamError> {
        let response = self.send(ask).await?;
        match response.status().as_u16() {
            status @ 500.. => Err(UpstreamError::Status(status)),
            _ => Ok(response),
        }
    }

    fn nar_body(
        &self,
        response: reqwest::Response,
        origin: &Origin,
        from: u64,
        started: Instant,
    ) -> Result<Body, UpstreamError> {
        let coding = coding(response.headers(), origin.compression)?;
        let (offset, total) = match response.status().as_u16() {
            // Some say 200 to what is a part all the same (Harmonia before August 2026).
            200 if from == 0 || !response.headers().contains_key(header::CONTENT_RANGE) => {
                whole(coding, response.headers())
            }
            _ => {
                if coding != Compression::None {
                    return Err(UpstreamError::Encoded);
                }
                (from, continues_at(response.headers(), from)?)
            }
        };
        let fetching = Fetching { metrics: Arc::clone(&self.metrics), started };
        let stream = body::bytes(response, self.common.idle_timeout);
        let stream = stream.inspect_ok(move |chunk| fetching.metrics.fetched(chunk.len() as u64));
        Ok(Body { stream: stream.boxed(), offset, total, coding })
    }
}

/// The length is that of what is sent, which says nothing of a file that is wrapped.
fn whole(coding: Compression, headers: &HeaderMap) -> (u64, Option<u64>) {
    let length = header_number(headers, header::CONTENT_LENGTH);
    (0, length.filter(|_| coding == Compression::None))
}

/// How the bytes of a file are wrapped for the way: not at all, or by zstd where that was asked for.
fn coding(headers: &HeaderMap, compression: Compression) -> Result<Compression, UpstreamError> {
    match (Coding::of(headers), compression) {
        (Coding::Identity, _) => Ok(Compression::None),
        (Coding::Zstd, Compression::None) => Ok(Compression::Zstd),
        _ => Err(UpstreamError::Encoded),
    }
}

/// A body that comes, until it is dropped.
struct Fetching {
    metrics: Arc<UpstreamMetrics>,
    started: Instant,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.metrics.nar(self.started.elapsed());
    }
}

pub(super) fn header_number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Checks that a 206 goes on at `from` and to the end; returns the total where it is said (RFC 9110, 14.4).
pub(super) fn continues_at(headers: &HeaderMap, from: u64) -> Result<Option<u64>, UpstreamError> {
    let wrong = || UpstreamError::WrongRange(from);
    let value = headers.get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).ok_or_else(wrong)?;
    let (range, total) = value.strip_prefix("bytes ").and_then(|v| v.split_once('/')).ok_or_else(wrong)?;
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    if first.parse::<u64>() != Ok(from) {
        return Err(wrong());
    }
    if total == "*" {
        return Ok(None);
    }
    let (last, total) =
        (last.parse::<u64>().map_err(|_| wrong())?, total.parse::<u64>().map_err(|_| wrong())?);
    if last.checked_add(1) == Some(total) { Ok(Some(total)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_range(value: &str, from: u64) -> Result<Option<u64>, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, value.parse().expect("a header value"));
        continues_at(&headers, from)
    }

    #[test]
    fn content_range_is_checked() {
        assert_eq!(content_range("bytes 5-9/10", 5), Ok(Some(10)));
        assert_eq!(content_range("bytes 5-9/*", 5), Ok(None));
        for wrong in ["bytes 4-9/10", "bytes 5-8/10", "bytes 5-/10", "items 5-9/10", "bytes */10", ""] {
            assert_eq!(content_range(wrong, 5), Err(UpstreamError::WrongRange(5)), "{wrong}");
        }
        assert!(continues_at(&HeaderMap::new(), 5).is_err());
    }
}
