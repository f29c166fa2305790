//! One narinfo from one upstream: requested, bounded, decoded, parsed strictly, and believed only where it names
//! the path that was asked for and a trusted key or its own CA proves it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use http::Method;
use ncps_nix::{MAX_NARINFO_BYTES, NarInfo, StorePathHash};
use tokio::io::AsyncReadExt;

use super::object::Coding;
use super::send::Ask;
use super::{Upstream, UpstreamError, body};
use crate::metrics::{Asked, Reason};
use crate::objects::decode::{decoded, trouble};
use crate::via::Via;

/// How long, and how much, is listened to what an upstream says beside a status.
const LAST_WORDS: Duration = Duration::from_millis(200);
const LAST_WORDS_BYTES: usize = 64 * 1024;

impl Upstream {
    /// `None` where the upstream says that it does not have the path.
    pub(super) async fn narinfo(
        self: &Arc<Self>,
        hash: StorePathHash,
        via: &Via,
    ) -> Result<Option<NarInfo>, UpstreamError> {
        self.retried(|| self.narinfo_in_turn(hash, via)).await
    }

    /// Whether a question would not have to wait for its turn.
    pub(super) fn is_free(&self) -> bool {
        self.narinfo_turns.available_permits() > 0
    }

    async fn narinfo_in_turn(
        self: &Arc<Self>,
        hash: StorePathHash,
        via: &Via,
    ) -> Result<Option<NarInfo>, UpstreamError> {
        // The time in the queue is not the upstream's.
        let _turn = self.narinfo_turns.acquire().await;
        self.guarded(self.narinfo_timed(hash, via)).await
    }

    async fn narinfo_timed(&self, hash: StorePathHash, via: &Via) -> Result<Option<NarInfo>, UpstreamError> {
        let started = Instant::now();
        let answer = self.narinfo_once(hash, via).await;
        self.pace.took(started.elapsed());
        self.count(&answer, started);
        answer
    }

    async fn narinfo_once(&self, hash: StorePathHash, via: &Via) -> Result<Option<NarInfo>, UpstreamError> {
        let url = self.resolve(&format!("{hash}.narinfo"))?;
        let response = self.send(Ask::new(Method::GET, url, via)).await?;
        match response.status().as_u16() {
            200 => {}
            // 403 is how a bare S3 bucket says that an object is not there.
            404 | 410 | 403 => {
                self.hear_last_words(response).await;
                return Ok(None);
            }
            status => return Err(UpstreamError::Status(status)),
        }
        let text = tokio::time::timeout(self.common.idle_timeout, self.text(response));
        let text = text.await.map_err(|_| UpstreamError::Stalled)??;
        self.metrics.fetched(text.len() as u64);
        self.believe(NarInfo::parse(&text)?, hash).map(Some)
    }

    /// Reads what an absence is explained with, if it is short and comes soon: a connection that is left before the end
    /// of an answer is closed, and the turn would be another's while the upstream is still at work for us.
    async fn hear_last_words(&self, response: reqwest::Response) {
        let mut words = body::bytes(response, LAST_WORDS);
        let (mut heard, deadline) = (0, tokio::time::Instant::now() + LAST_WORDS);
        while let Ok(Some(Ok(chunk))) = tokio::time::timeout_at(deadline, words.next()).await {
            heard += chunk.len();
            if heard > LAST_WORDS_BYTES {
                return;
            }
        }
    }

    /// The whole text, if it is no longer than a narinfo may be. Caches that are buckets replay the encoding that
    /// a narinfo was uploaded with, asked for or not (`narinfo-compression`, Nix 2.32).
    async fn text(&self, response: reqwest::Response) -> Result<Vec<u8>, UpstreamError> {
        let coding = Coding::of(response.headers());
        if let Coding::Other(_) = coding {
            return Err(UpstreamError::Encoded);
        }
        let mut text = Vec::new();
        let reader = decoded(body::bytes(response, self.common.idle_timeout), &coding);
        let mut reader = reader.take(MAX_NARINFO_BYTES as u64 + 1);
        reader.read_to_end(&mut text).await.map_err(|e| trouble(&e))?;
        if text.len() > MAX_NARINFO_BYTES { Err(UpstreamError::TooLong) } else { Ok(text) }
    }

    fn count(&self, answer: &Result<Option<NarInfo>, UpstreamError>, started: Instant) {
        self.metrics.request(Asked::Narinfo, answer);
        let reason = match answer {
            Ok(_) => return self.metrics.narinfo(started.elapsed()),
            Err(UpstreamError::Untrusted) => Reason::Untrusted,
            Err(UpstreamError::OtherPath(_)) => Reason::OtherPath,
            Err(UpstreamError::Malformed(_) | UpstreamError::TooLong) => Reason::Malformed,
            Err(_) => return,
        };
        self.common.around.metrics.integrity.inc(reason);
    }

    fn believe(&self, narinfo: NarInfo, hash: StorePathHash) -> Result<NarInfo, UpstreamError> {
        if narinfo.store_path.hash() != hash {
            return Err(UpstreamError::OtherPath(narinfo.store_path.to_string()));
        }
        if self.common.trusted.verify(&narinfo).is_some() {
            self.trust.fits();
        } else if !narinfo.proves_itself() && !self.unsigned {
            self.say_untrusted(&narinfo);
            return Err(UpstreamError::Untrusted);
        }
        Ok(narinfo)
    }

    fn say_untrusted(&self, narinfo: &NarInfo) {
        let Some(count) = self.trust.misses() else { return };
        let keys: Vec<_> = narinfo.signatures.iter().map(|s| s.key_name.as_str()).collect();
        tracing::error!(upstream = self.name, count, example = %narinfo.store_path, signed_by = keys.join(" "),
            "nothing of this upstream is signed by a trusted key, so nothing of it is used: add its key with \
             --upstream-public-key, or name it in --allow-unsigned-upstream");
    }
}
