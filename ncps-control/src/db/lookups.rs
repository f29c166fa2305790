//! Who reads when: lookups, one after the other on a few connections, each with a thread of its own for as long as any
//! wait. So a lookup is handed over once, and under load not even that wakes a thread.
//!
//! Bounded: past [`MOST`] a lookup is refused. One that nobody waits for any more is left out.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::reader::Reader;
use super::{DbError, Result};

/// Connections: lookups that wait for the disk leave others the processor.
const CONNECTIONS: usize = 4;
/// Lookups that may wait.
const MOST: usize = 4096;

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

#[derive(Default)]
struct Desk {
    idle: Vec<Reader>,
    waiting: VecDeque<Job>,
    closed: bool,
}

/// Every connection of lookups.
pub(super) struct Lookups {
    desk: Mutex<Desk>,
    /// How many connections there are.
    open: watch::Sender<usize>,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

impl Lookups {
    pub(super) fn open(path: &Path, patience: Duration) -> rusqlite::Result<Arc<Lookups>> {
        let readers = (0..CONNECTIONS).map(|_| Reader::open(path, patience));
        let desk = Desk { idle: readers.collect::<rusqlite::Result<_>>()?, ..Desk::default() };
        Ok(Arc::new(Lookups { desk: Mutex::new(desk), open: watch::Sender::new(CONNECTIONS) }))
    }

    /// Has a connection read something. Where nobody waits for the answer before its turn comes, it is not read.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&mut Reader) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Box::new(move |reader| {
            if !answer.is_closed() {
                answer.send(read(reader)).ok();
            }
        }))?;
        answered.await.map_err(|_| DbError::Turned("a lookup failed"))
    }

    fn hand_over(self: &Arc<Self>, job: Job) -> Result<()> {
        let reader = {
            let mut desk = self.desk.lock();
            if desk.closed {
                return Err(DbError::Turned("the index is closed"));
            }
            let Some(reader) = desk.idle.pop() else {
                if desk.waiting.len() >= MOST {
                    return Err(DbError::Turned("too many lookups wait"));
                }
                desk.waiting.push_back(job);
                return Ok(());
            };
            reader
        };
        let lookups = Arc::clone(self);
        tokio::task::spawn_blocking(move || At { lookups, reader: Some(reader) }.work(job));
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        self.desk.lock().waiting.pop_front()
    }

    /// The connection rests, unless somebody has come meanwhile: then it goes on with that.
    fn put_back(&self, mut reader: Reader) -> Option<(Reader, Job)> {
        reader.rest();
        let mut desk = self.desk.lock();
        if let Some(job) = desk.waiting.pop_front() {
            return Some((reader, job));
        }
        if desk.closed {
            drop(reader);
            self.open.send_modify(|open| *open -= 1);
        } else {
            desk.idle.push(reader);
        }
        None
    }

    /// Closes every connection, after what waits.
    pub(super) async fn close(&self) {
        let idle = {
            let mut desk = self.desk.lock();
            desk.closed = true;
            std::mem::take(&mut desk.idle)
        };
        self.open.send_modify(|open| *open -= idle.len());
        drop(idle);
        // The sender is here: it can't be gone.
        self.open.subscribe().wait_for(|open| *open == 0).await.ok();
    }
}

/// A connection at work.
struct At {
    lookups: Arc<Lookups>,
    reader: Option<Reader>,
}

impl At {
    fn work(mut self, first: Job) {
        let mut next = Some(first);
        while let (Some(job), Some(reader)) = (next.take(), &mut self.reader) {
            job(reader);
            next = self.lookups.next();
        }
    }
}

/// Also where a lookup panics: its connection is sound.
impl Drop for At {
    fn drop(&mut self) {
        let Some((reader, job)) = self.reader.take().and_then(|reader| self.lookups.put_back(reader)) else {
            return;
        };
        let lookups = Arc::clone(&self.lookups);
        tokio::task::spawn_blocking(move || At { lookups, reader: Some(reader) }.work(job));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ncps_runtime::clock::UnixTime;

    use super::*;
    use crate::db::Db;

    async fn lookups(folder: &tempfile::TempDir) -> Arc<Lookups> {
        let path = folder.path().join("db.sqlite");
        Db::open(&path, UnixTime(1)).await.expect("opens").close().await;
        Lookups::open(&path, Duration::from_secs(1)).expect("opens")
    }

    /// Keeps every connection busy until the senders are gone.
    fn busy(lookups: &Arc<Lookups>) -> Vec<mpsc::Sender<()>> {
        let hold = |_| {
            let (sender, held) = mpsc::channel::<()>();
            lookups
                .hand_over(Box::new(move |_| {
                    held.recv().ok();
                }))
                .expect("room");
            sender
        };
        (0..CONNECTIONS).map(hold).collect()
    }

    #[tokio::test]
    async fn past_the_limit_a_lookup_is_refused_and_those_that_wait_are_answered() {
        let folder = tempfile::tempdir().expect("a directory");
        let lookups = lookups(&folder).await;
        let held = busy(&lookups);
        let mut waiting: Vec<_> = (0..MOST).map(|n| Box::pin(lookups.read(move |_| n))).collect();
        for read in &mut waiting {
            assert!(futures::poll!(read).is_pending());
        }
        assert!(matches!(lookups.read(|_| ()).await, Err(DbError::Turned(_))));
        drop(held);
        let answers = futures::future::join_all(waiting).await;
        assert!(answers.into_iter().map(|answer| answer.expect("an answer")).eq(0..MOST));
        lookups.close().await;
        assert!(matches!(lookups.read(|_| ()).await, Err(DbError::Turned(_))));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_read_and_a_panic_costs_no_connection() {
        let folder = tempfile::tempdir().expect("a directory");
        let lookups = lookups(&folder).await;
        let held = busy(&lookups);
        let (was_read, read) = mpsc::channel();
        let mut left = Box::pin(lookups.read(move |_| was_read.send(()).expect("heard")));
        assert!(futures::poll!(&mut left).is_pending());
        drop(left);
        drop(held);
        for _ in 0..2 * CONNECTIONS {
            assert!(lookups.read(|_| panic!("a row like no other")).await.is_err());
        }
        assert!(lookups.read(|_| true).await.expect("a connection"));
        lookups.close().await;
        assert!(read.recv().is_err(), "it was dropped unread");
    }
}
