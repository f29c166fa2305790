//! The bodies of upstreams as readers of what they hold, decoded. Memory is bounded by window limits; the
//! length of what comes out is for the caller to bound.

use std::io;
use std::pin::Pin;

use async_compression::tokio::bufread::{BrotliDecoder, BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncBufRead, AsyncRead};
use tokio_util::io::StreamReader;

use crate::upstream::{Coding, UpstreamError};

/// Memory of one xz decoder. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// 2^27 bytes, what `zstd -d` accepts without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A body, decoded where that is possible.
pub(crate) type Decoded = Pin<Box<dyn AsyncRead + Send>>;

/// The decoded body. Of a coding that we don't know the bytes come as they are.
pub(crate) fn decoded(stream: BoxStream<'static, Result<Bytes, UpstreamError>>, coding: &Coding) -> Decoded {
    let source = StreamReader::new(stream.map(|chunk| chunk.map_err(io::Error::other)));
    // Concatenated members are one text, as the command line tools read them.
    macro_rules! members {
        ($decoder:expr) => {{
            let mut decoder = $decoder;
            decoder.multiple_members(true);
            Box::pin(decoder)
        }};
    }
    match coding {
        Coding::Identity | Coding::Other(_) => Box::pin(source),
        Coding::Brotli => Box::pin(BrotliDecoder::new(source)),
        Coding::Gzip => members!(GzipDecoder::new(source)),
        Coding::Bzip2 => members!(BzDecoder::new(source)),
        Coding::Xz => members!(XzDecoder::with_mem_limit(source, XZ_MEMORY)),
        Coding::Zstd => members!(zstd(source)),
    }
}

fn zstd<R: AsyncBufRead>(source: R) -> ZstdDecoder<R> {
    ZstdDecoder::with_params(source, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)])
}

/// What went wrong while a decoded body was read: the upstream's own trouble, or bytes that don't decode.
pub(crate) fn trouble(error: &io::Error) -> UpstreamError {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<UpstreamError>());
    own.cloned().unwrap_or_else(|| UpstreamError::Undecodable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::bufread as encoders;
    use tokio::io::AsyncReadExt;

    const ALL: [Coding; 6] =
        [Coding::Identity, Coding::Zstd, Coding::Gzip, Coding::Xz, Coding::Bzip2, Coding::Brotli];

    async fn encode(coding: &Coding, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut reader: Decoded = match coding {
            Coding::Identity | Coding::Other(_) => return text.to_vec(),
            Coding::Zstd => Box::pin(encoders::ZstdEncoder::new(io::Cursor::new(text.to_vec()))),
            Coding::Gzip => Box::pin(encoders::GzipEncoder::new(io::Cursor::new(text.to_vec()))),
            Coding::Xz => Box::pin(encoders::XzEncoder::new(io::Cursor::new(text.to_vec()))),
            Coding::Bzip2 => Box::pin(encoders::BzEncoder::new(io::Cursor::new(text.to_vec()))),
            Coding::Brotli => Box::pin(encoders::BrotliEncoder::new(io::Cursor::new(text.to_vec()))),
        };
        reader.read_to_end(&mut out).await.expect("memory takes it");
        out
    }

    async fn decode(
        coding: &Coding,
        chunks: Vec<Result<Bytes, UpstreamError>>,
    ) -> Result<Vec<u8>, UpstreamError> {
        let mut out = Vec::new();
        let mut reader = decoded(futures::stream::iter(chunks).boxed(), coding);
        while reader.read_buf(&mut out).await.map_err(|e| trouble(&e))? > 0 {}
        Ok(out)
    }

    fn pieces(bytes: &[u8]) -> Vec<Result<Bytes, UpstreamError>> {
        bytes.chunks(100).map(|c| Ok(Bytes::copy_from_slice(c))).collect()
    }

    fn text() -> Vec<u8> {
        (0..2_000).flat_map(|n| format!("building line {n}\n").into_bytes()).collect()
    }

    #[tokio::test]
    async fn every_coding_is_decoded() {
        for coding in ALL {
            let encoded = encode(&coding, &text()).await;
            assert_eq!(decode(&coding, pieces(&encoded)).await, Ok(text()), "{coding:?}");
        }
    }

    #[tokio::test]
    async fn a_short_body_is_an_error_in_every_coding() {
        for coding in &ALL[1..] {
            let encoded = encode(coding, &text()).await;
            for end in [encoded.len() / 2, encoded.len() - 1] {
                let got = decode(coding, pieces(&encoded[..end])).await;
                assert!(matches!(got, Err(UpstreamError::Undecodable(_))), "{coding:?} {end}");
            }
        }
    }

    #[tokio::test]
    async fn members_are_read_to_the_last() {
        for coding in [Coding::Zstd, Coding::Gzip, Coding::Xz, Coding::Bzip2] {
            let mut encoded = encode(&coding, b"first ").await;
            encoded.extend(encode(&coding, b"second").await);
            assert_eq!(decode(&coding, pieces(&encoded)).await, Ok(b"first second".to_vec()), "{coding:?}");
        }
    }

    #[tokio::test]
    async fn a_source_that_fails_keeps_its_reason() {
        for coding in ALL {
            let mut chunks = pieces(&encode(&coding, &text()).await[..100]);
            chunks.push(Err(UpstreamError::Stalled));
            assert_eq!(decode(&coding, chunks).await, Err(UpstreamError::Stalled), "{coding:?}");
        }
    }
}
