//! The body of an upstream's answer, as bytes that must keep coming. Only waiting counts: a reader of ours that is
//! slow is not the upstream's fault.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::UpstreamError;

/// What a sender must send within one idle timeout; less is a drip that could hold a slot for hours.
const LEAST: usize = 16 * 1024;

/// Chunks, or why there are no more.
pub(crate) type Chunks = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// A body that ends in an error where it was cut, as far as HTTP shows it, or came too slowly.
pub(super) fn bytes(response: reqwest::Response, idle: Duration) -> Chunks {
    let chunks = response.bytes_stream().map(|chunk| chunk.map_err(UpstreamError::from));
    paced(chunks.boxed(), idle)
}

/// The same for chunks of any origin.
pub(crate) fn paced(chunks: Chunks, idle: Duration) -> Chunks {
    let start = Pace { chunks, idle, waited: Duration::ZERO, came: 0 };
    futures::stream::unfold(Some(start), async |pace| pace?.next().await).boxed()
}

struct Pace {
    chunks: Chunks,
    idle: Duration,
    /// Since the last time that enough had come.
    waited: Duration,
    came: usize,
}

impl Pace {
    async fn next(mut self) -> Option<(Result<Bytes, UpstreamError>, Option<Pace>)> {
        let started = Instant::now();
        let next = tokio::time::timeout(self.idle.saturating_sub(self.waited), self.chunks.next());
        let chunk = match next.await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Some((Err(error), None)),
            Ok(None) => return None,
            Err(_) => return Some((Err(UpstreamError::Stalled), None)),
        };
        self.waited += started.elapsed();
        self.came += chunk.len();
        if self.came >= LEAST {
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Some((Ok(chunk), Some(self)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    /// Chunks of `size` bytes with a pause before each, read with a pause after each. How many came, and the end.
    async fn read(size: usize, every: Duration, reader: Duration) -> (usize, Option<UpstreamError>) {
        let chunks = futures::stream::unfold(0, move |n| async move {
            tokio::time::sleep(every).await;
            (n < 100).then(|| (Ok(Bytes::from(vec![0; size])), n + 1))
        });
        let (mut body, mut came) = (paced(chunks.boxed(), IDLE), 0);
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(_) => came += 1,
                Err(error) => return (came, Some(error)),
            }
            tokio::time::sleep(reader).await;
        }
        (came, None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_a_stall() {
        let second = Duration::from_secs(1);
        assert_eq!(read(1, second, Duration::ZERO).await, (30, Some(UpstreamError::Stalled)));
        assert_eq!(
            read(LEAST, Duration::from_secs(29), Duration::ZERO).await,
            (100, None),
            "slow, not a drip"
        );
        assert_eq!(read(1, Duration::ZERO, 100 * second).await, (100, None), "the reader is slow");
        assert_eq!(
            read(LEAST, Duration::from_secs(31), Duration::ZERO).await,
            (0, Some(UpstreamError::Stalled))
        );
    }
}
