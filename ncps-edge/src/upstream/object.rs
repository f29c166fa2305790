//! An object beside narinfos and NARs from one upstream: its body as sent, and how it is encoded.

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, header};
use ncps_nix::ObjectName;

use super::nar::with_idle_deadline;
use super::narinfo::{RETRY_DELAY, TRIES};
use super::{Upstream, UpstreamError, Upstreams};

/// How a body is encoded (`Content-Encoding`, RFC 9110, 8.4). Caches store logs and listings encoded and send
/// them so whatever the client accepts: all of these are in the wild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Zstd,
    Gzip,
    Xz,
    Bzip2,
    Brotli,
    /// One that we can't decode, or several: the header's value.
    Other(String),
}

/// A body that an upstream gives.
pub struct ObjectBody {
    /// Ends in an error where the body was cut, as far as HTTP shows it, or stalled.
    pub stream: BoxStream<'static, Result<Bytes, UpstreamError>>,
    pub coding: Coding,
}

impl Upstreams {
    /// Asks one upstream, by its base URL, for an object. `None` where it says that it does not have it.
    pub async fn object(&self, base: &str, name: &ObjectName) -> Result<Option<ObjectBody>, UpstreamError> {
        let Some(upstream) = self.named(base) else { return Ok(None) };
        let mut tries = 1;
        loop {
            match self.guarded(upstream, self.object_once(upstream, name)).await {
                Err(UpstreamError::Transport(_)) if tries < TRIES => tries += 1,
                answer => return answer,
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn object_once(
        &self,
        upstream: &Upstream,
        name: &ObjectName,
    ) -> Result<Option<ObjectBody>, UpstreamError> {
        let url = upstream.resolve(&name.url_path())?;
        let answer = tokio::time::timeout(self.head_timeout, self.client.get(url).send());
        let response = answer.await.map_err(|_| UpstreamError::Timeout)??;
        match response.status().as_u16() {
            200 => {}
            404 | 410 | 403 => return Ok(None),
            status => return Err(UpstreamError::Status(status)),
        }
        let coding = Coding::of(response.headers());
        Ok(Some(ObjectBody { stream: with_idle_deadline(response, self.idle_timeout), coding }))
    }
}

impl Coding {
    fn of(headers: &HeaderMap) -> Coding {
        let values = headers.get_all(header::CONTENT_ENCODING).iter();
        let all: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Coding::parse(&all.join(", "))
    }

    fn parse(value: &str) -> Coding {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Coding::Identity,
            "zstd" => Coding::Zstd,
            "gzip" | "x-gzip" => Coding::Gzip,
            "xz" => Coding::Xz,
            "bzip2" => Coding::Bzip2,
            "br" => Coding::Brotli,
            other => Coding::Other(other.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_told_apart() {
        for (value, coding) in [
            ("", Coding::Identity),
            ("Identity", Coding::Identity),
            ("zstd", Coding::Zstd),
            (" BR ", Coding::Brotli),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Other("deflate".to_owned())),
            ("gzip, br", Coding::Other("gzip, br".to_owned())),
        ] {
            assert_eq!(Coding::parse(value), coding, "{value}");
        }
    }

    #[test]
    fn several_fields_are_several_codings() {
        let mut headers = HeaderMap::new();
        assert_eq!(Coding::of(&headers), Coding::Identity);
        headers.append(header::CONTENT_ENCODING, "gzip".parse().expect("a value"));
        headers.append(header::CONTENT_ENCODING, "zstd".parse().expect("a value"));
        assert_eq!(Coding::of(&headers), Coding::Other("gzip, zstd".to_owned()));
    }
}
