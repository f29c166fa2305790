//! Which stored files are to be looked at, one after the other, and none again for a while.
//!
//! Forgotten with the process: a file that is read again comes in again. Absent: whether there is anything to do.

use std::collections::VecDeque;
use std::time::Duration;

use ncps_nix::{Compression, NarFileName};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Files that may wait; past it they wait until they are read.
const MOST: usize = 100_000;
/// Files of which it is remembered when they were looked at.
const REMEMBERED: usize = 200_000;
/// How long that counts: another path may name a file by then, or control be back.
const FOR: Duration = Duration::from_secs(60);

/// Files that wait for the workers.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<NarFileName>>,
    /// When they were looked at; `None`: there is nothing to do about them, ever.
    seen: Cache<NarFileName, Option<Instant>>,
    more: Notify,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { waiting: Mutex::default(), seen: Cache::new(REMEMBERED), more: Notify::new() }
    }
}

impl Queue {
    /// A file came into the store, or is read from it.
    pub(crate) fn offer(&self, name: NarFileName) {
        if name.compression == Compression::Zstd || self.was_seen(name) {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST {
            self.seen.insert(name, Some(Instant::now()));
            waiting.push_back(name);
            drop(waiting);
            self.more.notify_one();
        }
    }

    fn was_seen(&self, name: NarFileName) -> bool {
        self.seen.get(&name).is_some_and(|at| at.is_none_or(|at| at.elapsed() < FOR))
    }

    /// It is not to be looked at again.
    pub(super) fn settle(&self, name: NarFileName) {
        self.seen.insert(name, None);
    }

    /// It is to be looked at again as soon as it is read.
    pub(crate) fn forget(&self, name: NarFileName) {
        self.seen.remove(&name);
    }

    /// The next file.
    pub(super) async fn next(&self) -> NarFileName {
        loop {
            let more = self.more.notified();
            if let Some(name) = self.waiting.lock().pop_front() {
                // There may be more, and others who wait.
                self.more.notify_one();
                return name;
            }
            more.await;
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{FileHash, Sha256Hash};

    use super::*;

    fn name(text: &str, compression: Compression) -> NarFileName {
        NarFileName { hash: FileHash(Sha256Hash::of(text.as_bytes())), compression }
    }

    #[tokio::test(start_paused = true)]
    async fn each_file_comes_once_in_a_while_and_zstd_never() {
        let queue = Queue::default();
        let (a, b) = (name("a", Compression::Xz), name("b", Compression::None));
        for name in [a, name("c", Compression::Zstd), b, a] {
            queue.offer(name);
        }
        assert_eq!((queue.next().await, queue.next().await, queue.len()), (a, b, 0));
        queue.offer(a);
        assert_eq!(queue.len(), 0, "it was looked at");
        queue.forget(a);
        queue.offer(a);
        assert_eq!(queue.next().await, a);
        queue.settle(b);
        tokio::time::advance(FOR).await;
        queue.offer(a);
        queue.offer(b);
        assert_eq!((queue.next().await, queue.len()), (a, 0));
    }

    #[tokio::test]
    async fn who_waits_gets_what_comes() {
        let queue = std::sync::Arc::new(Queue::default());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let queue = std::sync::Arc::clone(&queue);
                    async move { queue.next().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        for text in ["a", "b", "c"] {
            queue.offer(name(text, Compression::Xz));
        }
        for waiter in waiting {
            waiter.await.expect("one for each");
        }
    }
}
