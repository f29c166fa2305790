//! The one task that writes: batches of what waits, until the process ends.
//!
//! A batch that fails is logged and tried again, later and later; nothing that waits is given up before the
//! process is. Accesses go with a batch when it is their time. Absent: any decision about what to write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ncps_runtime::clock::Clock;
use ncps_runtime::fault::{self, Point};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::overlay::Overlay;
use super::pace::Pace;
use crate::db::Db;
use crate::journal::Journal;
use crate::metrics::{ControlMetrics, Written};

/// Large enough that a burst costs few transactions, small enough that a reader of the write-ahead log
/// never waits long for a checkpoint.
const BATCH: usize = 512;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Below the lifecycle's last moment, so that what could not be written is still said.
const LAST_FLUSH: Duration = Duration::from_secs(4);
/// Accesses in a batch at the end, when nobody else waits for the disk.
const LAST_ACCESSES: usize = 5_000;

pub(super) struct Writer {
    pub(super) overlay: Arc<Overlay>,
    pub(super) journal: Arc<Journal>,
    pub(super) db: Db,
    pub(super) clock: Arc<dyn Clock>,
    /// Write what is left, then end.
    pub(super) stop: CancellationToken,
    pub(super) metrics: Arc<ControlMetrics>,
    pub(super) pace: Mutex<Pace>,
}

impl Writer {
    /// Writes until told to stop, then what is left, and closes the database.
    pub(super) async fn run(self) {
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.overlay.dirty.notified() => self.flush_patiently().await,
                () = self.journal.dirty.notified() => self.flush_patiently().await,
                () = self.accesses_due() => self.flush_patiently().await,
                () = self.stop.cancelled() => {}
            }
        }
        if tokio::time::timeout(LAST_FLUSH, self.flush_hastily()).await.is_err() {
            let (lost, accesses) = (self.overlay.waiting(), self.overlay.accesses());
            tracing::error!(lost, accesses, "the index could not be written before the end");
        }
        self.db.close().await;
    }

    /// Waits until there are accesses, and it is their time.
    async fn accesses_due(&self) {
        while self.overlay.accesses() == 0 {
            self.overlay.read.notified().await;
        }
        let next = self.pace.lock().next();
        tokio::time::sleep_until(next).await;
    }

    /// How many accesses go with the next batch.
    fn accesses(&self) -> usize {
        if self.stop.is_cancelled() {
            return LAST_ACCESSES;
        }
        self.pace.lock().take(tokio::time::Instant::now())
    }

    /// Tries until all is written or the end has come. A write that began is waited for.
    async fn flush_patiently(&self) {
        let mut retry = FIRST_RETRY;
        while !self.flush().await {
            tokio::select! {
                () = tokio::time::sleep(retry) => retry = (retry * 2).min(LAST_RETRY),
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn flush_hastily(&self) {
        while !self.flush().await {
            tokio::time::sleep(FIRST_RETRY).await;
        }
    }

    /// Writes batches until nothing waits but accesses; false where one failed.
    async fn flush(&self) -> bool {
        loop {
            let mut taken = self.overlay.take(BATCH, self.accesses());
            taken.batch.events = self.journal.waiting(BATCH);
            if taken.batch.is_empty() {
                return true;
            }
            let started = Instant::now();
            let written = self.db.write(&taken.batch, self.clock.now()).await;
            self.metrics.batch_duration.record((), started.elapsed().as_secs_f64());
            if let Err(error) = written {
                self.metrics.batches.inc(Written::Failed);
                let story = ncps_proto::Error::from(error).story();
                let waiting = self.overlay.waiting();
                tracing::error!(error = story, waiting, "the index can't be written, trying again");
                self.overlay.put_back(taken);
                self.pace.lock().again(tokio::time::Instant::now());
                return false;
            }
            self.metrics.batches.inc(Written::Written);
            self.metrics.rows.add((), taken.batch.len() as u64);
            tracing::trace!(rows = taken.batch.len(), "batch written");
            fault::point(Point::RowsWritten);
            self.overlay.settle(&taken);
            if let Some(bounds) = self.journal.settle(taken.batch.events.len())
                && let Err(error) = self.db.trim_journal(bounds).await
            {
                tracing::warn!(error = ncps_proto::Error::from(error).story(), "history can't be cut");
            }
        }
    }
}
