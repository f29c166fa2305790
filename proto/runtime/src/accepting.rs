//! New connections, taken one after the other for as long as somebody asks for them. When the system has none to give,
//! as where the process is out of file descriptors, it is asked again after a pause: an error would end the server, and
//! without the pause a processor would do nothing but ask. It is said now and then.
//!
//! Absent: listening, which connections have a place, and TLS.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A moment may bring a file descriptor back.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two lines of the log about it.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Asks on, whatever the system answers.
#[derive(Debug, Default)]
pub struct Accepting {
    /// The last line of the log about it.
    said: Option<Instant>,
}

impl Accepting {
    /// What `accept` gives in the end.
    pub async fn next<T, F>(&mut self, mut accept: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(accepted) => return accepted,
                // Whoever it was has gone again: the next one is not to wait for that.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.say(&error);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn say(&mut self, error: &io::Error) {
        if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            tracing::warn!(%error, "connections can't be accepted, which is tried again");
            self.said = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a process that is out of file descriptors.
    fn out_of_files() -> io::Error {
        io::Error::from_raw_os_error(24)
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_after_a_pause_and_said_now_and_then() {
        let (mut accepting, mut tries, start) = (Accepting::default(), 0, Instant::now());
        let accepted = accepting
            .next(|| {
                tries += 1;
                std::future::ready(if tries > 10 { Ok(tries) } else { Err(out_of_files()) })
            })
            .await;
        assert_eq!((accepted, start.elapsed()), (11, 10 * PAUSE));
        assert_eq!(accepting.said, Some(start), "said at the first failure, and not again");
        sleep(SAID_EVERY).await;
        let mut failures = vec![out_of_files()];
        accepting.next(|| std::future::ready(failures.pop().map_or(Ok(()), Err))).await;
        assert!(accepting.said > Some(start), "said again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_again_keeps_nobody_waiting() {
        let start = Instant::now();
        let mut gone: Vec<_> = (0..1000).map(|_| io::Error::from(ErrorKind::ConnectionAborted)).collect();
        Accepting::default().next(|| std::future::ready(gone.pop().map_or(Ok(()), Err))).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
