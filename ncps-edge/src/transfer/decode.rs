//! Decoders for what NAR files are compressed with, and a stream converted on its way: what an origin without a
//! FileHash gives (Attic, niks3) is offered under its NAR hash; what was compressed anew is made again.
//!
//! Codecs are the blocking ones of their libraries; memory is bounded by their window limits.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use ncps_nix::Compression;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::encode::{Encoding, encoder};
use super::slots::Slot;
use crate::upstream::UpstreamError;

/// Memory of one xz decoder. `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 192 << 20;
/// 2^27 bytes, what `zstd -d` accepts without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes per decoded chunk, and chunks that may wait for the spool.
const CHUNK: usize = 128 * 1024;
const WAITING: usize = 4;

/// The bytes of `source`, decoded. Concatenated streams are one, as Nix reads them; what follows is an error.
pub(crate) fn decoder<'s>(
    compression: Compression,
    source: impl Read + 's,
) -> io::Result<Box<dyn Read + 's>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            Box::new(liblzma::read::XzDecoder::new_stream(source, stream.map_err(io::Error::other)?))
        }
    })
}

/// A zstd decoder that is written to. Concatenated frames are one stream.
pub(super) fn zstd_writer<W: io::Write>(sink: W) -> io::Result<zstd::stream::write::Decoder<'static, W>> {
    let mut decoder = zstd::stream::write::Decoder::new(sink)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

type Chunks = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// What becomes of a stream: it is decoded, and compressed anew where `to` says how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    pub(super) from: Compression,
    pub(super) to: Option<Encoding>,
}

impl Conversion {
    fn is_none(self) -> bool {
        self.from == Compression::None && self.to.is_none()
    }

    fn of<'s>(self, source: impl Read + 's) -> io::Result<Box<dyn Read + 's>> {
        let nar = decoder(self.from, source)?;
        match self.to {
            Some(encoding) => encoder(nar, encoding),
            None => Ok(nar),
        }
    }
}

/// A stream converted on a blocking thread. Ends in an error where the source does, or does not decode.
pub(super) fn converted(conversion: Conversion, mut source: Chunks, slots: Arc<Semaphore>) -> Chunks {
    if conversion.is_none() {
        return source;
    }
    if let Conversion { to: Some(_), from } = conversion
        && from != Compression::None
    {
        // Two threads: to decode xz takes about as long as to encode zstd.
        let nar = converted(Conversion { from, to: None }, source, Arc::clone(&slots));
        return converted(Conversion { from: Compression::None, ..conversion }, nar, slots);
    }
    let (encoded_tx, encoded_rx) = mpsc::channel(WAITING);
    let (decoded_tx, decoded_rx) = mpsc::channel(WAITING);
    let slot = Arc::new(Mutex::new(Slot::new(slots, Handle::current())));
    tokio::task::spawn_blocking(move || convert_all(conversion, encoded_rx, &decoded_tx, &slot));
    let pump = async move {
        while let Some(chunk) = source.next().await {
            // The decoder is gone where it failed or nobody reads any more.
            if encoded_tx.send(chunk).await.is_err() {
                break;
            }
        }
    };
    let pump = futures::stream::once(pump).filter_map(|()| futures::future::ready(None));
    let decoded = futures::stream::unfold(decoded_rx, |mut rx| async move { Some((rx.recv().await?, rx)) });
    // Ends when both have ended; dropped, it drops both, which ends the thread.
    futures::stream::select(pump, decoded).boxed()
}

fn convert_all(
    conversion: Conversion,
    encoded: mpsc::Receiver<Result<Bytes, UpstreamError>>,
    decoded: &mpsc::Sender<Result<Bytes, UpstreamError>>,
    slot: &Arc<Mutex<Slot>>,
) {
    let failed = Arc::new(Mutex::new(None));
    let source =
        ChannelRead { encoded, current: Bytes::new(), failed: Arc::clone(&failed), slot: Arc::clone(slot) };
    if let Err(error) = convert_into(conversion, source, decoded, slot) {
        let error = failed.lock().take().unwrap_or_else(|| UpstreamError::Undecodable(error.to_string()));
        slot.lock().wait(decoded.send(Err(error))).ok();
    }
}

fn convert_into(
    conversion: Conversion,
    source: ChannelRead,
    decoded: &mpsc::Sender<Result<Bytes, UpstreamError>>,
    slot: &Arc<Mutex<Slot>>,
) -> io::Result<()> {
    let mut converted = conversion.of(source)?;
    loop {
        let mut chunk = vec![0; CHUNK];
        slot.lock().take();
        let n = converted.read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        chunk.truncate(n);
        if slot.lock().wait(decoded.send(Ok(chunk.into()))).is_err() {
            return Ok(());
        }
    }
}

/// The encoded chunks as a reader. A failed chunk is an error, never an end.
struct ChannelRead {
    encoded: mpsc::Receiver<Result<Bytes, UpstreamError>>,
    current: Bytes,
    failed: Arc<Mutex<Option<UpstreamError>>>,
    slot: Arc<Mutex<Slot>>,
}

impl Read for ChannelRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let mut slot = self.slot.lock();
            match slot.wait(self.encoded.recv()) {
                Some(Ok(chunk)) => self.current = chunk,
                None => return Ok(0),
                Some(Err(error)) => {
                    *self.failed.lock() = Some(error);
                    return Err(io::Error::other("the source failed"));
                }
            }
            slot.take();
        }
        let n = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn encoded(bytes: &[u8]) -> Bytes {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.write_all(bytes).expect("encoded");
        encoder.finish().expect("encoded").into()
    }

    async fn run(source: Vec<Result<Bytes, UpstreamError>>) -> Result<Vec<u8>, UpstreamError> {
        let source = futures::stream::iter(source).boxed();
        let conversion = Conversion { from: Compression::Zstd, to: None };
        let mut chunks = converted(conversion, source, Arc::new(Semaphore::new(1)));
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_stream_is_decoded_across_chunk_borders() {
        let bytes: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
        let source = encoded(&bytes).chunks(777).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        assert_eq!(run(source).await, Ok(bytes));
    }

    #[tokio::test]
    async fn a_source_that_fails_is_not_an_end() {
        let half = encoded(&[7; 100_000]).slice(..10);
        let failed = run(vec![Ok(half), Err(UpstreamError::Stalled)]).await;
        assert_eq!(failed, Err(UpstreamError::Stalled));
    }

    #[tokio::test]
    async fn a_source_that_ends_early_does_not_decode() {
        let half = encoded(&[7; 100_000]).slice(..10);
        let failed = run(vec![Ok(half)]).await;
        assert!(matches!(failed, Err(UpstreamError::Undecodable(_))), "{failed:?}");
    }
}
