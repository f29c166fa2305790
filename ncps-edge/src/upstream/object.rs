//! An object beside narinfos and NARs from one upstream: its body as sent, and how it is encoded.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, Method, header};
use ncps_nix::ObjectName;

use super::send::Ask;
use super::{Upstream, UpstreamError, Upstreams, body};
use crate::metrics::Asked;
use crate::via::Via;

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
    pub async fn object(
        &self,
        base: &str,
        name: &ObjectName,
        via: &Via,
    ) -> Result<Option<ObjectBody>, UpstreamError> {
        let Some(upstream) = self.named(base) else { return Ok(None) };
        let asked = || async {
            let answer = upstream.guarded(upstream.object_once(name, via)).await;
            upstream.metrics.request(Asked::Object, &answer);
            answer
        };
        upstream.retried(asked).await
    }
}

impl Upstream {
    async fn object_once(&self, name: &ObjectName, via: &Via) -> Result<Option<ObjectBody>, UpstreamError> {
        let url = self.resolve(&name.url_path())?;
        let response = self.send(Ask::new(Method::GET, url, via)).await?;
        match response.status().as_u16() {
            200 => {}
            404 | 410 | 403 => return Ok(None),
            status => return Err(UpstreamError::Status(status)),
        }
        let coding = Coding::of(response.headers());
        let metrics = Arc::clone(&self.metrics);
        let stream = body::bytes(response, self.common.idle_timeout);
        let stream = stream.inspect_ok(move |chunk| metrics.fetched(chunk.len() as u64)).boxed();
        Ok(Some(ObjectBody { stream, coding }))
    }
}

impl Coding {
    pub(crate) fn of(headers: &HeaderMap) -> Coding {
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
