//! One narinfo from one upstream: requested, bounded, parsed strictly, and believed only where it names the
//! path that was asked for and a trusted key or its own CA proves it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use http::header;
use ncps_nix::{MAX_NARINFO_BYTES, NarInfo, StorePathHash};

use super::{Upstream, UpstreamError, Upstreams};
use crate::metrics::{Asked, Reason};

/// A connection that broke is tried once more: idle connections are closed under a client's feet.
pub(super) const TRIES: u32 = 2;
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(100);

impl Upstreams {
    /// `None` where the upstream says that it does not have the path.
    pub(super) async fn narinfo(
        &self,
        upstream: &Upstream,
        hash: StorePathHash,
    ) -> Result<Option<NarInfo>, UpstreamError> {
        let mut tries = 1;
        loop {
            // The time in the queue is not the upstream's.
            let turn = self.narinfo_turns.acquire().await;
            let started = Instant::now();
            let answer = self.guarded(upstream, self.narinfo_once(upstream, hash)).await;
            self.count(upstream, &answer, started);
            drop(turn);
            match answer {
                Err(UpstreamError::Transport(_)) if tries < TRIES => tries += 1,
                answer => return answer,
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn narinfo_once(
        &self,
        upstream: &Upstream,
        hash: StorePathHash,
    ) -> Result<Option<NarInfo>, UpstreamError> {
        let url = upstream.resolve(&format!("{hash}.narinfo"))?;
        let response = self.send(upstream, self.client.get(url)).await?;
        match response.status().as_u16() {
            200 => {}
            // 403 is how a bare S3 bucket says that an object is not there.
            404 | 410 | 403 => return Ok(None),
            status => return Err(UpstreamError::Status(status)),
        }
        refuse_encoding(response.headers())?;
        let body = tokio::time::timeout(self.idle_timeout, bounded(response));
        let body = body.await.map_err(|_| UpstreamError::Stalled)??;
        upstream.metrics.fetched(body.len() as u64);
        self.believe(NarInfo::parse(&body)?, hash).map(Some)
    }

    fn count(&self, upstream: &Upstream, answer: &Result<Option<NarInfo>, UpstreamError>, started: Instant) {
        upstream.metrics.request(Asked::Narinfo, answer);
        match answer {
            Ok(_) => upstream.metrics.narinfo(started.elapsed()),
            Err(UpstreamError::Untrusted) => self.metrics.integrity.inc(Reason::Untrusted),
            Err(UpstreamError::OtherPath(_)) => self.metrics.integrity.inc(Reason::OtherPath),
            Err(UpstreamError::Malformed(_) | UpstreamError::TooLong) => {
                self.metrics.integrity.inc(Reason::Malformed);
            }
            Err(_) => {}
        }
    }

    fn believe(&self, narinfo: NarInfo, hash: StorePathHash) -> Result<NarInfo, UpstreamError> {
        if narinfo.store_path.hash() != hash {
            return Err(UpstreamError::OtherPath(narinfo.store_path.to_string()));
        }
        if self.trusted.verify(&narinfo).is_none() && !narinfo.proves_itself() {
            return Err(UpstreamError::Untrusted);
        }
        Ok(narinfo)
    }

    /// Makes a request where the upstream's health admits it, and tells the health how it went.
    pub(super) async fn guarded<T>(
        &self,
        upstream: &Upstream,
        request: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        if !upstream.health.admits() {
            return Err(UpstreamError::Paused);
        }
        let answer = request.await;
        match &answer {
            Err(error) if error.is_outage() => {
                if upstream.health.outage() {
                    tracing::warn!(upstream = upstream.name, %error, "an upstream seems to be down");
                }
            }
            _ => upstream.health.answered(),
        }
        answer
    }
}

pub(super) fn refuse_encoding(headers: &http::HeaderMap) -> Result<(), UpstreamError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(value) if value != "identity" => Err(UpstreamError::Encoded),
        _ => Ok(()),
    }
}

/// The whole body, if it is no longer than a narinfo may be.
async fn bounded(response: reqwest::Response) -> Result<Vec<u8>, UpstreamError> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk?);
        if body.len() > MAX_NARINFO_BYTES {
            return Err(UpstreamError::TooLong);
        }
    }
    Ok(body)
}
