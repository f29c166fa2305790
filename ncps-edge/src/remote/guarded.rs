//! Control as the edge's parts call it: every call answers in time or fails as unavailable, and none is made while
//! control is known to be away. So nobody waits for it in vain but the first.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use ncps_proto::{
    Bearer, Code, Commit, ControlPlane, Directives, DurableEdges, Errand, Error, Heard, Location, Lookup,
    ObjectNote, Publication, Reports, Result, Turn, Upload, Victim, Warrants, Writer,
};
use tokio::sync::Semaphore;

use super::ControlPath;
use super::reach::Reach;
use crate::live::Current;
use crate::metrics::EdgeMetrics;
use ncps_runtime::tasks::Tasks;

/// How long a writer waits, who is not to be told that it worked before it is durable.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Narinfos that are asked for at once: after a break all that was near is asked for anew, and control hears that from
/// every edge.
const MOST_LOOKUPS: usize = 128;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Control behind its deadline and its breaker.
pub(crate) struct Guarded {
    plane: Arc<dyn ControlPlane>,
    deadline: Option<Duration>,
    reach: Arc<Reach>,
    lookups: Semaphore,
}

impl Guarded {
    pub(crate) fn new(
        path: ControlPath,
        current: &Arc<Current>,
        metrics: &Arc<EdgeMetrics>,
        tasks: &Tasks,
    ) -> Arc<Guarded> {
        let ControlPath { plane, deadline } = path;
        let reach = Reach::new(&plane, deadline, Arc::clone(current), Arc::clone(metrics), tasks.clone());
        Arc::new(Guarded { plane, deadline, reach, lookups: Semaphore::new(MOST_LOOKUPS) })
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.reach.guarded(within(self.deadline, call)).await
    }

    async fn patiently<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let deadline = self.deadline.map(|deadline| deadline.max(WRITE_DEADLINE));
        self.reach.guarded(within(deadline, call)).await
    }
}

pub(super) async fn within<T>(
    deadline: Option<Duration>,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = deadline else { return call.await };
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(Code::Unavailable, "control did not answer in time")),
    }
}

#[async_trait]
impl ControlPlane for Guarded {
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup> {
        // The time in the queue is not control's.
        let turn = tokio::time::timeout(PATIENCE, self.lookups.acquire()).await;
        let _turn = turn.map_err(|_| Error::new(Code::Overloaded, "too many ask control at once"))?;
        self.in_time(self.plane.narinfo(hash)).await
    }

    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo> {
        self.in_time(self.plane.publish_narinfo(publication)).await
    }

    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration> {
        self.in_time(self.plane.publish_absent(hash, heard)).await
    }

    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()> {
        self.in_time(self.plane.retract_narinfo(hash, nar)).await
    }

    async fn locate(&self, instance: &str, name: NarFileName) -> Result<Option<Location>> {
        self.in_time(self.plane.locate(instance, name)).await
    }

    async fn begin_fetch(&self, instance: &str, name: NarFileName, failed: &[String]) -> Result<Turn> {
        self.in_time(self.plane.begin_fetch(instance, name, failed)).await
    }

    async fn doubt_placement(&self, instance: &str, peer: &str, name: NarFileName) -> Result<()> {
        self.in_time(self.plane.doubt_placement(instance, peer, name)).await
    }

    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()> {
        self.in_time(self.plane.end_fetch(instance, name)).await
    }

    async fn commit_nar(&self, instance: &str, commit: Commit) -> Result<Vec<NarInfo>> {
        match commit.uploaded {
            true => self.patiently(self.plane.commit_nar(instance, commit)).await,
            false => self.in_time(self.plane.commit_nar(instance, commit)).await,
        }
    }

    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo> {
        self.patiently(self.plane.publish_upload(upload)).await
    }

    async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool> {
        self.patiently(self.plane.delete_narinfo(hash, writer)).await
    }

    async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<Vec<Victim>> {
        self.patiently(self.plane.delete_nar(name, writer)).await
    }

    async fn note_object(&self, note: ObjectNote) -> Result<()> {
        self.patiently(self.plane.note_object(note)).await
    }

    async fn warrant(&self, errand: Errand, writer: Writer) -> Result<Warrants> {
        self.in_time(self.plane.warrant(errand, writer)).await
    }

    async fn redeem(&self, bearer: Bearer, errand: Errand) -> Result<()> {
        self.in_time(self.plane.redeem(bearer, errand)).await
    }

    async fn durable_edges(&self, instance: &str) -> Result<DurableEdges> {
        self.in_time(self.plane.durable_edges(instance)).await
    }

    /// Tried whatever the breaker says: it is what is tried again in the background.
    async fn attach(&self, reports: Reports) -> Result<Directives> {
        self.reach.heard(within(self.deadline, self.plane.attach(reports))).await
    }
}
